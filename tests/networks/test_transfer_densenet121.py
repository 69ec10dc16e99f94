from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.visualize import GradCAM
from torch import nn

from bonemonai.errors import InputError
from bonemonai.networks import TransferDenseNet121, with_imagenet_weights
from bonemonai.networks.imagenet_weights import _FILES
from tests.networks.torchvision_models import torchvision_models

HEAD = "class_layers.out"
MEAN, STD = (torch.tensor(values).reshape(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def as_in_the_file(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as in torchvision's file, norm.1 for norm1, and without the counters of batch normalisation."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value
        for name, value in state.items() if not name.endswith("num_batches_tracked")
    }  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """torchvision's, with random weights and normalisation that has been used."""
    network: nn.Module = torchvision_models().densenet121(weights=None)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, high in (
                (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 2), (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
            ):  # fmt: skip
                nn.init.uniform_(value, low, high, generator)  # type: ignore[arg-type]
    return network.eval()


@pytest.mark.parametrize("names", [as_in_the_file, dict], ids=["file", "model"])
def test_torchvisions_weights_give_torchvisions_output(reference: nn.Module, tmp_path: Path, names: Any) -> None:
    torch.save(names(reference.state_dict()), tmp_path / "file.pth")
    network = TransferDenseNet121(1000)
    with_imagenet_weights(network, "densenet121", tmp_path / "file.pth").eval()
    grey = torch.rand(2, 1, 64, 48)
    with torch.no_grad():
        expected = reference((grey.repeat(1, 3, 1, 1) - MEAN) / STD)
        assert expected.std() > 0.01
        assert torch.equal(network(grey), expected)
        assert torch.equal(network(grey.repeat(1, 3, 1, 1)), expected)


def test_all_but_the_last_layer_is_filled(reference: nn.Module, tmp_path: Path) -> None:
    torch.save(as_in_the_file(reference.state_dict()), tmp_path / "file.pth")
    network = TransferDenseNet121()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with_imagenet_weights(network, "densenet121", str(tmp_path / "file.pth"), head=HEAD)
    stored = dict(reference.state_dict())
    for name, value in network.state_dict().items():
        kept = name.startswith(HEAD) or name.endswith("num_batches_tracked")
        expected = before[name] if kept else stored.pop(name.replace(".layers.", "."))
        assert torch.equal(value, expected), name
    assert {name for name in stored if not name.endswith("num_batches_tracked")} == {
        "classifier.weight", "classifier.bias",
    }  # fmt: skip
    assert all(value.requires_grad for value in network.parameters())


def test_parameter_count_is_torchvisions_with_three_outputs() -> None:
    with torch.device("meta"):
        network = TransferDenseNet121()
        reference = torchvision_models().densenet121(weights=None)
    count = sum(value.numel() for value in reference.parameters()) - 1025 * 1000 + 1025 * 3
    assert sum(value.numel() for value in network.parameters() if value.requires_grad) == count == 6_956_931


def test_what_does_not_fit_is_no_weights(reference: nn.Module, tmp_path: Path) -> None:
    state, path = as_in_the_file(reference.state_dict()), tmp_path / "file.pth"
    torch.save(state, path)
    # three outputs are not a thousand, if the head is not named
    with pytest.raises(InputError, match=r"does not fit the network: class_layers\.out\.weight differs"):
        with_imagenet_weights(TransferDenseNet121(), "densenet121", path)
    with pytest.raises(InputError, match="does not fit the network"):
        with_imagenet_weights(TransferDenseNet121(growth_rate=1), "densenet121", path, head=HEAD)
    name = "features.denseblock2.denselayer3.norm.2.bias"
    torch.save({key: value for key, value in state.items() if key != name}, path)
    with pytest.raises(InputError, match=r"denseblock2\.denselayer3\.layers\.norm2\.bias differs"):
        with_imagenet_weights(TransferDenseNet121(), "densenet121", path, head=HEAD)
    torch.save({**state, "features.denseblock2.denselayer13.norm.2.bias": state[name]}, path)
    with pytest.raises(InputError, match=r"denseblock2\.denselayer13\.layers\.norm2\.bias differs"):
        with_imagenet_weights(TransferDenseNet121(), "densenet121", path, head=HEAD)


def config(pretrained: Any) -> dict[str, Any]:
    network = {"_target_": "bonemonai.networks.TransferDenseNet121", "growth_rate": 1}
    return {"network": {"_target_": "bonemonai.networks.with_imagenet_weights", "network": network,
                        "architecture": "densenet121", "pretrained": pretrained, "head": HEAD}}  # fmt: skip


def test_imagenet_weights_come_by_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    stored = TransferDenseNet121(1000, growth_rate=1).state_dict()
    stored = {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in stored.items()}
    (tmp_path / "checkpoints").mkdir()
    torch.save(stored, tmp_path / "checkpoints" / "densenet121-a639ec97.pth")
    for pretrained in (True, str(tmp_path / "checkpoints" / "densenet121-a639ec97.pth")):
        network = ConfigParser(config(pretrained)).get_parsed_content("network")
        assert isinstance(network, TransferDenseNet121)
        for name, value in network.state_dict().items():
            assert name.startswith(HEAD) or torch.equal(value, stored[name]), name
    assert isinstance(ConfigParser(config(False)).get_parsed_content("network"), TransferDenseNet121)


def test_weights_asked_for_and_not_found_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for pretrained in (True, tmp_path / "no.pth"):
        with pytest.raises(InputError, match=r"no such ImageNet weights.*--pretrained False"):
            with_imagenet_weights(TransferDenseNet121(growth_rate=1), "densenet121", pretrained, head=HEAD)


def test_name_of_the_file_is_torchvisions() -> None:
    weights = torchvision_models().DenseNet121_Weights
    assert weights.IMAGENET1K_V1.url.rsplit("/", 1)[1] == _FILES["densenet121"]


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = TransferDenseNet121(growth_rate=4)
    nn.functional.cross_entropy(network(torch.rand(3, 1, 64, 64)), torch.tensor([0, 1, 2])).backward()
    assert [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_layer_for_gradcam_is_what_is_averaged() -> None:
    """Behind it are an average and a dense layer, so that Grad-CAM is the dense layer's weights times the maps."""
    torch.manual_seed(0)
    network = TransferDenseNet121(growth_rate=4).eval()
    maps: list[torch.Tensor] = []
    network.get_submodule(network.cam_layer).register_forward_hook(lambda *given: maps.append(given[2].detach()))
    found = GradCAM(network, network.cam_layer).compute_map(torch.rand(2, 1, 224, 224), class_idx=1)
    weight = network.class_layers.out.weight.detach()[1][:, None, None]
    assert maps[-1].shape == (2, 128, 7, 7)
    assert maps[-1].min() >= 0
    torch.testing.assert_close(found, (weight * maps[-1]).sum(1, keepdim=True).clamp(min=0) / 49)


@torch.no_grad()
def test_scripted_it_gives_the_same_of_any_size() -> None:
    network = TransferDenseNet121(growth_rate=1).eval()
    script = torch.jit.script(network)
    for sides in ((32, 32), (64, 96)):
        image = torch.rand(2, 1, *sides)
        torch.testing.assert_close(script(image), network(image), rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    for shape in ((1, 2, 32, 32), (1, 32, 32)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 3, H, W), got {list(shape)}")):
            TransferDenseNet121(growth_rate=1)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"at least 32 x 32 pixels .*got 31 x 40; resize it"):
        TransferDenseNet121(growth_rate=1)(torch.zeros(1, 1, 31, 40))
    with pytest.raises(ValueError, match="growth_rate must be >= 1"):
        TransferDenseNet121(growth_rate=0)
    with pytest.raises(ValueError, match="num_classes must be >= 1"):
        TransferDenseNet121(0)
