from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from torch import nn

from bonemonai.engines import load_weights
from bonemonai.errors import InputError
from bonemonai.networks import TransferResNet50, with_imagenet_weights
from tests.networks.torchvision_models import torchvision_models

MEAN, STD = (torch.tensor(values).reshape(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def train(network: TransferResNet50, epochs: int = 2) -> None:
    """By MONAI's trainer, which calls ``network.train()`` at each iteration, with all parameters in the optimiser."""
    generator = torch.Generator().manual_seed(0)
    batches = [
        {"image": torch.rand(4, 1, 32, 32, generator=generator), "label": torch.tensor([0, 1, 0, 1])} for _ in range(2)
    ]
    SupervisedTrainer(
        device=torch.device("cpu"), max_epochs=epochs, train_data_loader=batches, network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=1e-2), loss_function=nn.CrossEntropyLoss(),
        decollate=False,
    ).run()  # fmt: skip


def test_parameters_are_as_many_as_the_paper_prints() -> None:
    with torch.device("meta"):
        network = TransferResNet50()
    assert sum(value.numel() for value in network.parameters() if value.requires_grad) == 4_098
    backbone = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    counted = [value for name, value in backbone.items() if not name.endswith("num_batches_tracked")]
    assert sum(value.numel() for value in counted) == 23_561_152
    with torch.device("meta"):
        tuned = TransferResNet50(frozen=False)
    assert all(value.requires_grad for value in tuned.parameters())


def test_equals_torchvisions() -> None:
    reference = torchvision_models().resnet50(weights=None)
    reference.fc = nn.Linear(2048, 2)
    network = TransferResNet50().eval()
    network.load_state_dict(reference.eval().state_dict(), strict=True)
    grey = torch.rand(2, 1, 64, 48)
    with torch.no_grad():
        expected = reference((grey.repeat(1, 3, 1, 1) - MEAN) / STD)
        assert torch.equal(network(grey), expected)
        assert torch.equal(network(grey.repeat(1, 3, 1, 1)), expected)


def test_frozen_is_frozen() -> None:
    torch.manual_seed(0)
    network = TransferResNet50(width=4)
    before = state_of(network)
    train(network)
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("fc."), name


def test_frozen_features_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    network = TransferResNet50(width=4)
    image = torch.rand(4, 1, 32, 32)
    assert network.training
    assert not any(module.training for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        as_made, in_training, in_evaluation = network(image), network.train()(image), network.eval()(image)
        # a parent's train() reaches it, too
        nn.Sequential(network).train()
        in_a_parent = network(image)
    for found in (as_made, in_training, in_a_parent):
        assert torch.equal(found, in_evaluation)


def test_fine_tuning_changes_everything() -> None:
    torch.manual_seed(0)
    network = TransferResNet50(frozen=False, width=4)
    before = state_of(network)
    train(network)
    assert [name for name, value in network.state_dict().items() if torch.equal(value, before[name])] == []


def test_evaluation_does_not_depend_on_frozen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tuned = TransferResNet50(frozen=False, width=4)
    train(tuned)
    torch.save(tuned.state_dict(), tmp_path / "model.pt")
    image = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        expected = tuned.eval()(image)
        for frozen in (True, False):
            network = load_weights(TransferResNet50(frozen=frozen, width=4), tmp_path / "model.pt").eval()
            assert torch.equal(network(image), expected)


def config(pretrained: Any) -> dict[str, Any]:
    network = {"_target_": "bonemonai.networks.TransferResNet50", "width": 2}
    return {"network": {"_target_": "bonemonai.networks.with_imagenet_weights", "network": network,
                        "architecture": "resnet50", "pretrained": pretrained, "head": "fc"}}  # fmt: skip


def test_imagenet_weights_come_by_a_config(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stored = TransferResNet50(1000, frozen=False, width=2).state_dict()
    stored = {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in stored.items()}
    torch.save(stored, tmp_path / "file.pth")
    network = ConfigParser(config(str(tmp_path / "file.pth"))).get_parsed_content("network")
    assert isinstance(network, TransferResNet50)
    for name, value in network.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, stored[name]), name
    trainable = {name for name, value in network.named_parameters() if value.requires_grad}
    assert trainable == {"fc.weight", "fc.bias"}
    assert isinstance(ConfigParser(config(False)).get_parsed_content("network"), TransferResNet50)


def test_torchvisions_file_fits(tmp_path: Path) -> None:
    reference = torchvision_models().resnet50(weights=None)
    # files as old as torchvision's lack the counters of batch normalisation
    old = {name: value for name, value in reference.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "file.pth")
    network = with_imagenet_weights(TransferResNet50(), "resnet50", tmp_path / "file.pth", head="fc")
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in old.items() if not name.startswith("fc."))


def test_weights_asked_for_and_not_found_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match="no such ImageNet weights"):
        with_imagenet_weights(TransferResNet50(width=1), "resnet50", True, head="fc")


def test_layer_for_gradcam_has_the_last_map() -> None:
    with torch.device("meta"):
        network = TransferResNet50().eval()
        shapes = []
        network.get_submodule(network.cam_layer).register_forward_hook(lambda *given: shapes.append(given[2].shape))
        assert network(torch.zeros(2, 1, 200, 200)).shape == (2, 2)
    assert shapes == [(2, 2048, 7, 7)]


def test_what_does_not_fit_is_refused() -> None:
    for shape in ((1, 2, 32, 32), (1, 32, 32)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 3, H, W), got {list(shape)}")):
            TransferResNet50(width=1)(torch.zeros(shape))
    with pytest.raises(ValueError, match="width must be >= 1"):
        TransferResNet50(width=0)
    with pytest.raises(ValueError, match="num_classes must be >= 1"):
        TransferResNet50(0)
