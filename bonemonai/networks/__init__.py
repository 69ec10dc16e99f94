"""Networks that MONAI and torchvision lack."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"lacuna_unet": ["LacunaUNet", "stored_width"]}
)
