"""Networks that MONAI lacks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "alexnet": ["AlexNet"],
        "bcc_net": ["BCCNet"],
        "bone_classifier": ["BoneClassifier"],
        "boundary_unet": ["BoundaryPrediction", "BoundaryUNet"],
        "checkpointing": ["run_checkpointed"],
        "damage_cnn": ["DamageCNN"],
        "darknet53": ["DarkNet53"],
        "gated_channels": ["GatedChannels"],
        "imagenet_weights": ["with_imagenet_weights"],
        "lacuna_unet": ["LacunaUNet", "stored_width"],
        "mask_guided_attention": ["GuidedFeatures", "MaskGuidedAttention"],
        "mask_guided_vgg16": ["MaskGuidedPrediction", "MaskGuidedVGG16"],
        "ms_net": ["MSNet"],
        "multitask_logits": ["MultitaskLogits"],
        "multitask_network": ["PARTS", "MultitaskNetwork", "MultitaskPrediction"],
        "pair_classifier": ["PairClassifier"],
        "patch_classifier": ["PatchClassifier"],
        "torchvision_models": ["import_torchvision_models", "torchvision_classifier"],
        "transfer_densenet121": ["TransferDenseNet121"],
        "transfer_resnet50": ["TransferResNet50"],
        "triplanar_classifier": ["TriplanarClassifier"],
        "vertebra_crop": ["crop_at", "crop_corners"],
        "vertebra_fusion": ["FusedPrediction", "VertebraFusion"],
        "vgg16": ["VGG16", "stored_vgg16_width"],
        "vgg16_unet": ["VGG16UNet"],
        "yolo_detections": ["BestBoxes", "Detections", "best_boxes", "select_detections"],
        "yolo_v3": ["DecodedBoxes", "YOLOv3"],
    },
)
