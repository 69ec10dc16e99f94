"""Streaming inference: exact tiles or blended windows over scans of any size, resumable, by one process or many."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "allocator": ["allocator_is_tuned", "tune_allocator"],
        "outputs": ["ItemOutput", "LabelOutput", "Output", "ProbabilityOutput", "ValueOutput"],
        "patch_output": ["PatchProbabilityOutput", "read_patch_probabilities"],
        "overlap_sweep": ["OverlapSweep"],
        "plan": ["StreamPlan"],
        "ranks": ["join_ranks", "local_device", "rank", "world_size"],
        "receptive_field": ["ReceptiveField", "check_tiles", "probe_receptive_field"],
        "result_writer": ["ResultWriter"],
        "streaming_inferer": ["StreamingInferer"],
    },
)
