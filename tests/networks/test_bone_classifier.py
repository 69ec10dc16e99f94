from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.errors import InputError
from bonemonai.networks import BoneClassifier, BoundaryUNet, with_imagenet_weights
from bonemonai.networks.imagenet_weights import _FILES
from tests.networks.test_darknet53 import used
from tests.networks.torchvision_models import seeded, torchvision_models

MEAN, STD = (torch.tensor(values).reshape(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
CHANNELS = (3, 4, 5, 6)


def tiny(**options: Any) -> BoneClassifier:
    with seeded():
        return BoneClassifier(CHANNELS, **{"layers": (1, 2, 1, 1), "width": 2, **options})


def features(batch: int = 2, side: int = 64) -> list[torch.Tensor]:
    with seeded(1):
        return [torch.rand(batch, made, side // 2**n, side // 2**n) for n, made in enumerate(CHANNELS, start=2)]


def test_equals_torchvisions_bit_by_bit_and_its_file_fits(tmp_path: Path) -> None:
    reference = torchvision_models().resnet101(weights=None).eval()
    # files as old as torchvision's lack the counters of batch normalisation
    old = {name: value for name, value in reference.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "file.pth")
    network = BoneClassifier(local_fusion=False, gates=False)
    with_imagenet_weights(network, "resnet101", tmp_path / "file.pth").eval()
    reference.fc = nn.Identity()
    grey = torch.rand(2, 1, 64, 48)
    with torch.no_grad():
        expected = reference((grey.repeat(1, 3, 1, 1) - MEAN) / STD)
        assert expected.shape == (2, 2048)
        assert torch.equal(network(grey), expected)
        assert torch.equal(network(grey.repeat(1, 3, 1, 1)), expected)
    assert torchvision_models().ResNet101_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1] == _FILES["resnet101"]


def test_parameters_and_scales_are_the_papers() -> None:
    backbone = 44_549_160 - 1000 * 2049  # torchvision's resnet101 without its classifier
    gates = 3 * (64 + 256 + 512 + 1024)
    joined = BoundaryUNet(width=1).feature_channels
    made = (256, 512, 1024, 2048)
    fusions = sum((own + 64 * given) * own + own for own, given in zip(made, joined, strict=True))
    for local_fusion in (False, True):
        for gated in (False, True):
            with torch.device("meta"):
                network = BoneClassifier(local_fusion=local_fusion, gates=gated)
            count = sum(value.numel() for value in network.parameters())
            assert count == backbone + local_fusion * fusions + gated * gates
    assert (backbone, fusions, gates) == (42_500_160, 8_326_912, 5_568)
    shapes: list[tuple[int, ...]] = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        stage.register_forward_hook(lambda *given: shapes.append(tuple(given[2].shape[1:3])))
    maps = [torch.zeros(1, 64 * given, 56 >> n, 56 >> n, device="meta") for n, given in enumerate(joined)]
    assert network(torch.zeros(1, 1, 224, 224, device="meta"), maps).shape == (1, 2048)
    assert shapes == [(256, 56), (512, 28), (1024, 14), (2048, 7)]


def test_gates_and_fusion_start_without_disturbing_the_backbone() -> None:
    plain = tiny(local_fusion=False, gates=False)
    used(plain)
    image = torch.rand(2, 1, 64, 64)
    for options in ({"local_fusion": False}, {"gates": False}, {}):
        network = tiny(**options)
        missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
        assert unexpected == []
        assert {name.split(".")[0] for name in missing} <= {"gates", "fusions"}
        network.eval()
        zeros = [torch.zeros_like(one) for one in features()]
        torch.testing.assert_close(network(image, zeros), plain(image), rtol=1e-5, atol=1e-6)
    assert (network(image, features()) - plain(image)).abs().max() > 1e-3


def test_equals_stage_by_stage() -> None:
    network = tiny()
    used(network)
    with seeded():
        for name, value in network.named_parameters():
            if name.startswith(("gates.", "fusions.")):
                nn.init.uniform_(value, -0.5, 0.5)
    # in double precision: in single, two threads add up in another order than one, which 1e-4 does not always cover
    network.double()
    image, state = torch.rand(2, 1, 64, 64).double(), network.state_dict()
    given = [one.double() for one in features()]
    rgb = (image.repeat(1, 3, 1, 1) - MEAN) / STD
    with torch.no_grad():
        maps = F.max_pool2d(network.bn1(F.conv2d(rgb, state["conv1.weight"], stride=2, padding=3)).relu(), 3, 2, 1)
        for number in range(4):
            alpha, gamma, beta = (state[f"gates.{number}.{part}"] for part in ("alpha", "gamma", "beta"))
            s = alpha * (maps.square().sum((2, 3)) + 1e-5).sqrt()
            s = s * s.shape[1] ** 0.5 / (s.square().sum(1, keepdim=True) + 1e-5).sqrt()
            gated = maps * (1 + (gamma * s + beta).tanh())[:, :, None, None]
            maps = getattr(network, f"layer{number + 1}")(gated)
            weight, bias = state[f"fusions.{number}.weight"][:, :, 0, 0], state[f"fusions.{number}.bias"]
            joined = torch.cat([maps, given[number]], 1)
            maps = torch.einsum("oc,bchw->bohw", weight, joined) + bias[:, None, None]
        torch.testing.assert_close(network(image, given), maps.mean((2, 3)), rtol=1e-6, atol=1e-8)
        assert network.get_submodule(network.cam_layer) is network.fusions[3]
        assert tiny(local_fusion=False).cam_layer == "layer4"


def test_gradient_reaches_the_segmentation_and_every_parameter() -> None:
    network, given = tiny().train(), [one.requires_grad_() for one in features()]
    for gate in network.gates:
        nn.init.constant_(gate.gamma, 0.1)  # at 0 alpha has no say
    network(torch.rand(2, 1, 64, 64), given).square().sum().backward()
    for value in (*given, *network.parameters()):
        assert value.grad is not None
        assert value.grad.any()


def test_checkpointing_changes_nothing_but_memory() -> None:
    network, image = tiny().train(), torch.rand(2, 1, 64, 64)
    found = {}
    for checkpointing in (False, True):
        network.zero_grad()
        network.checkpointing = checkpointing
        vectors = network(image, features())
        vectors.square().sum().backward()
        found[checkpointing] = [vectors, *(value.grad.clone() for value in network.parameters())]  # type: ignore[union-attr]
    assert all(torch.equal(*pair) for pair in zip(found[False], found[True], strict=True))
    assert int(network.bn1.num_batches_tracked) == int(network.layer2[1].bn2.num_batches_tracked) == 2


def test_imagenet_weights_leave_gates_and_fusion_and_are_never_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, stored = tiny(), tiny(local_fusion=False, gates=False)
    used(stored)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save(
        {**stored.state_dict(), "fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}, tmp_path / "f"
    )
    with_imagenet_weights(network, "resnet101", tmp_path / "f")
    for name, value in network.state_dict().items():
        own = name.startswith(("gates.", "fusions."))
        assert torch.equal(value, before[name] if own else stored.state_dict()[name]), name
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match="no such ImageNet weights"):
        with_imagenet_weights(network, "resnet101", True)
    with pytest.raises(InputError, match="does not fit"):
        with_imagenet_weights(tiny(layers=(1, 3, 1, 1)), "resnet101", tmp_path / "f")


def test_other_images_and_features_are_refused() -> None:
    network = tiny().eval()
    for shape in ((1, 2, 64, 64), (1, 64, 64)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 3, H, W), got {shape}")):
            network(torch.zeros(shape), features(1))
    image = torch.zeros(1, 1, 64, 64)
    with pytest.raises(ValueError, match=r"segmentation's four .*got none"):
        network(image)
    with pytest.raises(ValueError, match="got 3"):
        network(image, features(1)[:3])
    with pytest.raises(ValueError, match=re.escape("features[1] must be (1, 4, 8, 8)")):
        network(image, [features(1)[0], torch.zeros(1, 4, 4, 4), *features(1)[2:]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be >= 1"),
        ({"layers": (3, 4, 23)}, r"layers must be four numbers >= 1 .*got \(3, 4, 23\)"),
        ({"layers": (3, 0, 23, 3)}, "layers must be four numbers"),
        ({"segmentation_channels": (1, 2, 3)}, "segmentation_channels must be four numbers"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoneClassifier(**options)
