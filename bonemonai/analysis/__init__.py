"""Masks become numbers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": ["calibration_table", "expected_calibration_error", "fit_temperature"],
        "classification_scores": [
            "classes_of",
            "confusion",
            "logits_and_labels",
            "patient_decisions",
            "score_predictions",
        ],
        "classification_results": [
            "calibrate_weights",
            "clear_results",
            "pool_folds",
            "read_predictions",
            "write_classification_results",
        ],
        "gradcam": ["gradcam_maps", "share_on_mask", "summarise_gradcam", "write_gradcam"],
        "lacuna_table": ["LacunaSummary", "measure_lacunae", "summarise_lacunae"],
        "overlap": ["Overlap", "measure_overlap"],
        "threshold_baseline": ["ThresholdBaseline", "best_threshold", "score_thresholds"],
    },
)
