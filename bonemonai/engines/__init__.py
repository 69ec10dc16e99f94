"""What MONAI's and Ignite's engines need around them: checks, handlers, weights, provenance."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bundle_root": ["find_bundle_root"],
        "cross_validation": ["CrossValidation"],
        "evaluation_matrix": ["EvaluationMatrix"],
        "inference_plan": ["plan_inference"],
        "learning_rate_plans": ["constant_then_linear", "inverse_decay"],
        "central_slices": ["choose_central_slices"],
        "lumbar_multitask": ["LumbarMultitask"],
        "lumbar_screening": ["LumbarScreening"],
        "multitask_criterion": ["MultitaskCriterion"],
        "multitask_score": ["MultitaskScore", "further_multitask_scores"],
        "pair_gradcam": ["pair_gradcam"],
        "pair_batch": ["PairTraining", "prepare_pairs"],
        "parameter_sweep": ["ParameterSweep"],
        "patient_decision": ["PatientDecision", "decide"],
        "predicted_masks": ["write_predicted_masks"],
        "provenance": ["provenance"],
        "random_states": ["random_states", "restore_random_states"],
        "resumable_training": ["ResumableTraining"],
        "run_check": ["check_choice", "check_overrides", "check_run"],
        "scan_screening": ["ScanScreening", "ScreenedScan"],
        "streaming_evaluator": ["StreamingEvaluator"],
        "learning_curve": ["LearningCurve"],
        "prediction_table": ["PredictionTable"],
        "finite_loss": ["FiniteLoss"],
        "training_record": ["TrainingRecord"],
        "weights": [
            "SaveBestWeights",
            "SaveLastWeights",
            "add_to_card",
            "load_weights",
            "require_card",
            "stored_option",
            "weights_card",
        ],
    },
)
