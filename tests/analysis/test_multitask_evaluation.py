from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis import (
    MULTITASK_FILES,
    ScreeningResults,
    pool_multitask_folds,
    slice_boundary_distances,
    vertebra_distances,
    write_multitask_scores,
)
from bonemonai.data import list_screening_scans
from bonemonai.errors import InputError, OutputError
from tests import lumbar_files
from tests.engines.test_lumbar_multitask import CLASSES, body, engine, network

ABOUT = {"weights": {"sha256": "ab"}}


def evaluated(folder: Path, subjects: int = 6, **options: Any) -> Path:
    """Screen phantoms of which the network of the tests finds and outlines all, but for what ``without`` says."""
    without = options.pop("without", {})
    labelled = options.pop("labelled", True)
    path = lumbar_files.write_manifest(folder, subjects)
    for number in range(subjects):
        lumbar_files.write_nifti(folder / f"scan{number}.nii", body(without.get(number, 0)))
    if not labelled:
        pd.read_csv(path).drop(columns="label").to_csv(path, index=False)
    scans = list_screening_scans(path, levels=lumbar_files.LEVELS, by_mask=False)
    out = folder / "out"
    writer = ScreeningResults(out, about=ABOUT, algorithm="test")
    engine(scans, writer=writer, distances=vertebra_distances, **options).run()
    return out


def test_perfect_boxes_and_masks(tmp_path: Path) -> None:
    out = evaluated(tmp_path)
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    assert all((out / name).is_file() for name in MULTITASK_FILES)
    precision = pd.read_csv(out / "average_precision.csv")
    assert precision["class"].tolist() == ["L2", "L2", "L3", "L3", "all", "all", "vertebra", "vertebra"]
    assert precision["average_precision"].tolist() == pytest.approx([1.0] * 8)
    assert precision.set_index("class").loc["vertebra", "boxes"].tolist() == [12, 12]
    distances = pd.read_csv(out / "boundary_scores.csv").set_index("metric")
    assert distances.loc["hd95_mm", "mean_mm"] == 0
    assert distances.loc["hd95_mm", "slices"] == 12
    overlaps = pd.read_csv(out / "overlap_scores.csv").set_index(["level", "metric"])
    assert overlaps.loc[("subject", "dice_index"), "value"] == 1
    assert json.loads((out / "results.json").read_text())["model"] == "joint"


def test_subjects_of_which_nothing_was_found_count_as_wrong(tmp_path: Path) -> None:
    out = evaluated(tmp_path)
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    before = pd.read_csv(out / "one_vs_rest.csv").set_index(["class", "convention"])
    table = pd.read_csv(out / "predictions.csv", keep_default_na=False, dtype=str)
    called = pd.read_csv(out / "subjects.csv")["decision"].iloc[0]
    # all subjects have one decision, the network being untrained: the one of that condition is lost
    subject = table.loc[table["diagnosis"] == called, "subject"].iloc[0]
    lost = table["subject"] == subject
    table.loc[lost, "refusal"] = "no box was found"
    table.loc[lost, [f"logit_{name}" for name in CLASSES]] = ""
    table.loc[lost, [f"probability_{name}" for name in CLASSES]] = ""
    table.to_csv(out / "predictions.csv", index=False)
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    after = pd.read_csv(out / "one_vs_rest.csv").set_index(["class", "convention"])
    assert before.loc[(called, "usual"), "sensitivity"] == 1
    assert after.loc[(called, "usual"), "sensitivity"] == 0.5
    assert after.loc[(called, "usual"), "accuracy"] == pytest.approx(
        before.loc[(called, "usual"), "accuracy"] - 1 / 6, abs=1e-5
    )


def test_a_vertebra_that_was_missed_costs_precision_and_has_no_distance(tmp_path: Path) -> None:
    out = evaluated(tmp_path, without={2: 21})
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    precision = pd.read_csv(out / "average_precision.csv").set_index(["class", "iou"])
    assert precision.loc[("L2", "0.50"), "average_precision"] < 0.9
    assert precision.loc[("L3", "0.50"), "average_precision"] == pytest.approx(1)
    distances = pd.read_csv(out / "boundary_scores.csv").set_index("metric")
    assert distances.loc["hd95_mm", ["slices", "empty_prediction"]].tolist() == [11, 1]


def test_a_vertebra_that_the_search_missed_counts_as_missed(tmp_path: Path) -> None:
    """No slice of it was found: the truth has one all the same."""
    out = evaluated(tmp_path, without={2: 21}, choose=False)
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    table = pd.read_csv(out / "predictions.csv")
    lost = table[table["plane"] == -1]
    assert lost[["level", "tp", "fp", "fn"]].to_numpy().tolist() == [["L2", 0, 0, 48]]
    precision = pd.read_csv(out / "average_precision.csv").set_index(["class", "iou"])
    assert precision.loc[("L2", "0.50"), "boxes"] == 6
    assert precision.loc[("L2", "0.50"), "average_precision"] < 0.9
    distances = pd.read_csv(out / "boundary_scores.csv").set_index("metric")
    assert distances.loc["hd95_mm", "empty_prediction"] == 1
    overlaps = pd.read_csv(out / "overlap_scores.csv").set_index(["level", "metric"])
    assert overlaps.loc[("slice", "dice_index"), "value"] == pytest.approx(11 / 12)


def test_scans_without_a_mask_cost_no_precision(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path, 6)
    rows = pd.read_csv(path)
    rows.loc[0, "mask"] = ""
    rows.to_csv(path, index=False)
    for number in range(6):
        lumbar_files.write_nifti(tmp_path / f"scan{number}.nii", body())
    out = tmp_path / "out"
    writer = ScreeningResults(out, about=ABOUT)
    engine(list_screening_scans(path, levels=lumbar_files.LEVELS, by_mask=False), writer=writer,
           distances=vertebra_distances).run()  # fmt: skip
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    precision = pd.read_csv(out / "average_precision.csv")
    assert precision["average_precision"].tolist() == pytest.approx([1.0] * 8)
    assert precision["boxes"].tolist() == [5, 5, 5, 5, 10, 10, 10, 10]


