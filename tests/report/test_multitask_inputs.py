from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis import SCREENING_CLASSES, one_vs_rest_table
from bonemonai.errors import InputError
from bonemonai.report.multitask_inputs import (
    ablation_name,
    learning_rate_name,
    read_ablation,
    read_learning_rates,
    read_models,
)
from tests.report.multitask_runs import boundary, examples, precision, write_multitask_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_multitask_run(tmp_path_factory.mktemp("runs") / "run", per_class=4, slices=2)


@pytest.fixture
def folder(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


def test_models_in_the_paper_s_order(run: Path, folder: Path) -> None:
    (folder / "results.json").unlink()
    found = read_models({"own": folder, "shufflenet": folder, "alexnet": folder, "joint": run})
    assert [each.name for each in found] == ["joint", "alexnet", "shufflenet", "own"]
    assert [each.title for each in found] == ["Joint framework", "AlexNet", "ShuffleNet", "own"]
    assert read_models(None) == read_learning_rates({}) == read_ablation("") == []  # type: ignore[arg-type]


def test_an_evaluation_is_read_whole(run: Path) -> None:
    (each,) = read_models({"joint": run})
    assert each.precision is not None
    pd.testing.assert_frame_equal(each.precision, precision(), check_dtype=False)
    assert each.boundary is not None
    pd.testing.assert_frame_equal(each.boundary, boundary(), check_dtype=False)
    assert each.overlap_slices is not None
    assert len(each.overlap_slices) == 12 * 2
    assert each.one_vs_rest is not None
    counts = pd.read_csv(run / "confusion_subject.csv", index_col="diagnosis")
    pd.testing.assert_frame_equal(each.one_vs_rest, one_vs_rest_table(counts), rtol=1e-5)
    wanted = examples()
    for number, case in enumerate(each.examples):
        np.testing.assert_array_equal(case.image, wanted["image"][number])
        np.testing.assert_array_equal(case.heat, wanted["map"][number])
        assert (case.diagnosis, case.right) == (wanted["diagnosis"][number], wanted["right"][number])
    assert len(each.examples) == 12


def test_copies_of_slices_are_left_out(folder: Path) -> None:
    table = pd.read_csv(folder / "overlap_slices.csv")
    pd.concat([table, table.assign(copy=1, iou=0.0)]).to_csv(folder / "overlap_slices.csv", index=False)
    (each,) = read_models({"joint": folder})
    assert each.overlap_slices is not None
    assert len(each.overlap_slices) == len(table)


def test_kinds_of_data_are_those_of_the_networks_that_are_there(run: Path, folder: Path) -> None:
    """One network of all tasks has no card of a segmentation, and so none of unknown kind."""
    (each,) = read_models({"joint": run})
    assert [card["trained_on"]["kind"] for card in each.screening.of_data["weights_of_folds"]] == ["synthetic"]
    record = pd.read_json(folder / "results.json", typ="series")
    record["locator"] = {"trained_on": {"kind": "clinical"}}
    record.to_json(folder / "results.json")
    (each,) = read_models({"joint": folder})
    kinds = {card["trained_on"]["kind"] for card in each.screening.of_data["weights_of_folds"]}
    assert kinds == {"synthetic", "clinical"}


def test_scores_come_from_the_counts_where_they_have_no_file(folder: Path) -> None:
    (before,) = read_models({"joint": folder})
    (folder / "one_vs_rest.csv").unlink()
    (after,) = read_models({"joint": folder})
    assert before.one_vs_rest is not None
    assert after.one_vs_rest is not None
    pd.testing.assert_frame_equal(before.one_vs_rest, after.one_vs_rest, rtol=1e-5)
    (folder / "confusion_subject.csv").unlink()
    assert read_models({"joint": folder})[0].one_vs_rest is None


def test_scores_that_do_not_fit_the_counts_are_refused(folder: Path) -> None:
    table = pd.read_csv(folder / "one_vs_rest.csv")
    table.loc[0, "f1"] -= 0.01
    table.to_csv(folder / "one_vs_rest.csv", index=False)
    with pytest.raises(InputError, match=r"one_vs_rest\.csv: does not fit the counts in confusion_subject\.csv"):
        read_models({"joint": folder})


def lose_a_subject(folder: Path) -> np.ndarray:
    """One with osteoporosis of whom no vertebra is found: in the file, not in the counts."""
    counts = pd.read_csv(folder / "confusion_subject.csv", index_col="diagnosis")
    scores = pd.read_csv(folder / "scores.csv")
    scores.assign(lost=1).to_csv(folder / "scores.csv", index=False)
    every = counts.assign(undecided=[0, 0, 1])
    one_vs_rest_table(every).to_csv(folder / "one_vs_rest.csv", index=False, float_format="%.6g")
    return every.to_numpy()


def test_subjects_that_were_lost_count_as_wrong(folder: Path) -> None:
    """Counts lack them; without the file their conditions are not known, and nothing is made up."""
    values = lose_a_subject(folder)
    (each,) = read_models({"joint": folder})
    assert each.lost == 1
    assert each.one_vs_rest is not None
    own = each.one_vs_rest.set_index(["class", "convention"])["sensitivity"]["osteoporosis", "usual"]
    assert own == pytest.approx(values[2, 2] / (values[2].sum()), abs=1e-5)
    (folder / "one_vs_rest.csv").unlink()
    assert read_models({"joint": folder})[0].one_vs_rest is None


def test_counts_that_are_none_are_refused_by_file(folder: Path) -> None:
    table = pd.read_csv(folder / "confusion_subject.csv")
    table.assign(normal=0.5).to_csv(folder / "confusion_subject.csv", index=False)
    with pytest.raises(InputError, match=r"confusion_subject\.csv: hold what is no count"):
        read_models({"joint": folder})


@pytest.mark.parametrize(
    "name",
    ["one_vs_rest.csv", "average_precision.csv", "boundary_scores.csv", "overlap_slices.csv", "gradcam_examples.npz"],
)
def test_a_file_that_is_not_there_is_nothing_and_a_broken_one_is_refused(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    read_models({"joint": folder})
    for content in (b"\xff\xfe\x00broken", b"a,b\n1,2,3\n4\n", b"", b"a,b\n1,2\n", whole[: len(whole) // 2] + b"\xff"):
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name.split('.')[0]}\.(csv|npz): ") as caught:
            read_models({"joint": folder})
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("evaluate the model again.")


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [("one_vs_rest.csv", "class", "normal"), ("one_vs_rest.csv", "convention", "other"), ("one_vs_rest.csv", "f1", 1.5),
     ("average_precision.csv", "average_precision", -0.1), ("average_precision.csv", "boxes", "many"),
     ("boundary_scores.csv", "metric", "hd95_mm"), ("boundary_scores.csv", "mean_mm", "far")],
)  # fmt: skip
def test_what_is_no_number_or_no_class_is_refused(folder: Path, name: str, column: str, value: Any) -> None:
    (folder / "confusion_subject.csv").unlink()
    pd.read_csv(folder / name).assign(**{column: value}).to_csv(folder / name, index=False)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        read_models({"joint": folder})


def _short(given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "decision": given["decision"][:-1]}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda given: {**given, "map": given["map"][:, :1]}, r"shapes \(12, 2, 32, 32\) and \(12, 1, 32, 32\)"),
        (lambda given: {**given, "image": given["image"][..., 0], "map": given["map"][..., 0]}, "must be"),
        (_short, "not as many as their images"),
        (lambda given: {**given, "map": -given["map"]}, r"map has values outside \[0, 1\]"),
        (lambda given: {**given, "image": given["image"] * np.nan}, r"image has values outside \[0, 1\]"),
        (lambda given: {**given, "diagnosis": np.full(12, "osteopenia")}, "diagnosis names 'osteopenia'"),
        (lambda given: {**given, "right": ~given["right"]}, "right does not say"),
        (lambda given: {**given, "right": given["right"].astype(int)}, "right does not say"),
        (lambda given: {name: value for name, value in given.items() if name != "subject"}, "subject"),
        (lambda given: {**given, "subject": given["subject"].astype(object)}, "allow_pickle"),
    ],
)
def test_examples_that_do_not_fit_are_refused(folder: Path, change: Callable[[Any], Any], cause: str) -> None:
    np.savez(folder / "gradcam_examples.npz", **change(examples()))
    with pytest.raises(InputError, match=rf"gradcam_examples\.npz: holds no Grad-CAM examples: .*{cause}"):
        read_models({"joint": folder})


