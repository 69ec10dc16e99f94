from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis import SCREENING_CLASSES, expected_calibration_error, read_screening_predictions
from bonemonai.errors import InputError
from bonemonai.report.screening_inputs import read_curves, read_screenings, reliability
from tests.report.screening_runs import predict, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", temperature=2.0, copies=1, per_class=4, slices=3)


def test_models_in_the_paper_s_order(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    (other / "results.json").unlink()
    found = read_screenings({"own": other, "densenet121": other, "densenet_1": other, "bcc_net": run})
    assert [each.name for each in found] == ["bcc_net", "densenet_1", "densenet121", "own"]
    assert [each.title for each in found] == ["BCC-Net", "DenseNet-1", "DenseNet-121", "own"]


def test_an_evaluation_is_read_whole(run: Path) -> None:
    (each,) = read_screenings({"bcc_net": run})
    assert each.scores is not None
    assert set(each.scores["level"]) == {"subject", "slice", "image"}
    assert each.overlaps is not None
    assert set(each.overlaps["level"]) == {"subject", "slice", "image"}
    assert list(each.confusion) == ["subject", "slice", "image"]
    assert each.confusion["subject"].index.tolist() == list(SCREENING_CLASSES)
    assert each.confusion["subject"].to_numpy().sum() == 12
    assert each.reliability is not None
    assert each.of_data["tested_on"] == "synthetic"
    kinds = [card["trained_on"]["kind"] for card in each.of_data["weights_of_folds"]]
    assert kinds == ["synthetic", "synthetic"]


def test_reliability_is_that_of_the_calibration_error(run: Path) -> None:
    """The gaps of the bins, weighted by their slices, are the error."""
    predictions = read_screening_predictions(run / "predictions.csv")
    table = reliability(predictions, 2.0)
    own = predictions[(predictions["copy"] == 0) & (predictions["refusal"] == "")]
    logits = own[[f"logit_{name}" for name in SCREENING_CLASSES]].to_numpy()
    labels = own["diagnosis"].map(list(SCREENING_CLASSES).index).to_numpy()
    for stage, temperature in (("before", 1.0), ("after", 2.0)):
        rows = table[table["stage"] == stage]
        assert rows["slices"].sum() == len(labels)
        gap = ((rows["confidence"] - rows["accuracy"]).abs() * rows["slices"]).sum() / len(labels)
        exponents = np.exp(logits / temperature)
        values = exponents / exponents.sum(axis=1, keepdims=True)
        assert gap == pytest.approx(expected_calibration_error(values, labels, bins=10))
    assert set(reliability(predictions, 1.0)["stage"]) == set(reliability(predictions, None)["stage"]) == {"before"}
    assert reliability(predict().assign(diagnosis=""), 2.0).empty


@pytest.mark.parametrize(
    "name",
    ["results.json", "scores.csv", "overlap_scores.csv", "overlap_histogram.csv", "confusion_subject.csv", "roc.csv",
     "subjects.csv", "coverage.csv", "calibration.csv", "predictions.csv"],
)  # fmt: skip
def test_a_file_that_is_not_there_is_nothing_and_a_broken_one_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / name).unlink()
    read_screenings({"bcc_net": folder})
    for content in (b"\xff\xfe\x00broken", b"a,b\n1,2,3\n4\n", b"", b"a,b\n1,2\n"):
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name.split('.')[0]}\.(csv|json): ") as caught:
            read_screenings({"bcc_net": folder})
        assert "\n" not in str(caught.value).strip()
        assert "again" in str(caught.value) or name == "predictions.csv"


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [("scores.csv", "value", "high"), ("coverage.csv", "accuracy", "?"), ("confusion_slice.csv", "normal", "-1"),
     ("confusion_slice.csv", "diagnosis", "normal"), ("predictions.csv", "logit_normal", "much")],
)  # fmt: skip
def test_what_is_no_number_or_no_class_is_refused(
    run: Path, tmp_path: Path, name: str, column: str, value: str
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    pd.read_csv(folder / name).assign(**{column: value}).to_csv(folder / name, index=False)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        read_screenings({"bcc_net": folder})


def test_folders_that_are_none_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results: must be model to folder"):
        read_screenings("folder")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"results bcc_net: .* is no folder"):
        read_screenings({"bcc_net": tmp_path / "no"})
    with pytest.raises(InputError, match="holds no evaluation; evaluate the model again"):
        read_screenings({"bcc_net": tmp_path})
    with pytest.raises(InputError, match="holds results of 'bcc_net', not of 'densenet_1'"):
        read_screenings({"densenet_1": run})
    assert read_screenings({"ours": run})[0].title == "ours"


def test_learning_curves(tmp_path: Path) -> None:
    path = tmp_path / "a.curve.csv"
    pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.4], "mark_dice": [np.nan, 0.9]}).to_csv(path, index=False)
    assert read_curves(None) == read_curves("") == {}
    curves = read_curves({"MS-Net": path})
    assert curves["MS-Net"].columns.tolist() == ["epoch", "loss", "mark_dice"]
    assert curves["MS-Net"]["mark_dice"].isna().tolist() == [True, False]
    assert list(read_curves(path)) == [""]
    with pytest.raises(InputError, match=r"no\.csv: is not there; give the \.curve\.csv that training wrote"):
        read_curves(tmp_path / "no.csv")
    path.write_text("epoch,accuracy\n1,0.5\n")
    with pytest.raises(InputError, match="has no column loss"):
        read_curves(path)
