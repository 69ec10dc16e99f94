from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

from bonemonai.analysis import (
    SCREENING_CLASSES,
    ScreeningResults,
    calibrate_screening,
    expected_calibration_error,
    fit_temperature,
    read_screening_predictions,
    score_overlaps,
    score_screening,
    screening_confusion,
    write_screening_scores,
)
from bonemonai.analysis.screening_evaluation import SCORE_FILES
from bonemonai.data import list_screening_scans
from bonemonai.engines import weights_card
from bonemonai.errors import InputError
from tests import lumbar_files
from tests.engines.test_lumbar_screening import engine
from tests.report.screening_runs import predict, write_run

LOGITS = [f"logit_{name}" for name in SCREENING_CLASSES]
COPIES = ("scores_with_copies.csv", "confusion_image.csv", "overlap_scores_with_copies.csv")
MASKS = ("overlap_slices.csv", "overlap_subjects.csv", "overlap_scores.csv", "overlap_histogram.csv")


def own(table: pd.DataFrame) -> pd.DataFrame:
    """Classified slices, no copies."""
    return table[(table["copy"] == 0) & (table["refusal"] == "")]


def known(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Logits and index of the true class."""
    return table[LOGITS].to_numpy(), table["diagnosis"].map(list(SCREENING_CLASSES).index).to_numpy()


def test_files_and_what_they_say(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert {path.name for path in folder.iterdir()} == {
        "predictions.csv", "results.json", *(set(SCORE_FILES) - set(COPIES)),
    }  # fmt: skip
    table = predict()
    scores = pd.read_csv(folder / "scores.csv")
    pd.testing.assert_frame_equal(
        scores, score_screening(table.drop(columns=table.filter(like="probability_"))), rtol=1e-5
    )
    assert set(scores["refused"]) == {1}
    for level in ("slice", "subject"):
        counts = pd.read_csv(folder / f"confusion_{level}.csv", index_col="diagnosis")
        expected = screening_confusion(table.drop(columns=table.filter(like="probability_")), level)
        np.testing.assert_array_equal(counts, expected)
    record = json.loads((folder / "results.json").read_text())
    assert record["scored"] == {
        "slices": 84, "slices_refused": 1, "subjects": 21, "subjects_with_a_condition": 21, "copies": 0,
    }  # fmt: skip
    assert (record["model"], record["seed"], record["tested_on"]) == ("bcc_net", 5, "synthetic")
    coverage = pd.read_csv(folder / "coverage.csv")
    accuracy = scores.query("level == 'subject' and metric == 'accuracy'")["value"].item()
    assert coverage["accuracy"].iloc[0] == pytest.approx(accuracy)


def test_subjects_are_answered_with_the_run_s_thresholds(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    predict().to_csv(folder / "predictions.csv", index=False)
    answers = {}
    for sure, band in ((0.5, 0.0), (0.9, 0.6)):
        write_screening_scores(folder, model="m", about={}, sure=sure, band=band)
        subjects = pd.read_csv(folder / "subjects.csv")
        probabilities = np.sort(subjects.filter(like="probability_").to_numpy(), axis=1)
        np.testing.assert_array_equal(
            subjects["rule"] == "comparable", probabilities[:, -1] - probabilities[:, -2] < band
        )
        settled = subjects["rule"].str.startswith("sure")
        assert (probabilities[settled, -1] >= sure).all()
        answers[band] = settled.sum()
        thresholds = json.loads((folder / "results.json").read_text())["thresholds"]
        assert thresholds == {"sure": sure, "band": band, "temperature": 1.0}
    assert answers[0.0] > answers[0.6]


def test_calibration_is_of_logits_as_the_network_gave_them(tmp_path: Path) -> None:
    """Before is without the temperature, after with it once."""
    folder = write_run(tmp_path / "run", temperature=3.0)
    table = pd.read_csv(folder / "calibration.csv").set_index("stage")
    logits, labels = known(own(predict()))
    for stage, temperature in (("before", 1.0), ("after", 3.0)):
        expected = expected_calibration_error(softmax(logits / temperature, axis=1), labels)
        assert table.loc[stage, "ece"] == pytest.approx(expected, rel=1e-4)
        assert table.loc[stage, "temperature"] == temperature
        assert table.loc[stage, "patches"] == len(labels)


def test_a_temperature_is_in_the_probabilities_of_subjects(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", temperature=3.0)
    table = own(predict())
    subjects = pd.read_csv(folder / "subjects.csv").set_index("subject")
    probabilities = softmax(table[LOGITS].to_numpy() / 3.0, axis=1)
    for subject, rows in table.reset_index().groupby("subject"):
        found = subjects.loc[subject].filter(like="probability_").astype(float)
        np.testing.assert_allclose(found, probabilities[rows.index].mean(axis=0), rtol=1e-4)


def test_marks_are_scored_where_there_is_truth(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    slices = pd.read_csv(folder / "overlap_slices.csv")
    table = predict()
    tp, fp, fn = (table[name] for name in ("tp", "fp", "fn"))
    np.testing.assert_allclose(slices["dice_index"], 2 * tp / (2 * tp + fp + fn), rtol=1e-5)
    np.testing.assert_allclose(slices["iou"], tp / (tp + fp + fn), rtol=1e-5)
    np.testing.assert_allclose(slices["pixel_accuracy"], tp / (tp + fn), rtol=1e-5)
    assert slices["dice_index"].iloc[1] == 0  # what was refused was to be marked
    scores = pd.read_csv(folder / "overlap_scores.csv")
    assert scores.groupby("level")["subjects"].first().to_dict() == {"slice": 21, "subject": 21}
    pd.testing.assert_frame_equal(
        scores,
        score_overlaps(slices[["subject", "copy", "true_pixels", "predicted_pixels", "shared_pixels"]]),
        rtol=1e-5,
    )
    without = write_run(tmp_path / "without", masks=False)
    assert not {path.name for path in without.iterdir()} & set(MASKS)


def test_some_scans_may_have_no_truth_mask(tmp_path: Path) -> None:
    table = predict()
    table.loc[table["subject"] == "subject_03", ["tp", "fp", "fn"]] = np.nan
    table.to_csv(tmp_path / "predictions.csv", index=False)
    write_screening_scores(tmp_path, model="m", about={})
    assert set(pd.read_csv(tmp_path / "overlap_scores.csv")["subjects"]) == {20}
    assert set(pd.read_csv(tmp_path / "scores.csv")["subjects"]) == {21}


def test_an_empty_slice_has_no_dice_index(tmp_path: Path) -> None:
    table = predict()
    table.loc[5, ["tp", "fp", "fn"]] = 0
    table.to_csv(tmp_path / "predictions.csv", index=False)
    write_screening_scores(tmp_path, model="m", about={})
    assert np.flatnonzero(pd.read_csv(tmp_path / "overlap_slices.csv")["iou"].isna()).tolist() == [5]
    assert set(pd.read_csv(tmp_path / "overlap_scores.csv").query("level == 'slice'")["left_out"]) == {1}


def test_copies_are_scored_beside_the_slices(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", copies=2, per_class=4, slices=3)
    table = read_screening_predictions(folder / "predictions.csv")
    record = json.loads((folder / "results.json").read_text())
    assert record["scored"] == {
        "slices": 36, "slices_refused": 1, "subjects": 12, "subjects_with_a_condition": 12, "copies": 2,
    }  # fmt: skip
    images = pd.read_csv(folder / "scores_with_copies.csv")
    assert set(images["level"]) == {"image"}
    assert set(images["images"]) == {3 * 35}
    assert pd.read_csv(folder / "confusion_image.csv").iloc[:, 1:].to_numpy().sum() == 3 * 35
    assert set(pd.read_csv(folder / "overlap_scores_with_copies.csv")["units"]) == {108}
    assert set(pd.read_csv(folder / "roc.csv")["level"]) == {"slice", "subject", "image"}
    alone = write_screening_scores(folder, model="m", about={})
    table[table["copy"] == 0].to_csv(folder / "predictions.csv", index=False)
    pd.testing.assert_frame_equal(write_screening_scores(folder, model="m", about={}), alone)
    # and scores with copies, of which there are no longer any, are gone
    assert not [name for name in COPIES if (folder / name).exists()]


def test_what_a_screening_writes_is_scored(tmp_path: Path) -> None:
    """Engine, results and scores on scans with masks: the toy segmenter is right, the toy classifier says normal."""
    scans = list_screening_scans(
        lumbar_files.write_manifest(tmp_path), split="train", levels=lumbar_files.LEVELS, per_level=2
    )
    out = tmp_path / "out"
    engine(scans, writer=ScreeningResults(out, about={"seed": 1}, erosion_mm=1.0)).run()
    write_screening_scores(out, model="toy", about={"tested_on": "phantom"})
    scores = pd.read_csv(out / "scores.csv")
    assert scores.query("level == 'subject' and metric == 'accuracy'")["value"].item() == pytest.approx(1 / 3)
    assert (pd.read_csv(out / "overlap_scores.csv")["value"] == 1).all()
    record = json.loads((out / "results.json").read_text())
    assert (record["seed"], record["model"], record["tested_on"]) == (1, "toy", "phantom")


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    path, table = tmp_path / "predictions.csv", predict()
    with pytest.raises(InputError, match="is no table of predictions"):
        write_screening_scores(tmp_path, model="m", about={})
    for content, match in (
        (pd.DataFrame(), "is no table of predictions"),
        (table.iloc[:0], "holds no slice; screen scans first"),
        (table.drop(columns=["refusal", "logit_normal"]), "has no column refusal, logit_normal; screen"),
        (table.assign(logit_normal="much"), "holds logit_normal that are no numbers"),
        (table.assign(diagnosis="fine"), "holds the condition 'fine'; conditions are normal, low bone mass"),
        (table.assign(diagnosis="").drop(columns=["tp", "fp", "fn"]), "has neither true conditions nor true masks"),
        (table.assign(diagnosis="", tp=np.nan), "has neither true conditions nor true masks"),
        (table.assign(refusal="no mark"), "are all refused"),
    ):
        content.to_csv(path, index=False)
        with pytest.raises(InputError, match=match):
            write_screening_scores(tmp_path, model="m", about={})
    assert {file.name for file in tmp_path.iterdir()} == {"predictions.csv"}


def weights(folder: Path) -> Path:
    torch.save({}, folder / "model.pt")
    return folder / "model.pt"


def test_calibration_goes_into_the_card(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", per_class=10, copies=1)
    path = weights(tmp_path)
    found = calibrate_screening(path, folder, error_rate=0.3)
    logits, labels = known(own(predict(per_class=10, copies=1)))
    assert found["temperature"] == pytest.approx(fit_temperature(logits, labels), rel=1e-4)
    entry = weights_card(path)["calibration"]
    assert entry == json.loads(json.dumps(found))
    assert [row["stage"] for row in entry["validation"]] == ["before", "after"]
    chosen = entry["band_on_validation"]
    assert chosen["error_rate"] <= 0.3
    assert (entry["band"], entry["band_error_rate"]) == (chosen["band"], 0.3)
    # the band is one of calibrated probabilities: it does on them what is said of it
    write_screening_scores(folder, model="m", about={}, temperature=entry["temperature"], band=entry["band"])
    subjects = pd.read_csv(folder / "subjects.csv")
    answered = subjects[subjects["rule"] != "comparable"]
    assert len(answered) == pytest.approx(chosen["answered"], abs=1)  # six digits in the file
    assert (answered["answer"] != answered["diagnosis"]).mean() == pytest.approx(chosen["error_rate"], abs=0.05)


def test_no_band_is_as_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_run(tmp_path / "run", skill=0.2)
    with caplog.at_level(logging.WARNING):
        found = calibrate_screening(weights(tmp_path), folder, error_rate=0.0)
    assert "band" not in found
    assert "no band was chosen, the default stays" in caplog.text


def test_a_temperature_of_chance_is_refused(tmp_path: Path) -> None:
    table = predict()
    path = tmp_path / "predictions.csv"
    sure = {f"logit_{name}": np.where(table["diagnosis"] == name, 5.0, 0.0) for name in SCREENING_CLASSES}
    for given, match in (
        (table.iloc[:9], "needs 10 of two: validate on more"),
        (table.assign(**sure), r"makes no temperature best \(0.01 is the bound\): validate on more"),
        (table.assign(diagnosis=""), "holds no classified slice whose true condition is known"),
    ):
        given.to_csv(path, index=False)
        with pytest.raises(InputError, match=match):
            calibrate_screening(weights(tmp_path), tmp_path)
    assert weights_card(tmp_path / "model.pt").get("calibration") is None