def test_undecided_is_a_wrong_decision(folder: Path) -> None:
    given = examples()
    given["decision"] = np.where(given["right"], given["decision"], "undecided")
    np.savez(folder / "gradcam_examples.npz", **given)
    (each,) = read_models({"joint": folder})
    assert {case.decision for case in each.examples if not case.right} == {"undecided"}


def test_names_of_settings() -> None:
    assert [learning_rate_name(key) for key in (0.1, "1e-2", 0.001, "0.0001", 1e-5)] == [
        "0.1", "0.01", "0.001", "0.0001", "0.00001",
    ]  # fmt: skip
    for wrong in ("fast", 0, -1, float("nan"), None):
        with pytest.raises(InputError, match="learning_rates: has the name"):
            learning_rate_name(wrong)
    assert ablation_name("FF + GC") == "GC+FF"
    for wrong in ("", "LF+LF", "LF+none", "lf", "LF,GC"):
        with pytest.raises(InputError, match="ablation: has the name"):
            ablation_name(wrong)


def test_settings_come_in_the_paper_s_order(run: Path) -> None:
    rates = read_learning_rates({1e-5: run, "0.0005": run, 0.1: run, "0.02": run})  # type: ignore[dict-item]
    assert [each.name for each in rates] == ["0.1", "0.00001", "0.02", "0.0005"]
    assert rates[-1].title == "learning rate 0.0005"
    modules = read_ablation({"FF+LF": run, "none": run})
    assert [(each.name, each.title) for each in modules] == [("none", "ablation none"), ("LF+FF", "ablation LF+FF")]


