"""Figures, tables and the HTML report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attention_report": ["write_attention_report"],
        "damage_report": ["write_damage_report"],
        "figures": ["overlay_figure", "volume_figure"],
        "lacuna_report": ["write_lacuna_report"],
        "multitask_report": ["write_multitask_report"],
        "resolution_report": ["write_resolution_report"],
        "screening_page": ["write_screening_page"],
        "screening_report": ["write_screening_report"],
    },
)
