"""Losses that MONAI lacks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "grey_reconstruction_loss": ["GreyReconstructionLoss"],
        "mask_guided_attention_loss": ["MaskGuidedAttentionLoss"],
        "masked_dice_focal": ["MaskedDiceFocalLoss"],
        "multitask_loss": ["MultitaskLoss", "MultitaskValue", "UncertaintyWeights"],
        "weighted_l1": ["WeightedL1Loss"],
        "yolo_loss": ["YoloLoss", "YoloTerms"],
    },
)
