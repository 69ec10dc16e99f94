from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonemonai.errors import InputError
from bonemonai.report.attention_inputs import METRICS, model_folders, model_title, read_classifier, read_dsc
from bonemonai.report.lacuna_report import PAPER_TABLE_1A
from tests.report.evaluations import CLASSES, write_cross_validation, write_evaluation, write_segmentation


def test_models_come_in_the_papers_order_and_others_after_them(tmp_path: Path) -> None:
    for name in (given := ["swin", "mga", "convnext", "resnet50", "alexnet", "vgg16"]):
        (tmp_path / name).mkdir()
    folders = model_folders({name: str(tmp_path / name) for name in given}, "classification")
    assert list(folders) == ["resnet50", "alexnet", "vgg16", "mga", "swin", "convnext"]
    assert folders["mga"] == tmp_path / "mga"
    assert model_folders(None, "segmentation") == {}


def test_titles_are_the_papers() -> None:
    rows = [row[0].removesuffix(', "ours"') for row in PAPER_TABLE_1A]
    assert [model_title(name) for name in ("vgg16-1", "unet-1", "vgg16-2", "unet-2")] == rows
    assert [model_title(name) for name in ("mga", "swin")] == ["MGA", "swin"]


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "nowhere", tmp_path / "file", None, 3):
        with pytest.raises(InputError, match=r"segmentation unet-1: .* is no folder"):
            model_folders({"unet-1": wrong}, "segmentation")  # type: ignore[dict-item]
    with pytest.raises(InputError, match="classification: must be model name to folder"):
        model_folders(str(tmp_path), "classification")  # type: ignore[arg-type]


def test_evaluation_is_read_as_it_lies_there(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "mga")
    model = read_classifier(folder, CLASSES, None)
    assert model.record["weights"]["sha256"] == "0" * 64
    expected = pd.read_csv(folder / "scores.csv")
    columns = ["level", "metric", "value", "low", "high"]
    pd.testing.assert_frame_equal(model.scores[columns], expected[columns], check_dtype=False)
    assert set(model.scores["metric"]) == set(METRICS)
    assert model.folds.empty
    patch = pd.read_csv(folder / "confusion_patch.csv", index_col="diagnosis")
    assert model.confusion["patch"].loc["osteoporotic", "healthy"] == patch.loc["osteoporotic", "healthy"]
    assert (list(model.calibration), len(model.curves), len(model.examples)) == ([""], 1, 12)
    with np.load(folder / "gradcam_examples.npz") as stored:
        for number, example in enumerate(model.examples):
            assert example["fold"] == ""
            assert example["subject"] == stored["subject"][number]
            for name in ("image", "mask", "map"):
                np.testing.assert_array_equal(example[name], stored[name][number])


def test_folds_keep_their_names(tmp_path: Path) -> None:
    model = read_classifier(write_cross_validation(tmp_path / "cv", "mga"), CLASSES, None)
    names = ["fold_00", "fold_01", "fold_02"]
    assert list(dict.fromkeys(model.folds["fold"])) == list(model.calibration) == names
    assert [example["fold"] for example in model.examples[::4]] == names
    assert len(model.curves) == 3


def test_classes_come_in_the_order_asked_for(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "mga")
    one, other = (read_classifier(folder, classes, None).confusion["patch"] for classes in (CLASSES, CLASSES[::-1]))
    assert list(other.index) == list(other.columns[:2]) == CLASSES[::-1]
    pd.testing.assert_frame_equal(other.loc[CLASSES, CLASSES], one[CLASSES])


def test_names_that_pandas_takes_for_missing_stay_names(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "mga")
    patients = pd.read_csv(folder / "patients.csv", dtype=str)
    patients.loc[0, ["subject", "patches"]] = ["NA", ""]
    patients.to_csv(folder / "patients.csv", index=False)
    row = read_classifier(folder, CLASSES, None).patients.iloc[0]
    assert row["subject"] == "NA"
    assert math.isnan(row["patches"])


def test_curve_is_the_models_own(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "mga")
    usual = folder / "model.curve.csv"
    elsewhere = tmp_path / "weights.curve.csv"
    elsewhere.write_text("epoch,loss\n1,0.25\n")
    (given,) = read_classifier(folder, CLASSES, elsewhere).curves
    assert given.to_dict("records") == [{"epoch": 1, "loss": 0.25}]
    shutil.copy(elsewhere, folder / "a.curve.csv")
    (found,) = read_classifier(folder, CLASSES, None).curves
    assert len(found) == 20, "the usual name goes before others"
    usual.unlink()
    (found,) = read_classifier(folder, CLASSES, None).curves
    assert len(found) == 1
    shutil.copy(elsewhere, folder / "b.curve.csv")
    assert read_classifier(folder, CLASSES, None).curves == [], "two curves: whose is it?"


def test_dsc(tmp_path: Path) -> None:
    assert read_dsc(write_segmentation(tmp_path / "one", 0.61234, 0.98765) / "metrics.csv") == (0.61234, 0.98765)
    lacunae, background = read_dsc(write_segmentation(tmp_path / "two", math.nan, 0.9) / "metrics.csv")
    assert math.isnan(lacunae)
    assert background == 0.9
    path = tmp_path / "metrics.csv"
    with pytest.raises(InputError, match=r"metrics\.csv: is not there"):
        read_dsc(path)
    path.write_text("loss,0.5\n")
    with pytest.raises(InputError, match=r"metrics\.csv: has no lacuna_dsc"):
        read_dsc(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores.csv", None, r"scores\.csv: is not there"),
        ("patients.csv", "", r"patients\.csv: cannot be read as a table"),
        ("results.json", "[]", r"results\.json: is not there, or is no JSON object"),
        ("confusion_patch.csv", "diagnosis,a,b\na,1,2\nb,3,4\n", r"confusion_patch\.csv: has no column healthy, osteo"),
        (
            "confusion_patient.csv",
            "diagnosis,healthy,osteoporotic\nhealthy,1,2\n",
            "is of healthy; the report's classes",
        ),
        ("scores.csv", "level,metric,value,low,high,patches,patients\npatch,f1,1,,,1,1\n", "must hold each score once"),
        ("scores.csv", "level,metric,value,low,high,patches,patients\npatch,f1,x,,,1,1\n", "could not convert string"),
        ("gradcam_examples.npz", "no archive", r"gradcam_examples\.npz: holds no Grad-CAM examples"),
        ("model.curve.csv", "epoch\n1\n", r"model\.curve\.csv: has no column loss"),
    ],
)
def test_damaged_folders_are_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    folder = write_evaluation(tmp_path / "run", "mga")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_classifier(folder, CLASSES, None)
    assert len(str(caught.value).splitlines()) == 1


def test_examples_of_different_shapes_are_refused(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "mga")
    with np.load(folder / "gradcam_examples.npz") as stored:
        arrays = dict(stored)
    np.savez(folder / "gradcam_examples.npz", **{**arrays, "map": arrays["map"][:, ::2]})
    with pytest.raises(
        InputError, match=r"gradcam_examples\.npz: holds no Grad-CAM examples: image, mask and map have"
    ):
        read_classifier(folder, CLASSES, None)
