from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import ScaleIntensityRange
from torch import nn

from bonemonai.data import list_screening_scans
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.engines import LumbarScreening
from bonemonai.transforms import FitPlane, MarkedCrop
from tests import lumbar_files

CLASSES = ("normal", "low bone mass", "osteoporosis")


class Threshold(nn.Module):
    """Marks what is brighter than 120 HU, which is right on the test scans."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape[1:] == (1, 32, 32)
        assert image.min() >= 0
        return (image > 0.7).float()


class MeanGrey(nn.Module):
    """Logits that tell the mean of the crop."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape[1:] == (1, 8, 8)
        mean = image.mean(dim=(1, 2, 3))
        return torch.stack([mean, torch.zeros_like(mean), -mean], dim=1)


def engine(scans: list[ScreeningScan], **options: Any) -> LumbarScreening:
    settings: dict[str, Any] = {
        "segmenter": Threshold(), "classifier": MeanGrey(), "classes": CLASSES, "fit": FitPlane(32),
        "scale": ScaleIntensityRange(-160, 240, 0, 1, clip=True), "crop": MarkedCrop(8, min_pixels=10),
        "min_area_mm2": 20.0, "levels": lumbar_files.LEVELS, "progress": False, "sw_batch_size": 5,
    }  # fmt: skip
    return LumbarScreening(torch.device("cpu"), scans, **{**settings, **options})


def test_every_slice_that_is_marked_is_classified(tmp_path: Path) -> None:
    """No slice is chosen: three vertebrae of six slices are found, in the scan's own axes."""
    mask = lumbar_files.mask_in_axial_order()
    path = lumbar_files.write_nifti(tmp_path / "scan.nii", lumbar_files.scan_in_axial_order(mask))
    screening = engine(list_screening_scans(path, units="HU"))
    screening.run()
    found = screening.state.output
    assert found is not None
    np.testing.assert_array_equal(found.marks, mask > 0)
    decided = found.table[found.table["refusal"] == ""]
    assert decided["plane"].tolist() == np.flatnonzero(mask.any((1, 2))).tolist()
    assert (decided["pixels"] == 48).all()
    assert (decided["area_mm2"] == 48).all()
    assert found.table["logit_normal"].isna().sum() == 24 - 18
    # 200 HU is 0.9 of the window; noise beside
    assert decided["logit_normal"].mean() == pytest.approx(0.9, abs=0.01)
    assert sorted(found.crops) == decided["plane"].tolist()


def test_chosen_slices_are_scored_against_their_masks(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path)
    outputs = []
    scans = list_screening_scans(path, split="val", levels=lumbar_files.LEVELS, per_level=2, classes=CLASSES)
    screening = engine(scans, val_handlers=[Collect(outputs)])
    screening.run()
    assert [found.scan.name for found in outputs] == ["scan_0003", "scan_0004"]
    table = outputs[1].table
    assert table["level"].tolist() == ["L3", "L3", "L2", "L2"]
    assert table["diagnosis"].unique().tolist() == ["low bone mass"]
    assert table[["tp", "fp", "fn"]].sum().tolist() == [4 * 48, 0, 0]
    # slices that were not chosen are not looked at
    assert outputs[1].marks.any((1, 2)).sum() == 4


def test_a_chosen_slice_without_a_mark_is_refused_and_nothing_made_up(tmp_path: Path) -> None:
    path = lumbar_files.write_nifti(
        tmp_path / "s.nii", lumbar_files.scan_in_axial_order(lumbar_files.mask_in_axial_order())
    )
    scan = ScreeningScan("scan_0000", "subject_00", path, slices=((5, ""), (9, "")), units="HU")
    screening = engine([scan])
    screening.run()
    table = screening.state.output.table  # type: ignore[union-attr]
    assert table["refusal"].tolist() == ["", "no vertebra was marked"]
    assert table["logit_normal"].isna().tolist() == [False, True]


def test_copies_are_scored_besides(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path)
    scans = list_screening_scans(path, split="test", levels={"L2": 21}, per_level=1)

    def down(item: Any) -> Any:
        return {key: torch.roll(value, 2, dims=1) for key, value in item.items()}

    screening = engine(scans, augment=down, copies=2)
    screening.run()
    found = screening.state.output
    assert found is not None
    assert found.table["copy"].tolist() == [0, 1, 2]
    # masks move along, and what is kept of the scan is not the copies'
    assert found.table[["fp", "fn"]].sum().tolist() == [0, 0]
    np.testing.assert_array_equal(found.marks[13], lumbar_files.mask_in_axial_order()[13] > 0)
    with pytest.raises(ValueError, match="copies must be 0"):
        engine(scans, copies=1)


def test_slices_larger_than_the_segmenter_takes_are_marked_in_their_own_pixels(tmp_path: Path) -> None:
    mask = np.kron(lumbar_files.mask_in_axial_order(), np.ones((1, 4, 4), dtype=np.uint8))
    path = lumbar_files.write_nifti(tmp_path / "scan.nii", lumbar_files.scan_in_axial_order(mask))
    screening = engine([ScreeningScan("scan_0000", "s", path, units="HU")], image_size=96)
    screening.run()
    marks = screening.state.output.marks  # type: ignore[union-attr]
    overlap = 2 * (marks & (mask > 0)).sum() / (marks.sum() + (mask > 0).sum())
    assert marks.shape == mask.shape
    assert overlap > 0.9


def test_a_mark_that_is_too_small_is_not_one_that_is_missing(tmp_path: Path) -> None:
    values = lumbar_files.scan_in_axial_order(lumbar_files.mask_in_axial_order())
    path = lumbar_files.write_nifti(tmp_path / "scan.nii", values)
    scan = ScreeningScan("scan_0000", "s", path, slices=((5, ""),), units="HU")
    screening = engine([scan], min_area_mm2=100)
    screening.run()
    assert screening.state.output.table["refusal"].tolist() == ["only 48 mm2 were marked; 100 are due"]  # type: ignore[union-attr]


def test_each_network_sees_its_own_window(tmp_path: Path) -> None:
    values = lumbar_files.scan_in_axial_order(lumbar_files.mask_in_axial_order())
    path = lumbar_files.write_nifti(tmp_path / "scan.nii", values)
    scan = ScreeningScan("scan_0000", "s", path, slices=((5, ""),), units="HU")
    wide = ScaleIntensityRange(-1000, 1000, 0, 1, clip=True)
    screening = engine([scan], scale_crop=wide)
    screening.run()
    # marked as before, and classified at 200 HU of -1000 to 1000
    assert screening.state.output.table["logit_normal"].tolist() == [pytest.approx(0.6, abs=0.01)]  # type: ignore[union-attr]


class Collect:
    """Handler: keep what the engine gives for each scan."""

    def __init__(self, outputs: list[Any]) -> None:
        self.outputs = outputs

    def attach(self, engine: Any) -> None:
        from ignite.engine import Events

        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: self.outputs.append(engine.state.output))
