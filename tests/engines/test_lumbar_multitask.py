from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.transforms import ScaleIntensityRange
from torch import nn

from bonemonai.data import list_screening_scans
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.engines import LumbarMultitask, ScreenedScan
from bonemonai.errors import BatchError, InputError, NumericalError
from bonemonai.networks import BoundaryPrediction, MultitaskNetwork, VertebraFusion, YOLOv3
from bonemonai.transforms import FitPlane, mask_boxes
from tests import lumbar_files

# as lumbar_files has them: bodies are slices 2 to 7 (L3), 10 to 15 (L2), 18 to 23 (L1), 3 mm apart
PAIR = ("L2", "L3")
CLASSES = ("normal", "low bone mass", "osteoporosis")
SIZE, CROP = 64, 64
ANCHORS = [(8 + n, 6 + n) for n in range(9)]


class BrightLocator(YOLOv3):
    """Finds what is brighter than 120 HU, and takes what is brighter than 220 HU for the lower vertebra."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__(classes, ANCHORS, width=1)

    def forward(self, image: torch.Tensor) -> Any:
        outputs = [torch.full((len(image), 3, SIZE // n, SIZE // n, 5 + self.num_classes), -20.0) for n in (8, 16, 32)]
        for number, box in enumerate(mask_boxes(image[:, 0] > 0.7)):
            if box.isnan().any():
                continue
            column, row = int((box[0] + box[2]) / 2 / 8), int((box[1] + box[3]) / 2 / 8)
            here = outputs[0][number, 0, row, column]
            here[:4] = self.encode(box[None], torch.tensor([[0, 0, row, column]]))[0]
            here[4] = 4.0
            here[5 + (int(image[number].max() > 0.95) if self.num_classes == 2 else 0)] = 4.0
        return tuple(outputs)


class BrightSegmenter(nn.Module):
    boundary, feature_channels = True, (1, 1, 1, 1)

    def forward(self, crop: torch.Tensor) -> BoundaryPrediction:
        inside = (crop > 0.7).float()
        return BoundaryPrediction(20 * inside - 10, inside / 2, (crop,) * 4)


class MeanGrey(nn.Module):
    channels, local_fusion = 2, False

    def forward(self, crop: torch.Tensor, features: Any = None) -> torch.Tensor:
        mean = crop.mean(dim=(1, 2, 3))
        return torch.stack([mean, 1 - mean], dim=1)


def network(classes: int = 2, **options: Any) -> MultitaskNetwork:
    parts: Any = (BrightLocator(classes), BrightSegmenter(), MeanGrey())
    torch.manual_seed(0)
    return MultitaskNetwork(*parts, VertebraFusion(2), **{"crop_size": CROP, **options})


def engine(scans: list[ScreeningScan], **options: Any) -> LumbarMultitask:
    settings: dict[str, Any] = {
        "network": network(), "classes": CLASSES, "fit": FitPlane(SIZE), "pair": PAIR, "levels": lumbar_files.LEVELS,
        "scale": ScaleIntensityRange(-160, 240, 0, 1, clip=True), "progress": False, "sw_batch_size": 5,
    }  # fmt: skip
    return LumbarMultitask(torch.device("cpu"), scans, **{**settings, **options})


def body(without: int = 0) -> np.ndarray:
    """L2 at 180 HU and L3 at 230 HU, other vertebrae being as dark as muscle; one may be left out."""
    mask = lumbar_files.mask_in_axial_order()
    scan = np.full(mask.shape, 40, dtype=np.int16)
    scan[mask == 21], scan[mask == 22] = 180, 230
    scan[mask == without] = 40
    return scan


def scan(folder: Path, without: int = 0, *, mask: bool = False, **entries: Any) -> ScreeningScan:
    image = lumbar_files.write_nifti(folder / "scan.nii", body(without))
    truth = lumbar_files.write_nifti(folder / "mask.nii", lumbar_files.mask_in_axial_order()) if mask else ""
    return ScreeningScan("scan_0000", "subject_00", image, mask=truth, units="HU", **entries)


def screened(one: ScreeningScan, **options: Any) -> ScreenedScan:
    run = engine([one], **options)
    run.run()
    found: ScreenedScan = run.state.output
    return found


def test_slices_are_found_along_the_axis(tmp_path: Path) -> None:
    found = screened(scan(tmp_path))
    assert found.chosen_by == "locator"
    assert found.table["level"].tolist() == ["L2", "L3"]
    # six slices each, 10 to 15 and 2 to 7; either of the middle two
    assert found.table["plane"][0] in (12, 13)
    assert found.table["plane"][1] in (4, 5)
    assert (found.table["refusal"] == "").all()
    assert found.table["box_score"].tolist() == pytest.approx([torch.tensor(4.0).sigmoid().item()] * 2)


def test_boxes_masks_and_heat_maps_lie_on_the_vertebra(tmp_path: Path) -> None:
    found = screened(scan(tmp_path, slices=((13, "L2"), (5, "L3")), mask=True))
    assert found.chosen_by == "manifest"
    truth = lumbar_files.mask_in_axial_order()
    for row in found.table.to_dict("records"):
        plane, value = row["plane"], lumbar_files.LEVELS[row["level"]]
        np.testing.assert_array_equal(found.marks[plane], truth[plane] == value)
        assert [row[name] for name in ("x1", "y1", "x2", "y2")] == pytest.approx([4, 8, 12, 14], abs=1e-4)
        np.testing.assert_allclose(found.heat_maps[plane], (truth[plane] == value) / 2)
        assert found.crops[plane].shape == (CROP, CROP)
        assert (row["tp"], row["fp"], row["fn"], row["area_mm2"]) == (48, 0, 0, 48.0)
    assert found.levels == {13: 21, 5: 22}
    assert found.marks.any((1, 2)).sum() == 2


def test_both_rows_hold_the_subjects_decision(tmp_path: Path) -> None:
    found = screened(scan(tmp_path))
    logits = found.table[[f"logit_{name}" for name in CLASSES]]
    assert logits.iloc[0].tolist() == logits.iloc[1].tolist()
    assert found.table["fusion_weight"].sum() == pytest.approx(1)
    assert 0 < found.table["fusion_weight"][0] < 1


@pytest.mark.parametrize(("without", "level", "other"), [(21, "L2", "L3"), (22, "L3", "L2")])
def test_a_missing_vertebra_is_said_and_never_guessed(tmp_path: Path, without: int, level: str, other: str) -> None:
    found = screened(scan(tmp_path, without))
    rows = found.table.set_index("level")
    assert rows.loc[level, "refusal"] == f"no slice of {level} was found"
    assert rows.loc[level, "plane"] == -1
    assert np.isnan(rows.loc[level, "logit_normal"])
    assert rows.loc[level, "fusion_weight"] == 0
    assert rows.loc[other, "refusal"] == ""
    assert rows.loc[other, "fusion_weight"] == 1
    assert np.isfinite(rows.loc[other, "logit_normal"])


def test_a_slice_that_was_chosen_and_shows_nothing(tmp_path: Path) -> None:
    found = screened(scan(tmp_path, 21, slices=((13, "L2"), (5, "L3"))))
    rows = found.table.set_index("level")
    assert rows.loc["L2", "refusal"] == "no box of L2 was found"
    assert rows.loc["L2", "plane"] == 13
    assert np.isnan(rows.loc["L2", "box_score"])
    assert rows.loc["L3", "fusion_weight"] == 1
    assert not found.marks[13].any()


def test_where_neither_is_found_nothing_is_decided(tmp_path: Path) -> None:
    path = lumbar_files.write_nifti(tmp_path / "scan.nii", np.full((24, 20, 16), 40, dtype=np.int16))
    found = screened(ScreeningScan("scan_0000", "subject_00", path, units="HU"), gradcam=True)
    assert found.table["refusal"].tolist() == ["no slice of L2 was found", "no slice of L3 was found"]
    assert found.table["logit_normal"].isna().all()
    assert found.tables["boxes"].empty
    assert not found.attention


def test_another_level_s_name_is_no_reason_to_miss_a_vertebra(tmp_path: Path) -> None:
    """A slice that is known to be the lower one's, which the locator takes for the upper one's."""
    found = screened(scan(tmp_path, slices=((5, "L2"), (13, "L3"))))
    assert (found.table["refusal"] == "").all()


def test_true_boxes_stand_beside_those_that_were_found(tmp_path: Path) -> None:
    boxes = screened(scan(tmp_path, slices=((13, "L2"), (5, "L3")), mask=True)).tables["boxes"]
    true = boxes[boxes["kind"] == "true"]
    assert true[["plane", "level"]].to_numpy().tolist() == [[13, "L2"], [13, "vertebra"], [5, "L3"], [5, "vertebra"]]
    assert true[["x1", "y1", "x2", "y2"]].drop_duplicates().to_numpy().tolist() == [[4, 8, 12, 14]]
    found = boxes[(boxes["kind"] == "found") & (boxes["score"] > 0.5)]
    assert sorted(found["level"]) == ["L2", "L3", "vertebra", "vertebra"]


def test_a_locator_of_one_class_needs_chosen_slices(tmp_path: Path) -> None:
    one = scan(tmp_path, mask=True)
    assert (screened(one, network=network(1)).table["refusal"] == "").all()  # slices by the mask
    with pytest.raises(InputError, match="a locator of one class tells no vertebra from another"):
        screened(one, network=network(1), choose=False)
    found = screened(dataclasses.replace(one, slices=((13, "L2"), (5, "L3"))), network=network(1))
    assert (found.table["refusal"] == "").all()
    assert set(found.tables["boxes"]["level"]) == {"L2", "L3", "vertebra"}


def test_of_several_chosen_slices_the_middle_one(tmp_path: Path) -> None:
    found = screened(scan(tmp_path, slices=((11, "L2"), (13, "L2"), (14, "L2"), (4, "L3"), (20, "L1"))))
    assert found.table["plane"].tolist() == [13, 4]


def test_masks_may_be_refined_and_measured(tmp_path: Path) -> None:
    calls: list[Any] = []

    def refine(mask: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        calls.append((tuple(mask.shape), tuple(image.shape), float(mask.max())))
        return torch.zeros_like(mask)

    def distances(truth: np.ndarray, predicted: np.ndarray, spacing: Any) -> dict[str, Any]:
        return {"hd95_mm": float(truth.sum() - predicted.sum()), "spacing": tuple(spacing)}

    found = screened(scan(tmp_path, slices=((13, "L2"),), mask=True), refine=refine, distances=distances)
    assert calls == [((1, CROP, CROP), (1, CROP, CROP), pytest.approx(1, abs=1e-4))]
    assert not found.marks.any()
    # one whose mask is empty was classified all the same
    assert found.table["pixels"].tolist() == [0, 0]
    assert found.table["refusal"].tolist() == ["", "no slice of L3 was chosen, or is shown whole"]
    assert found.table["hd95_mm"][0] == 48
    assert found.table["spacing"][0] == (1.0, 1.0)


def test_one_bad_scan_does_not_stop_the_others(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path, subjects=3)
    scans = list_screening_scans(path, levels=lumbar_files.LEVELS, per_level=1)
    lumbar_files.write_nifti(tmp_path / "scan1.nii", np.full((24, 20, 16), 900, dtype=np.int16))
    outputs: list[Any] = []
    run = engine(scans)
    run.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    with pytest.raises(BatchError, match=r"1 of 3 scans: failed: scan_0001"):
        run.run()
    assert [found is None for found in outputs] == [False, True, False]


def test_numbers_that_are_none_stop_the_scan(tmp_path: Path) -> None:
    broken = network()
    broken.fusion.fc.weight.data[:] = torch.nan
    with pytest.raises(NumericalError, match="a network gave NaN or infinity"):
        screened(scan(tmp_path), network=broken)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="pair must be two of"):
        engine([], pair=("L2", "T12"))
    with pytest.raises(ValueError, match="sw_batch_size must be >= 1"):
        engine([], sw_batch_size=0)
