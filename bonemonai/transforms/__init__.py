"""MONAI transforms for bone, array and dictionary."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bone_mask": ["BoneMask", "BoneMaskd", "bone_threshold"],
        "bone_patches": ["SampleBonePatches", "SampleBonePatchesd", "bone_patch_corners"],
        "fit_plane": ["FitPlane", "FitPlaned"],
        "load_axial_slice": ["LoadAxialSliced"],
        "marked_crop": ["MarkedCrop", "MarkedCropd", "find_mark"],
        "saturate_intensity": ["SaturateIntensity", "SaturateIntensityd"],
    },
)
