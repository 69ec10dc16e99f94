from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.inferers import SimpleInferer, SliceInferer
from torch import nn

from bonemonai.data import PreparedVolume, open_volume
from bonemonai.errors import NumericalError
from bonemonai.inferers import (
    LabelOutput,
    PatchProbabilityOutput,
    ResultWriter,
    StreamingInferer,
    read_patch_probabilities,
)
from bonemonai.inferers.whole_volume import infer_whole_volume
from bonemonai.networks import LacunaUNet, MaskGuidedVGG16, PatchClassifier

SIZE = 55


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    torch.manual_seed(0)
    return PatchClassifier(MaskGuidedVGG16(width=2), 64).eval()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).random((5, 180, 200)).astype(np.float32)
    tifffile.imwrite(tmp_path / "scan.tif", values)
    return tmp_path / "scan.tif"


def prepared(item: dict[str, Any]) -> dict[str, Any]:
    image = torch.as_tensor(item["image"])
    mask = torch.ones_like(image)
    mask[:, 60:105] = 0  # the second row of patches lies outside bone
    mask[:, 0, 0] = 0  # not enough to lose the first
    return {"image": image, "mask": mask}


def infer(
    path: Path, out: Path, classifier: nn.Module, *, temperature: float = 1.0, step: int = 1, **options: Any
) -> Path:
    torch.manual_seed(1)
    network = LacunaUNet(width=2).eval()
    outputs = [
        LabelOutput("lacunae.ome.zarr", mask_key="mask"),
        PatchProbabilityOutput("probability.ome.zarr", classifier, temperature=temperature, plane_step=step),
    ]
    volume = open_volume(path, voxel_size_um=1.6)
    inferer = StreamingInferer(spatial_dim=0, **options)
    with torch.no_grad():
        inferer(PreparedVolume(volume, prepared), network, writer=ResultWriter(out, outputs))
    return out / "probability.ome.zarr"


def test_equals_the_classifier_on_each_patch(scan: Path, tmp_path: Path, classifier: nn.Module) -> None:
    path = infer(scan, tmp_path / "out", classifier, temperature=1.7)
    image = open_volume(scan).read()
    lacunae = open_volume(tmp_path / "out" / "lacunae.ome.zarr").read()
    found = np.stack([plane for _, plane in read_patch_probabilities(path)])
    assert found.shape == (5, 3, 3)
    assert np.isnan(found[:, 1]).all()
    for plane, row, column in [(0, 0, 0), (3, 0, 2), (4, 2, 1)]:
        at = (plane, slice(row * SIZE, (row + 1) * SIZE), slice(column * SIZE, (column + 1) * SIZE))
        patch = torch.from_numpy(np.stack([image[at], lacunae[at].astype(np.float32)]))[None]
        with torch.no_grad():
            expected = float(torch.softmax(classifier(patch) / 1.7, dim=1)[0, 1])
        # half a level; a whole one next to one half, whose level is kept free
        levels = 1.01 if abs(expected - 0.5) < 0.5 / 254 else 0.51
        assert found[plane, row, column] == pytest.approx(expected, abs=levels / 254)
        assert (found[plane, row, column] > 0.5) == (expected > 0.5)
    values = open_volume(path).read()
    assert (values[:, 165:] == 0).all()
    assert (values[:, :, 165:] == 0).all()
    assert len(np.unique(values[0, :55, :55])) == 1


def test_tiles_windows_and_the_whole_give_the_same_map(scan: Path, tmp_path: Path, classifier: nn.Module) -> None:
    reference = open_volume(infer(scan, tmp_path / "exact", classifier)).read()
    small = open_volume(infer(scan, tmp_path / "tiles", classifier, roi_size=64, sw_batch_size=2)).read()
    np.testing.assert_array_equal(small, reference)


def test_every_nth_plane(scan: Path, tmp_path: Path, classifier: nn.Module) -> None:
    values = open_volume(infer(scan, tmp_path / "out", classifier, step=3)).read()
    assert [bool(plane.any()) for plane in values] == [True, False, False, True, False]


