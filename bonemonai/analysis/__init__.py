"""Masks become numbers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "lacuna_table": ["LacunaSummary", "measure_lacunae", "summarise_lacunae"],
        "overlap": ["Overlap", "measure_overlap"],
        "threshold_baseline": ["ThresholdBaseline", "best_threshold", "score_thresholds"],
    },
)
