"""Every bundle passes: tests/bundle_contract.py with what is special to each of the project's own."""

from __future__ import annotations

from typing import Any

import pytest

from bonemonai.sharing import new_bundle
from tests.bundle_case import BundleCase, Network, Workflow
from tests.bundle_contract import BundleContract
from tests.conftest import ROOT

BUNDLES = ROOT / "bundles"
SCAN = {"dataset_dir": "{scan}", "checkpoint": "{work}/model.pt", "output_dir": "{work}/out"}
ANCHORS = [[12 + n, 8 + n] for n in range(9)]


def femur() -> BundleCase:
    segment = {"dataset_dir": "{study}", "checkpoint": "{work}/model.pt", "width": 2}
    classify = {
        "dataset_dir": "{study}", "manifest_path": "{study}/manifest_masks.csv", "checkpoint": "{work}/classifier.pt",
        "width": 2, "patch_input_size": 64, "bone_fraction": 0.5, "patches_per_plane": 2,
    }  # fmt: skip
    both = {**SCAN, "classifier_checkpoint": "{work}/classifier.pt", "output_dir": "{work}/both"}
    classification = ("train_classification", "smoke_classification")
    return BundleCase(
        BUNDLES / "femur_srmct_osteoporosis_mga",
        study="study",
        scan="*/image",
        workflows=(
            Workflow(("train_segmentation", "smoke"), {**segment, "max_epochs": 1, "plane_step": 2}, "train"),
            Workflow(("train_segmentation", "smoke", "evaluate"), {**segment, "output_dir": "{work}/scored"}),
            Workflow(("inference",), SCAN, "inference"),
            Workflow(
                ("inference", "pseudo_label", "predict_masks"),
                {"manifest_path": "{study}/manifest.csv", "checkpoint": "{work}/model.pt"},
            ),
            Workflow(classification, {**classify, "max_epochs": 1}, "train"),
            Workflow((*classification, "evaluate_classification"), {**classify, "output_dir": "{work}/decided"}),
            Workflow(("inference", "classify"), both),
        ),
        networks=(
            Network("lacunae", (1, 1, 64, 48), 2, weights="models/model.pt", stride=4),
            Network(
                "classifier", (1, 2, 55, 55), 2, "classifier#network", ("inference", "classify"),
                options={"classifier_width": 2, "patch_input_size": 64}, checkpoint="classifier_checkpoint", stride=1,
                traced_since="MaskGuidedPrediction but false branch has type Tensor",
            ),
        ),
        verified={"net_id": "network_def", "any": 56, "width": 2},
    )  # fmt: skip


def damage() -> BundleCase:
    small: dict[str, Any] = {"width": 2, "image_size": 24, "layers": 2}
    train = {"dataset_dir": "{study}", "manifest_path": "{study}/slices.csv", "checkpoint": "{work}/model.pt", **small}
    cube = Network("map", (1, 1, 24, 24, 24), 4, options=small)
    return BundleCase(
        BUNDLES / "bone_srmct_damage_classification",
        study="loaded_bone",
        scan="*.ome.zarr",
        workflows=(
            Workflow(("train", "smoke"), {**train, "max_epochs": 1}, "train"),
            Workflow(("train", "smoke", "evaluate"), {**train, "output_dir": "{work}/scored"}),
            Workflow(("inference",), SCAN, "inference"),
        ),
        networks=(
            Network("damage", (1, 1, 200, 200), 2, "classifier_def", options={**small, "image_size": 200}),
            Network(
                "resnet50", (1, 1, 96, 64), 2, "classifier_def", ("inference", "inference_resnet50"),
                options={"width": 2}, stride=32, least=64,
            ),
        ),
        verified={"net_id": "network_def", "any": 12, "width": 2, "image_size": 16},
        beyond_export=(cube,),
    )  # fmt: skip


def screening() -> BundleCase:
    segment = {"dataset_dir": "{study}", "checkpoint": "{work}/segmentation.pt", "width": 2, "layers": 7}
    classify = {"dataset_dir": "{study}", "checkpoint": "{work}/model.pt", "crop_size": 48, "image_size": 128}
    screen = {**SCAN, "segmentation": "{work}/segmentation.pt"}
    return BundleCase(
        BUNDLES / "lumbar_ct_osteoporosis_screening",
        study="lumbar_study",
        scan="*/dicom",
        workflows=(
            Workflow(("train_segmentation", "smoke"), {**segment, "constant_epochs": 1, "decay_epochs": 0}, "train"),
            Workflow(("train_classification", "smoke_classification"), {**classify, "max_epochs": 1}, "train"),
            Workflow(
                ("inference", "evaluate"),
                {**screen, "dataset_dir": "{study}/manifest.csv", "copies": 0, "output_dir": "{work}/scored"},
            ),
            Workflow(("inference",), screen, "inference"),
        ),
        networks=(
            Network("condition", (1, 1, 224, 224), 3, weights="models/model.pt", stride=32, least=64),
            Network(
                "mark", (1, 1, 768, 512), 1, "segmentation_def", weights="models/segmentation.pt",
                checkpoint="segmentation", stride=256, least=512,
            ),
        ),
        verified={"net_id": "network_def"},
    )  # fmt: skip


