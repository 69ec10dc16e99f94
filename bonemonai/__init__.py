"""A MONAI-centric 3-D imaging toolkit for bone."""

import lazy_loader

__version__ = "0.1.0"

# folders are imported when they are first used: help and inspect must not wait for torch
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "analysis",
        "data",
        "engines",
        "inferers",
        "losses",
        "networks",
        "phantoms",
        "report",
        "sharing",
        "transforms",
    ],
)
