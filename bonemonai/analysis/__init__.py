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
        "damage_gradcam": ["clear_damage_gradcam", "summarise_damage_gradcam", "write_damage_gradcam"],
        "damage_scores": [
            "DAMAGE_METRICS",
            "clear_damage_results",
            "detection_band",
            "detection_limits",
            "pool_damage_folds",
            "read_damage_predictions",
            "score_damage",
            "write_damage_results",
        ],
        "damage_sweep": ["write_sweep_table"],
        "gradcam": ["gradcam_maps", "share_on_mask", "summarise_gradcam", "write_gradcam"],
        "lacuna_table": ["LacunaSummary", "measure_lacunae", "summarise_lacunae"],
        "overlap": ["Overlap", "measure_overlap"],
        "threshold_baseline": ["ThresholdBaseline", "best_threshold", "score_thresholds"],
    },
)