def multitask() -> BundleCase:
    small: dict[str, Any] = {
        "locator_width": 1, "segmenter_width": 1, "classifier_width": 1, "layers": [1, 1, 1, 1], "crop_size": 64,
    }  # fmt: skip
    train = {
        "dataset_dir": "{study}", "checkpoint": "{work}/model.pt", **small, "image_size": 128, "pixel_mm": None,
        "anchors": ANCHORS, "slices_per_level": 1, "background": 0, "score_threshold": 0.0,
    }  # fmt: skip
    short = {"max_epochs": 1, "decay_epochs": 0, "locator_epochs": 0, "segmenter_epochs": 0}
    baseline = {"dataset_dir": "{study}", "checkpoint": "{work}/baseline.pt"}
    shufflenet = ("train_baseline", "shufflenet", "smoke_baseline")
    return BundleCase(
        BUNDLES / "lumbar_ct_osteoporosis_multitask",
        study="lumbar_study",
        scan="*/dicom",
        workflows=(
            Workflow(("train", "smoke"), {**train, **short}, "train"),
            Workflow(
                ("inference", "evaluate"),
                {**SCAN, "dataset_dir": "{study}/manifest.csv", "output_dir": "{work}/scored"},
            ),
            Workflow(("inference",), SCAN, "inference"),
            Workflow(shufflenet, {**baseline, "max_epochs": 1}, "train"),
            Workflow((*shufflenet, "evaluate_baseline"), {**baseline, "output_dir": "{work}/baseline"}),
        ),
        networks=(
            Network(
                "multitask",
                (1, 2, 1, 128, 160),
                3,
                weights="models/model.pt",
                stride=32,
                least=64,
                traced_since="keyword-only arguments",
            ),
        ),
        # MONAI's check wants one tensor
        verified={"net_id": "logits_def", **small},
    )  # fmt: skip


def super_resolution() -> BundleCase:
    model = {"dataset_dir": "{study}", "checkpoint": "{work}/model.pt"}
    small = {"features": [2, 2, 2, 2, 2, 2], "patch_size": 48, "max_epochs": 1}
    return BundleCase(
        BUNDLES / "microct_super_resolution",
        study="murine_study",
        scan="*/lr_1.aim",
        workflows=(
            Workflow(("train", "smoke"), {**model, **small}, "train"),
            Workflow(("train", "evaluate"), {**model, "output_dir": "{work}/scored"}),
            Workflow(("inference",), SCAN, "inference"),
        ),
        networks=(Network("fine", (1, 1, 64, 48), 1, weights="models/model.pt", stride=16),),
        verified={"net_id": "network_def", "n": 4, "features": [2, 2, 2, 2, 2, 2]},
    )


CASES = (femur(), damage(), screening(), multitask(), super_resolution())


class TestEveryBundle(BundleContract):
    @pytest.fixture(scope="class", params=CASES, ids=lambda case: case.folder.name)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> BundleCase:
        return request.param


class TestNewBundle(BundleContract):
    """As ``bonemonai bundle new`` makes it."""

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, tmp_path_factory: pytest.TempPathFactory) -> BundleCase:
        model = {"dataset_dir": "{study}", "checkpoint": "{work}/model.pt"}
        small = {"features": [2, 2, 4, 4, 8, 2]}
        return BundleCase(
            new_bundle("femur_microct_lacunae", into=tmp_path_factory.mktemp("made")),
            study="study",
            scan="*/image",
            workflows=(
                Workflow(("train", "smoke"), {**model, **small, "max_epochs": 1, "plane_step": 3}, "train"),
                Workflow(("train", "evaluate"), {**model, "output_dir": "{work}/scored"}),
                Workflow(("inference",), SCAN, "inference"),
            ),
            networks=(Network("label", (1, 1, 64, 48), 2, options=small, stride=16),),
            verified={"net_id": "network_def", "n": 4, **small},
        )


def test_no_bundle_is_left_out() -> None:
    assert {case.folder for case in CASES} == {path for path in BUNDLES.iterdir() if path.is_dir()}