def test_folders_that_are_none_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results: must be model to folder, as in \{'joint': FOLDER\}"):
        read_models("folder")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"ablation LF: .* is no folder"):
        read_ablation({"LF": tmp_path / "no"})
    with pytest.raises(InputError, match="holds no evaluation"):
        read_learning_rates({"0.1": tmp_path})
    with pytest.raises(InputError, match="holds results of 'joint', not of 'alexnet'"):
        read_models({"alexnet": run})
    with pytest.raises(InputError, match=r"learning_rates: has 0\.001 twice"):
        read_learning_rates({"0.001": run, 1e-3: run})  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"ablation: has LF\+GC twice"):
        read_ablation({"LF+GC": run, "GC+LF": run})
    with pytest.raises(InputError, match="two models that a reader would meet as Joint framework"):
        read_models({"joint": run, "Joint framework": run})


def test_settings_are_of_the_joint_model(tmp_path: Path) -> None:
    other = write_multitask_run(tmp_path / "other", "vgg19", per_class=3, slices=2)
    assert read_models({"ours": other})[0].title == "ours"
    for read, key in ((read_learning_rates, "0.1"), (read_ablation, "LF")):
        with pytest.raises(InputError, match="holds results of 'vgg19', not of 'joint'"):
            read({key: other})


def test_classes_are_in_the_screening_s_order(folder: Path) -> None:
    table = pd.read_csv(folder / "one_vs_rest.csv")
    table.iloc[::-1].to_csv(folder / "one_vs_rest.csv", index=False)
    (each,) = read_models({"joint": folder})
    assert each.one_vs_rest is not None
    assert each.one_vs_rest["class"].tolist() == [name for name in SCREENING_CLASSES for _ in range(2)]