def test_a_network_that_finds_nothing_is_scored_as_such(tmp_path: Path) -> None:
    out = evaluated(tmp_path, network=network(score_threshold=1.0))
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    table = pd.read_csv(out / "one_vs_rest.csv").set_index(["class", "convention"])
    assert table.loc[("normal", "usual"), "sensitivity"] == 0
    scores = pd.read_csv(out / "scores.csv")
    assert scores[["metric", "value", "lost"]].to_numpy().tolist() == [["accuracy", 0.0, 6]]
    overlaps = pd.read_csv(out / "overlap_scores.csv")
    assert (overlaps["value"] == 0).all()


def test_two_vertebrae_are_one_decision(tmp_path: Path) -> None:
    out = evaluated(tmp_path, without={2: 21})
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    scores = pd.read_csv(out / "scores.csv")
    assert set(scores["images"]) == {6}
    assert set(scores["refused"]) == {0}
    assert pd.read_csv(out / "calibration.csv")["patches"].tolist()[0] == 6


def test_results_of_an_earlier_screening_go_with_it(tmp_path: Path) -> None:
    out = evaluated(tmp_path)
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    (out / "gradcam_examples.npz").write_bytes(b"of an earlier run")
    for name in ("predictions.csv", "screening.csv", "subjects_screened.csv", "results.json", "boxes.csv"):
        (out / name).unlink()
    with pytest.raises(OutputError, match="exists already"):
        ScreeningResults(out, about=ABOUT).start([])
    ScreeningResults(out, about=ABOUT, overwrite=True).start([])
    assert not [name for name in (*MULTITASK_FILES, "gradcam_examples.npz") if (out / name).exists()]


def test_folds_are_pooled_once(tmp_path: Path) -> None:
    folds = [evaluated(tmp_path / name, subjects=3) for name in ("a", "b") if not (tmp_path / name).mkdir()]
    with pytest.raises(InputError, match="tested scan_0000 twice"):
        pool_multitask_folds(tmp_path, folds, pair=("L2", "L3"))
    for name in ("predictions.csv", "boxes.csv"):
        table = pd.read_csv(folds[1] / name, dtype=str, keep_default_na=False)
        for column in ("scan", "subject"):
            table[column] = table[column] + "0"
        table.to_csv(folds[1] / name, index=False)
    pool_multitask_folds(tmp_path, folds, pair=("L2", "L3"))
    assert len(pd.read_csv(tmp_path / "subjects.csv")) == 6
    assert json.loads((tmp_path / "results.json").read_text())["weights_of_folds"] == [{"sha256": "ab"}] * 2


def test_scans_without_conditions_have_scores_of_boxes_and_masks_only(tmp_path: Path) -> None:
    out = evaluated(tmp_path, labelled=False)
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    assert not (out / "one_vs_rest.csv").exists()
    assert not (out / "scores.csv").exists()
    assert (out / "average_precision.csv").exists()


def test_scores_of_an_earlier_evaluation_are_removed(tmp_path: Path) -> None:
    out = evaluated(tmp_path)
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    table = pd.read_csv(out / "predictions.csv").drop(columns=["tp", "fp", "fn"])
    table.to_csv(out / "predictions.csv", index=False)
    write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))
    assert not (out / "average_precision.csv").exists()
    assert not (out / "boundary_scores.csv").exists()
    assert (out / "one_vs_rest.csv").exists()


@pytest.mark.parametrize(("content", "words"), [("a,b\n1,2\n", "has no column scan"), (None, "is no table of boxes")])
def test_damaged_boxes_are_refused(tmp_path: Path, content: str | None, words: str) -> None:
    out = evaluated(tmp_path)
    if content is None:
        (out / "boxes.csv").unlink()
    else:
        (out / "boxes.csv").write_text(content)
    with pytest.raises(InputError, match=words):
        write_multitask_scores(out, about=ABOUT, pair=("L2", "L3"))


def test_distances_are_those_of_the_slice() -> None:
    one, other = np.zeros((2, 12, 12), dtype=bool)
    one[2:7, 2:7], other[2:7, 3:8] = True, True
    row = slice_boundary_distances("", [one], [other], spacing_mm=(0.5, 2.0)).iloc[0]
    found = vertebra_distances(one, other, (0.5, 2.0))
    assert found == {name: row[name] for name in ("empty", "hd95_mm", "mean_surface_distance_mm")}
    assert found["hd95_mm"] == 2.0


def test_marks_of_vertebrae_that_are_told_apart_have_their_own_values(tmp_path: Path) -> None:
    import nibabel

    out = evaluated(tmp_path, subjects=3)
    mark = np.asarray(nibabel.load(out / "scan_0000" / "mark.nii.gz").dataobj)
    truth = np.asarray(nibabel.load(tmp_path / "mask0.nii").dataobj)
    marked = mark > 0
    np.testing.assert_array_equal(mark[marked], truth[marked])
    assert set(np.unique(mark)) == {0, 21, 22}
    heat = np.asarray(nibabel.load(out / "scan_0000" / "boundary.nii.gz").dataobj)
    assert set(np.unique(heat[marked])) == {50}
    record = json.loads((out / "scan_0000" / "screening.json").read_text())
    assert [one["level"] for one in record["vertebrae"]] == ["L2", "L3"]
    assert record["vertebrae"][0]["x1"] == pytest.approx(4, abs=1e-4)
