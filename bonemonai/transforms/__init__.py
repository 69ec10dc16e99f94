"""MONAI transforms for bone, array and dictionary."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "balanced_mixup": ["BalancedMixUp", "BalancedMixUpLoader", "Mixed"],
        "binary_mask": ["BinaryMask", "BinaryMaskd"],
        "bone_mask": ["BoneMask", "BoneMaskd", "bone_threshold"],
        "bone_patches": ["SampleBonePatches", "SampleBonePatchesd", "bone_patch_corners"],
        "fit_plane": ["FitPlane", "FitPlaned"],
        "gaussian_boundary_heatmap": [
            "GaussianBoundaryHeatmap",
            "GaussianBoundaryHeatmapd",
            "boundary_heatmap",
            "boundary_pixels",
        ],
        "level_set_refinement": [
            "Evolution",
            "LevelSetEnergy",
            "LevelSetRefinement",
            "LevelSetRefinementd",
            "LevelSetWeights",
            "between_class_variance",
            "edge_indicator",
            "evolve",
            "grey_range_sign",
        ],
        "load_axial_pair": ["LoadAxialPaird"],
        "load_axial_slice": ["LoadAxialSliced"],
        "marked_crop": ["MarkedCrop", "MarkedCropd", "find_mark"],
        "outlined_region": ["OutlinedRegion", "OutlinedRegiond"],
        "saturate_intensity": ["SaturateIntensity", "SaturateIntensityd"],
        "vertebra_boxes": ["VertebraBoxesd", "mask_boxes"],
    },
)
