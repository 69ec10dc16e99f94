"""A MONAI-centric 3-D imaging toolkit for bone."""

__version__ = "0.1.0"
