from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bonemonai.errors import InputError
from bonemonai.networks import torchvision_classifier
from bonemonai.networks.imagenet_weights import _FILES
from bonemonai.networks.torchvision_models import _MODELS
from tests.networks.torchvision_models import seeded, torchvision_models

WEIGHTS = {
    "alexnet": "AlexNet_Weights", "vgg19": "VGG19_Weights", "googlenet": "GoogLeNet_Weights",
    "resnet50": "ResNet50_Weights", "resnet101": "ResNet101_Weights", "densenet121": "DenseNet121_Weights",
    "shufflenet": "ShuffleNet_V2_X1_0_Weights", "efficientnet": "EfficientNet_B0_Weights",
}  # fmt: skip
LIGHT = ("googlenet", "densenet121", "shufflenet", "efficientnet")


def image(size: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(3))


def old_names(state: dict[str, torch.Tensor], architecture: str) -> dict[str, torch.Tensor]:
    """As torchvision's files have them: without counters, and of DenseNet norm.1 for norm1."""
    kept = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    if architecture != "densenet121":
        return kept
    return {
        name.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2")
        if "denselayer" in name else name: value
        for name, value in kept.items()
    }  # fmt: skip


def imagenets(architecture: str, folder: Path) -> torch.nn.Module:
    """A network as torchvision makes it to hold ImageNet's weights, which are random here; they lie in a file."""
    arguments: dict[str, Any] = {}
    if architecture == "googlenet":
        arguments = {"transform_input": True, "aux_logits": True, "init_weights": True}
    with seeded(4):
        network: torch.nn.Module = getattr(torchvision_models(), _MODELS[architecture][0])(weights=None, **arguments)
    torch.save(old_names(network.state_dict(), architecture), folder / _FILES[architecture])
    return network.eval()


@pytest.mark.parametrize("architecture", _MODELS)
def test_names_of_files_are_torchvisions(architecture: str) -> None:
    weights = getattr(torchvision_models(), WEIGHTS[architecture]).IMAGENET1K_V1
    assert weights.url.rsplit("/", 1)[1] == _FILES[architecture]


@pytest.mark.parametrize("architecture", LIGHT)
def test_all_but_the_last_layer_comes_from_the_file(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    reference = imagenets(architecture, tmp_path / "checkpoints")
    head = _MODELS[architecture][1]
    for pretrained in (True, str(tmp_path / "checkpoints" / _FILES[architecture])):
        network = torchvision_classifier(architecture, 3, pretrained=pretrained).eval()
        assert network.get_submodule(head).out_features == 3
        # with ImageNet's last layer it is ImageNet's network, GoogLeNet's own normalisation included
        parent, _, last = head.rpartition(".")
        setattr(network.get_submodule(parent), last, reference.get_submodule(head))
        with torch.no_grad():
            torch.testing.assert_close(network(image()), reference(image()))


def test_random_weights_are_torchvisions_and_give_logits_in_training() -> None:
    """GoogLeNet and Inception's kin return tuples in training, with auxiliary classifiers: it has none."""
    for architecture in LIGHT:
        with seeded(5):
            network = torchvision_classifier(architecture, 4).train()
        assert network(image(96).repeat(2, 1, 1, 1)).shape == (2, 4)
    with seeded(6):
        first = torchvision_classifier("shufflenet", 3).state_dict()
    with seeded(6):
        second = torchvision_models().shufflenet_v2_x1_0(weights=None, num_classes=3).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_weights_asked_for_and_not_found_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    torchvision_models()
    for pretrained, name in ((True, "shufflenetv2_x1-5666bf0f80.pth"), (tmp_path / "no.pth", "no.pth")):
        with pytest.raises(InputError, match=rf"{name}: no such ImageNet weights.*--pretrained False"):
            torchvision_classifier("shufflenet", 3, pretrained=pretrained)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "no.pth")
    with pytest.raises(InputError, match="does not fit the network"):
        torchvision_classifier("shufflenet", 3, pretrained=tmp_path / "no.pth")


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(InputError, match=r"architecture: must be one of alexnet, .*, got 'lenet'"):
        torchvision_classifier("lenet", 3)
    with pytest.raises(ValueError, match="num_classes must be >= 1"):
        torchvision_classifier("alexnet", 0)


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'torchvision'"), RuntimeError("CUDA differs")])
def test_without_torchvision_the_extra_is_named(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, package: str | None = None) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(InputError, match=r"torchvision: cannot be imported \(.*\[comparators\]'"):
        torchvision_classifier("alexnet", 3)


def test_operators_that_do_not_load_are_declared() -> None:
    """In a process of its own, where torchvision's compiled library is made not to load."""
    torchvision_models()
    code = (
        "import torch\n"
        "def refuse(path): raise OSError('another build')\n"
        "torch.ops.load_library = refuse\n"
        "from bonemonai.networks import torchvision_classifier\n"
        "assert torchvision_classifier('shufflenet', 3).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
