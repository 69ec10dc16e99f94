from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import resnet50

from bonemonai.errors import InputError
from bonemonai.networks import VGG16, AlexNet, MaskGuidedVGG16, VGG16UNet, with_imagenet_weights
from tests.networks.torchvision_models import torchvision_models


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like torchvision's, of a narrow network: names and layout are what matters."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(VGG16(1000, width=2).state_dict(), path)
    return path


def test_all_but_the_head_and_the_attention_is_filled(narrow: Path) -> None:
    network = MaskGuidedVGG16(width=2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with_imagenet_weights(network, "vgg16", str(narrow), head="classifier.6")
    stored = torch.load(narrow, weights_only=True)
    for name, value in network.state_dict().items():
        kept = name.startswith(("attention.", "classifier.6."))
        assert torch.equal(value, before[name] if kept else stored[name]), name


def test_segmentation_takes_the_features_only(narrow: Path) -> None:
    network = VGG16UNet(width=2)
    before = network.head.weight.clone()
    with_imagenet_weights(network, "vgg16", narrow)
    assert torch.equal(
        network.state_dict()["features.0.weight"], torch.load(narrow, weights_only=True)["features.0.weight"]
    )
    assert torch.equal(network.head.weight, before)


def test_pretrained_asked_for_and_not_found_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for pretrained in (True, str(tmp_path / "no.pth")):
        with pytest.raises(InputError, match=r"no such ImageNet weights.*--pretrained False"):
            with_imagenet_weights(VGG16(width=1), "vgg16", pretrained, head="classifier.6")


def test_pytorchs_cache_is_found_by_torchvisions_name(
    narrow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vgg16-397923af.pth").write_bytes(narrow.read_bytes())
    network = with_imagenet_weights(VGG16(width=2), "vgg16", True, head="classifier.6")
    assert torch.equal(
        network.state_dict()["features.0.weight"], torch.load(narrow, weights_only=True)["features.0.weight"]
    )


def test_names_of_the_files_are_torchvisions() -> None:
    models = torchvision_models()
    from bonemonai.networks.imagenet_weights import _FILES

    for name, weights in (
        ("vgg16", models.VGG16_Weights), ("alexnet", models.AlexNet_Weights), ("resnet50", models.ResNet50_Weights)
    ):  # fmt: skip
        assert weights.IMAGENET1K_V1.url.rsplit("/", 1)[1] == _FILES[name]


def test_false_changes_nothing() -> None:
    network = VGG16(width=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with_imagenet_weights(network, "vgg16", False)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weights_that_do_not_fit_are_refused(narrow: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not fit the network: features\.0\.weight differs"):
        with_imagenet_weights(VGG16(width=3), "vgg16", narrow, head="classifier.6")
    state = torch.load(narrow, weights_only=True)
    torch.save({k: v for k, v in state.items() if k != "features.2.bias"}, tmp_path / "cut.pth")
    with pytest.raises(InputError, match=r"features\.2\.bias differs"):
        with_imagenet_weights(VGG16(width=2), "vgg16", tmp_path / "cut.pth", head="classifier.6")
    torch.save({**state, "features.0.bias": state["features.0.bias"] * float("nan")}, tmp_path / "nan.pth")
    with pytest.raises(InputError, match="holds NaN"):
        with_imagenet_weights(VGG16(width=2), "vgg16", tmp_path / "nan.pth", head="classifier.6")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(InputError, match="is no file of weights"):
        with_imagenet_weights(VGG16(width=2), "vgg16", tmp_path / "text.pth")


@pytest.mark.parametrize("architecture", ["alexnet", "resnet50"])
def test_baselines_take_torchvisions_state(architecture: str, tmp_path: Path) -> None:
    """MONAI's ResNet-50 with torchvision's strides is torchvision's."""
    reference = getattr(torchvision_models(), architecture)(weights=None).eval()
    # files as old as torchvision's lack the counters of batch normalisation
    old = {name: value for name, value in reference.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "file.pth")
    baselines = {
        "alexnet": lambda: (AlexNet(1000), "classifier.6"),
        "resnet50": lambda: (
            resnet50(spatial_dims=2, n_input_channels=3, conv1_t_stride=2, bias_downsample=False, num_classes=1000),
            "fc",
        ),
    }
    network, head = baselines[architecture]()
    with_imagenet_weights(network, architecture, tmp_path / "file.pth", head=head)
    network.load_state_dict({k: v for k, v in reference.state_dict().items() if k.startswith(head)}, strict=False)
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(network.eval()(image), reference(image))


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(InputError, match="must be one of vgg16"):
        with_imagenet_weights(VGG16(width=1), "vgg61", False)
