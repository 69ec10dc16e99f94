"""Bytes on disk become lazy volumes, data sets and manifests, and volumes become bytes again."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cached_patch_dataset": ["CachedPatchDataset"],
        "data_card": ["describe_training_data", "read_data_card"],
        "fingerprint": ["fingerprint"],
        "histogram": ["StreamingHistogram", "volume_histogram"],
        "inspection": ["dump_volume", "inspect_volume"],
        "manifest": ["manifest_items", "read_manifest", "write_manifest"],
        "nifti_writer": ["NiftiWriter"],
        "ome_zarr_store": ["OmeZarrStore"],
        "ome_zarr_writer": ["OmeZarrWriter"],
        "plane_dataset": ["PlaneDataset"],
        "prepared_volume": ["PreparedVolume"],
        "scan_dataset": ["Scan", "ScanDataset"],
        "splits": ["leave_one_patient_per_class_out", "split_by_ratio", "split_k_fold"],
        "tiff_stack_writer": ["TiffStackWriter"],
        "volume": ["Volume", "open_volume"],
        "volume_reader": ["VolumeReader"],
    },
)
