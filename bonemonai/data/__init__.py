"""Bytes on disk become lazy volumes, data sets and manifests, and volumes become bytes again."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cached_patch_dataset": ["CachedPatchDataset"],
        "damage_folds": ["CLASSES", "count_damage_folds", "describe_fold", "read_damage_fold", "slice_size"],
        "data_card": ["describe_training_data", "read_data_card", "refuse_trained_on"],
        "fingerprint": ["fingerprint"],
        "json_file": ["read_json", "write_json"],
        "labels": ["labelled_items", "predicted_by", "refuse_predicted", "truth_items"],
        "histogram": ["StreamingHistogram", "volume_histogram"],
        "inspection": ["dump_volume", "inspect_volume"],
        "manifest": ["manifest_items", "read_manifest", "write_manifest"],
        "manifest_builder": ["build_manifest"],
        "nifti_writer": ["NiftiWriter"],
        "ome_zarr_store": ["OmeZarrStore"],
        "ome_zarr_writer": ["OmeZarrWriter"],
        "pixel_digest": ["pixel_digest", "refuse_shared_pixels"],
        "plane_dataset": ["PlaneDataset"],
        "prepared_volume": ["PreparedVolume"],
        "scan_dataset": ["Scan", "ScanDataset"],
        "scan_preparation": ["ScanPreparation", "refuse_other_preparation"],
        "slice_dataset": ["SliceDataset", "every_nth_slice"],
        "slice_selection": ["intensity_artefact", "relative_planes", "select_slices"],
        "selected_planes": ["SelectedPlanes"],
        "split_manifest": ["split_manifest"],
        "splits": [
            "count_folds",
            "leave_one_patient_per_class_out",
            "mixed_deal",
            "ordered_pairs",
            "read_fold",
            "split_by_ratio",
            "split_k_fold",
        ],
        "tiff_stack_writer": ["TiffStackWriter"],
        "volume": ["Volume", "open_volume"],
        "volume_reader": ["VolumeReader"],
    },
)
