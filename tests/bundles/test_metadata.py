"""Every bundle: metadata, layout, and MONAI's own checks of it."""

from __future__ import annotations

import json
import os
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from monai.bundle import create_workflow, verify_net_in_out
from monai.networks.nets import BasicUNet
from packaging.requirements import Requirement
from packaging.version import Version

import bonemonai
from bonemonai.networks import (
    BCCNet,
    BoneClassifier,
    BoundaryUNet,
    DamageCNN,
    LacunaUNet,
    MSNet,
    MultitaskNetwork,
    VertebraFusion,
    YOLOv3,
)
from tests.conftest import ROOT

BUNDLES = sorted(path for path in (ROOT / "bundles").iterdir() if path.is_dir())
# of each bundle: overrides of inference.json for a small network, one such network, the config that trains
ANCHORS = [[8 * n, 8 * n] for n in range(1, 10)]
FEATURES = [2, 2, 2, 2, 2, 2]
MULTITASK = {"locator_width": 1, "segmenter_width": 1, "classifier_width": 1, "layers": [1, 1, 1, 1], "crop_size": 64}
SMALL: dict[str, dict[str, Any]] = {
    "femur_srmct_osteoporosis_mga": {"any": 56, "width": 2},
    "bone_srmct_damage_classification": {"any": 12, "width": 2, "image_size": 16},
    "lumbar_ct_osteoporosis_screening": {"any": 224},
    "lumbar_ct_osteoporosis_multitask": MULTITASK,
    "microct_super_resolution": {"features": FEATURES},
}
# of a network that returns more than one tensor, what MONAI's check is given in its place
NET_IDS = {"lumbar_ct_osteoporosis_multitask": "logits_def"}
NETWORKS = {
    "femur_srmct_osteoporosis_mga": LacunaUNet(width=2),
    "bone_srmct_damage_classification": DamageCNN(),
    "lumbar_ct_osteoporosis_screening": BCCNet(),
    "lumbar_ct_osteoporosis_multitask": MultitaskNetwork(
        YOLOv3(2, ANCHORS, width=1),
        BoundaryUNet(width=1),
        BoneClassifier((8, 16, 16, 8), layers=(1, 1, 1, 1), width=1),
        VertebraFusion(32),
    ),
    "microct_super_resolution": BasicUNet(
        spatial_dims=2, in_channels=1, out_channels=1, features=FEATURES, norm="batch", upsample="deconv"
    ),
}
TRAINING = {
    "femur_srmct_osteoporosis_mga": "train_segmentation",
    "bone_srmct_damage_classification": "train",
    "lumbar_ct_osteoporosis_screening": "train_classification",
    "lumbar_ct_osteoporosis_multitask": "train",
    "microct_super_resolution": "train",
}
REQUIRED = (
    "schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
    "task", "description", "authors", "copyright", "network_data_format", "intended_use", "references",
)  # fmt: skip


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def metadata(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "configs" / "metadata.json").read_text())


def test_required_keys(metadata: dict[str, Any]) -> None:
    assert [key for key in REQUIRED if key not in metadata] == []
    assert metadata["version"] in metadata["changelog"]
    assert "not a medical device" in metadata["intended_use"].lower()


def test_valid_against_monais_schema(metadata: dict[str, Any]) -> None:
    schema = os.environ.get("BONEMONAI_METADATA_SCHEMA")
    if not schema:
        pytest.skip("BONEMONAI_METADATA_SCHEMA is not set: MONAI's schema file is not part of the repository")
    jsonschema.validate(metadata, json.loads((ROOT / schema).read_text()))


def test_named_versions_satisfy_the_packages_own_needs(metadata: dict[str, Any]) -> None:
    needs = {requirement.name.lower(): requirement.specifier for requirement in map(Requirement, requires("bonemonai"))}
    named = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
        **metadata["required_packages_version"],
    }
    assert named.pop("bonemonai") == bonemonai.__version__
    for name, version in named.items():
        assert Version(version) in needs[name.lower()], name


def test_files_a_bundle_has(bundle: Path) -> None:
    for name in ("LICENSE", "configs/metadata.json", "configs/logging.conf", "docs/README.md", "docs/data_license.txt"):
        assert (bundle / name).is_file(), name
    assert list(bundle.rglob("*.py")) == []
    readme = (bundle / "docs" / "README.md").read_text()
    for word in ("not a medical device", "Deviations", "Citation", "Performance"):
        assert word in readme


def test_network_takes_and_gives_what_metadata_says(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verify_net_in_out(
        net_id=NET_IDS.get(bundle.name, "network_def"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        device="cpu",
        p=2,
        n=4,
        **SMALL[bundle.name],
    )


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_properties_monai_requires(
    bundle: Path, kind: str, study: Path, loaded_bone: Path, lumbar_study: Path, murine_study: Path, tmp_path: Path
) -> None:
    network = NETWORKS[bundle.name]
    torch.save(network.state_dict(), tmp_path / "model.pt")
    config = TRAINING[bundle.name] if kind == "train" else "inference"
    studies = {"bone": loaded_bone, "lumbar": lumbar_study, "microct": murine_study}
    data = studies.get(bundle.name.split("_", 1)[0], study)
    scan = next(path for name in ("image", "dicom", "lr_1.aim") for path in data.rglob(name))
    options = {"checkpoint": str(tmp_path / "model.pt"), "dataset_dir": str(scan if kind == "inference" else data)}
    options |= {"output_dir": str(tmp_path)} if kind == "inference" else {"overwrite": True}
    if bundle.name == "lumbar_ct_osteoporosis_screening" and kind == "inference":
        torch.save(MSNet(layers=2, width=2).state_dict(), tmp_path / "segmentation.pt")
        options |= {"segmentation": str(tmp_path / "segmentation.pt"), "segmentation_def#layers": 2}
        options["segmentation_def#width"] = 2
    if bundle.name == "lumbar_ct_osteoporosis_multitask":
        options |= MULTITASK | ({"pretrained": False, "anchors": ANCHORS} if kind == "train" else {})
    if bundle.name == "microct_super_resolution":
        options["features"] = FEATURES
    file = str(bundle / "configs" / f"{config}.json")
    workflow = create_workflow(
        config_file=file, logging_file=False, workflow_type=kind, initialize=["$@bundle_root"], **options
    )
    assert workflow.check_properties() == []
    assert workflow.bundle_root == str(bundle)


def test_units_that_configs_expect_are_those_of_the_metadata(bundle: Path, metadata: dict[str, Any]) -> None:
    stated = metadata["network_data_format"]["inputs"]["image"]["units"]
    configs = {file.stem: json.loads(file.read_text()) for file in (bundle / "configs").glob("*.json")}
    expected = {name: config.get("expects") for name, config in configs.items()}
    # every config that stands alone and reads scans for a network
    alone = {name for name, config in configs.items() if {"preprocessing", "scaling"} & config.keys()}
    assert {name for name, units in expected.items() if units is not None} == alone
    assert all(expected[name] == stated for name in alone)