def test_other_weights_or_temperatures_are_another_run(scan: Path, tmp_path: Path, classifier: nn.Module) -> None:
    one = PatchProbabilityOutput("p.ome.zarr", classifier)
    torch.manual_seed(5)
    other = PatchProbabilityOutput("p.ome.zarr", PatchClassifier(MaskGuidedVGG16(width=2), 64))
    assert one.describe() == PatchProbabilityOutput("p.ome.zarr", classifier).describe()
    assert one.describe() != other.describe()
    assert one.describe() != PatchProbabilityOutput("p.ome.zarr", classifier, temperature=2).describe()


def test_memory_of_the_classifier_is_planned_for(classifier: nn.Module) -> None:
    one, many = (PatchProbabilityOutput("p.ome.zarr", classifier, batch_size=n).working_bytes() for n in (1, 16))
    assert many == pytest.approx(16 * one)
    # the first convolution's output at least: 2 channels of 64 x 64 float32
    assert one >= 2 * 64 * 64 * 4


def test_not_a_number_is_an_error(scan: Path, tmp_path: Path) -> None:
    broken = PatchClassifier(MaskGuidedVGG16(width=2), 64)
    nn.init.constant_(broken.network.classifier[-1].bias, float("nan"))  # type: ignore[union-attr,index,arg-type]
    with pytest.raises(NumericalError, match="classifier: gives NaN"):
        infer(scan, tmp_path / "out", broken)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"plane_step": 0}, "must be >= 1"), ({"batch_size": 0}, "must be >= 1"),
        ({"bone_fraction": 0}, r"bone_fraction must be within \(0, 1\]"),
        ({"temperature": 0}, "temperature must be > 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict[str, Any], cause: str, classifier: nn.Module) -> None:
    with pytest.raises(ValueError, match=cause):
        PatchProbabilityOutput("p.ome.zarr", classifier, **options)


def test_monais_inferers_give_the_same_map(scan: Path, tmp_path: Path, classifier: nn.Module) -> None:
    reference = open_volume(infer(scan, tmp_path / "exact", classifier)).read()
    torch.manual_seed(1)
    network = LacunaUNet(width=2).eval()
    outputs = [
        LabelOutput("lacunae.ome.zarr", mask_key="mask"),
        PatchProbabilityOutput("probability.ome.zarr", classifier),
    ]
    for name, inferer in {
        "planes": SimpleInferer(), "slices": SliceInferer(0, roi_size=(180, 200), sw_batch_size=2),
    }.items():  # fmt: skip
        volume = PreparedVolume(open_volume(scan, voxel_size_um=1.6), prepared)
        infer_whole_volume(inferer, volume, network, ResultWriter(tmp_path / name, outputs))
        found = open_volume(tmp_path / name / "probability.ome.zarr").read()
        np.testing.assert_array_equal(found, reference)


class Leaning(nn.Module):
    """Logits a hair to either side of even."""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        side = torch.sign(patches[:, 0].mean((1, 2)) - 0.5)
        return torch.stack([torch.zeros(len(patches)), 1e-4 * side], dim=1)


def test_a_patch_keeps_its_side_of_one_half_at_any_temperature(scan: Path, tmp_path: Path) -> None:
    sides = []
    for temperature in (1.0, 100.0):
        path = infer(scan, tmp_path / f"{temperature}", Leaning(), temperature=temperature)
        sides.append(np.sign(np.stack([plane for _, plane in read_patch_probabilities(path)]) - 0.5))
    np.testing.assert_array_equal(*sides)
    assert set(np.unique(sides[0][~np.isnan(sides[0])])) == {-1, 1}


def test_every_plane_that_shows_bone_has_a_patch(classifier: nn.Module) -> None:
    output = PatchProbabilityOutput("p.ome.zarr", classifier)
    bone = torch.zeros(1, 120, 120)
    items = {"image": torch.rand(1, 120, 120), "mask": bone}
    labels = torch.zeros(120, 120, dtype=torch.uint8)
    assert not output.derive(labels, items, 0).any()
    bone[:, 70:80, 70:80] = 1
    marked = output.derive(labels, items, 0) != 0
    assert marked.sum() == SIZE**2
    assert marked[SIZE : 2 * SIZE, SIZE : 2 * SIZE].all()
