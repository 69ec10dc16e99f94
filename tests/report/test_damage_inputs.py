from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonemonai.errors import InputError
from bonemonai.report.damage_inputs import read_gradcams, read_sweeps, read_validations
from tests.report.damage_runs import weights_of, write_gradcam, write_validation


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_validation(tmp_path / "run", "cnn", count=2, states=3)


def test_keys_say_bone_model_and_deal(folder: Path) -> None:
    keys = [
        "own",
        "trabecular/cnn",
        "cortical/cnn/mixed",
        "cortical/cnn",
        "cnn",
        "cnn/mixed",
        "mixed",
        "cortical/other",
    ]
    found = read_validations(dict.fromkeys(keys, folder))
    assert [(key, each.bone, each.model, each.deal) for key, each in found.items()] == [
        ("cortical/cnn", "cortical", "cnn", "sample"),
        ("cortical/other", "cortical", "other", "sample"),
        ("cortical/cnn/mixed", "cortical", "cnn", "mixed"),
        ("trabecular/cnn", "trabecular", "cnn", "sample"),
        ("cnn", "", "cnn", "sample"),
        ("mixed", "", "mixed", "sample"),
        ("own", "", "own", "sample"),
        ("cnn/mixed", "", "cnn", "mixed"),
    ]
    assert [each.leaks for each in found.values()].count(True) == 2
    assert found["cortical/cnn/mixed"].title == "cortical, CNN, mixed deal"


@pytest.mark.parametrize("key", ["", "/cnn", "femur/cnn", "cortical/cnn/ship", "/home/somebody/run", "cortical/"])
def test_keys_that_are_none(folder: Path, key: str) -> None:
    with pytest.raises(InputError, match="must be model, bone/model or bone/model/mixed"):
        read_validations({key: folder})


def test_states_that_only_other_folds_have(folder: Path) -> None:
    limits = pd.read_csv(folder / "detection_limits.csv")
    best = json.loads((folder / "results.json").read_text())["best_fold"]
    limits[(limits["fold"] != best) | (limits["load_state"] != 2)].to_csv(folder / "detection_limits.csv", index=False)
    shown = read_validations({"cnn": folder})["cnn"].limits.set_index("load_state")
    assert np.isnan(shown.loc[2, "overall"])
    assert shown.loc[2, "folds"] == 2


def test_damaged_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="results: must be model to folder"):
        read_validations(str(folder))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"results cnn: .*nowhere is no folder"):
        read_validations({"cnn": tmp_path / "nowhere"})
    with pytest.raises(InputError, match=r"scores\.csv: has no column mean, sd, folds; pool the folds"):
        read_validations({"cnn": folder / "fold_00"})
    for name in ("detection_band.csv", "detection_limits.csv", "folds.csv", "scores.csv", "results.json"):
        (folder / name).write_bytes(b"\xff\xfe{")
        with pytest.raises(InputError, match=rf"{name}: .*pool the folds of the cross-validation again"):
            read_validations({"cnn": folder})
        (folder / name).unlink()
        with pytest.raises(InputError, match=rf"{name}: is not there"):
            read_validations({"cnn": folder})


def test_best_fold_must_be_there(folder: Path) -> None:
    record = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**record, "best_fold": "fold_07"}))
    with pytest.raises(InputError, match="names the best fold 'fold_07', which the tables lack"):
        read_validations({"cnn": folder})


def test_metrics_must_be_all(folder: Path) -> None:
    scores = pd.read_csv(folder / "scores.csv")
    scores.iloc[1:].to_csv(folder / "scores.csv", index=False)
    with pytest.raises(InputError, match="must hold accuracy, accuracy_pristine"):
        read_validations({"cnn": folder})


def test_sweeps_by_file_folder_or_name(tmp_path: Path) -> None:
    table = pd.DataFrame({"parameter": ["layers"], "value": ["3"], "baseline": [True], "mean": [0.9], "folds": [1]})
    table.assign(sd=np.nan).to_csv(tmp_path / "sweep.csv", index=False)
    for given in (tmp_path, tmp_path / "sweep.csv", str(tmp_path)):
        (read,) = read_sweeps(given).values()
        assert read["baseline"].tolist() == [True]
        assert read["sd"].isna().all()
    assert list(read_sweeps({"cortical": tmp_path})) == ["cortical"]
    assert read_sweeps(None) == read_sweeps("") == {}
    table.to_csv(tmp_path / "sweep.csv", index=False)
    with pytest.raises(InputError, match=r"sweep\.csv: has no column sd; write the sweep's table again"):
        read_sweeps(tmp_path)


def test_gradcam_is_named_by_its_result(folder: Path, tmp_path: Path) -> None:
    (validation,) = read_validations({"cortical/cnn": folder}).values()
    known = {"cortical/cnn": (validation, folder)}
    assert read_gradcams(None, known) == {}
    own = write_gradcam(tmp_path / "own", states=12)
    assert list(read_gradcams(own, known)) == [""]
    found = read_gradcams({"cortical/cnn": own}, known)["cortical, CNN"]
    assert len(found.slices) == 12
    assert found.summary["crack_slices"] == 3
    write_gradcam(folder, states=2)
    assert len(read_gradcams(None, known)["cortical, CNN"].slices) == 2
    write_gradcam(folder / validation.best, states=3)
    assert len(read_gradcams(None, known)["cortical, CNN"].slices) == 3
    (folder / validation.best / "gradcam_states.npz").unlink()
    assert read_gradcams(None, known)["cortical, CNN"].slices == []
    assert read_gradcams(None, known)["cortical, CNN"].notice.startswith("cannot be tied to a fold")
    write_gradcam(folder / validation.best, states=3, weights=weights_of(validation.best))
    assert read_gradcams(None, known)["cortical, CNN"].notice == ""
    write_gradcam(folder / validation.best, states=3, weights="e" * 64)
    with pytest.raises(InputError, match="are of no fold of cortical, CNN"):
        read_gradcams(None, known)


def test_damaged_gradcam(tmp_path: Path) -> None:
    path = write_gradcam(tmp_path, states=3) / "gradcam_states.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "map": arrays["map"][:, 1:]})
    with pytest.raises(InputError, match=r"holds no Grad-CAM of slices: the arrays have shapes .* visualise"):
        read_gradcams(tmp_path, {})
    np.savez(path, **{**arrays, "decision": arrays["decision"][1:]})
    with pytest.raises(InputError, match="holds no Grad-CAM of slices"):
        read_gradcams(tmp_path, {})
    np.savez(path, image=arrays["image"])
    with pytest.raises(InputError, match="holds no Grad-CAM of slices"):
        read_gradcams(tmp_path, {})
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="holds no Grad-CAM of slices"):
        read_gradcams(tmp_path, {})
