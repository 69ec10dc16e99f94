"""What MONAI's and Ignite's engines need around them: checks, handlers, weights, provenance."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bundle_root": ["find_bundle_root"],
        "inference_plan": ["plan_inference"],
        "provenance": ["provenance"],
        "run_check": ["check_overrides", "check_run"],
        "streaming_evaluator": ["StreamingEvaluator"],
        "weights": ["SaveBestWeights", "load_weights", "weights_card"],
    },
)
