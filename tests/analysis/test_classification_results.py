from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bonemonai.analysis import (
    calibrate_weights,
    clear_results,
    pool_folds,
    read_predictions,
    score_predictions,
    write_classification_results,
)
from bonemonai.engines import add_to_card, weights_card
from bonemonai.errors import InputError, OutputError


def predictions(seed: int, subjects: dict[str, str], patches: int = 20, scale: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for subject, diagnosis in subjects.items():
        for index in range(patches):
            lean = scale * rng.normal(0.5 if diagnosis == "osteoporotic" else -0.5)
            rows.append((subject, diagnosis, index, 0, 55, -lean, lean))
    names = ["subject", "diagnosis", "plane", "row", "column", "logit_healthy", "logit_osteoporotic"]
    return pd.DataFrame(rows, columns=names)


def test_files_of_an_evaluation(tmp_path: Path) -> None:
    table = predictions(0, {"subject_00": "healthy", "subject_01": "osteoporotic"}, scale=5)
    table.to_csv(tmp_path / "predictions.csv", index=False)
    pd.DataFrame({"share": [0.5], "share_features": [0.25], "area": [0.25]}).to_csv(
        tmp_path / "gradcam.csv", index=False
    )
    about = {"weights": {"sha256": "ab", "calibration": {"temperature": 4.0}}, "seed": 3}
    scores = write_classification_results(tmp_path, model="mga", about=about)
    pd.testing.assert_frame_equal(scores, score_predictions(table))
    stored = pd.read_csv(tmp_path / "scores.csv")
    np.testing.assert_allclose(stored["value"], scores["value"], rtol=1e-5)
    assert stored["low"].isna().all()  # of one patient a class no interval is given
    assert pd.read_csv(tmp_path / "calibration.csv")["temperature"].tolist() == [1.0, 4.0]
    counts = pd.read_csv(tmp_path / "confusion_patch.csv").set_index("diagnosis")
    assert counts.to_numpy().sum() == 40
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["model"], results["seed"], results["gradcam"]["enrichment"]) == ("mga", 3, 2.0)
    assert "not a medical device" in results["note"]


def test_folds_are_pooled_by_the_votes_of_all(tmp_path: Path) -> None:
    pairs = [("subject_00", "subject_02"), ("subject_00", "subject_03"), ("subject_01", "subject_02")]
    parts = []
    for number, (healthy, osteoporotic) in enumerate(pairs):
        folder = tmp_path / f"fold_{number:02d}"
        folder.mkdir()
        parts.append(predictions(number, {healthy: "healthy", osteoporotic: "osteoporotic"}))
        parts[-1].to_csv(folder / "predictions.csv", index=False)
        pd.DataFrame({"share": [0.1 * (number + 1)], "share_features": [0.1], "area": [0.1]}).to_csv(
            folder / "gradcam.csv", index=False
        )
        write_classification_results(folder, model="vgg16", about={"weights": {"sha256": f"{number}"}, "seed": 0})
    folders = sorted(tmp_path.glob("fold_*"))
    scores = pool_folds(tmp_path, folders, model="vgg16")
    whole = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(scores, score_predictions(whole))
    patients = pd.read_csv(tmp_path / "patients.csv").set_index("subject")
    assert patients["patches"].to_dict() == {
        "subject_00": 40, "subject_01": 20, "subject_02": 40, "subject_03": 20
    }  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    singles = [score_predictions(part)["value"][0] for part in parts]
    assert results["over_folds"]["patch accuracy"]["mean"] == pytest.approx(np.mean(singles), rel=1e-5)
    assert results["over_folds"]["patch accuracy"]["sd"] == pytest.approx(np.std(singles, ddof=1), rel=1e-4)
    assert results["gradcam"]["share"] == pytest.approx(0.2)
    assert [weights["sha256"] for weights in results["weights_of_folds"]] == ["0", "1", "2"]


def test_temperature_goes_into_the_card(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "model.pt")
    add_to_card(tmp_path / "model.pt", {"epoch": 7})
    table = predictions(0, {"subject_00": "healthy", "subject_01": "osteoporotic"}, patches=200, scale=6)
    table.to_csv(tmp_path / "predictions.csv", index=False)
    temperature = calibrate_weights(tmp_path / "model.pt", tmp_path / "predictions.csv")
    card = weights_card(tmp_path / "model.pt")
    assert card["epoch"] == 7
    assert card["calibration"]["temperature"] == temperature
    before, after = card["calibration"]["validation"]
    assert temperature > 1
    assert after["ece"] < before["ece"]


def test_a_bound_is_no_temperature(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "model.pt")
    table = predictions(0, {"subject_00": "healthy", "subject_01": "osteoporotic"})
    table[["logit_healthy", "logit_osteoporotic"]] = [
        [1.0, -1.0] if diagnosis == "healthy" else [-1.0, 1.0] for diagnosis in table["diagnosis"]
    ]
    table.to_csv(tmp_path / "predictions.csv", index=False)
    with pytest.raises(InputError, match="make no temperature best"):
        calibrate_weights(tmp_path / "model.pt", tmp_path / "predictions.csv")
    assert "calibration" not in weights_card(tmp_path / "model.pt")


def test_an_earlier_evaluation_goes_whole_or_stays(tmp_path: Path) -> None:
    for name in ("results.json", "calibration.csv", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(OutputError, match="exists already; say --overwrite True"):
        clear_results(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    clear_results(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    clear_results(tmp_path / "new")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no table of predictions"):
        read_predictions(tmp_path / "none.csv")
