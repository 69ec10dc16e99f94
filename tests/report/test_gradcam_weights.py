from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bonemonai.errors import InputError
from bonemonai.report.gradcam_weights import FoldWeights, fold_weights, weights_notice

SHOWN = FoldWeights("cortical, CNN", {"fold_00": "a" * 64, "fold_01": "b" * 64}, "fold_01")
OTHER = FoldWeights("trabecular, CNN", {"fold_00": "c" * 64}, "fold_00")


def gradcam(folder: Path, content: Any) -> Path:
    (folder / "gradcam.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def made_by(folder: Path, digest: str) -> Path:
    return gradcam(folder, {"weights": {"sha256": digest * 64}})


def test_weights_of_folds_are_read_from_the_record() -> None:
    cards = [{"sha256": "a" * 64}, {"sha256": "b" * 64, "trained_on": None}]
    record = {"folds": ["fold_00", "fold_01"], "weights_of_folds": cards}
    assert fold_weights("cortical, CNN", record, "fold_01") == SHOWN
    for damaged in ([None, "no card"], [{}, {"sha256": None}], [{"sha256": "a" * 64}], None):
        found = fold_weights("t", {**record, "weights_of_folds": damaged}, "fold_01")
        assert found.digests == {"fold_00": "", "fold_01": ""}
    assert fold_weights("t", {}, "fold_03").digests == {"fold_03": ""}


@pytest.mark.parametrize("claimed", [True, False])
def test_best_fold_needs_no_notice_and_another_is_named(tmp_path: Path, claimed: bool) -> None:
    assert weights_notice(made_by(tmp_path, "b"), [SHOWN], claimed=claimed) == ""
    said = "made by the weights of fold_00 of cortical, CNN, not by those of its best fold, fold_01."
    assert weights_notice(made_by(tmp_path, "a"), [SHOWN], claimed=claimed) == said


def test_weights_of_no_fold_are_refused_where_they_are_claimed_to_be(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        weights_notice(made_by(tmp_path, "d"), [SHOWN], claimed=True)
    assert str(refusal.value) == (
        f"{tmp_path}: holds Grad-CAM by weights (sha256 dddddddddddd...) that are of no fold of cortical, CNN; "
        "visualise fold_01's model.pt, or give the folder under a name that is no key of results."
    )
    said = "made by weights that are of no fold of the cross-validations shown."
    assert weights_notice(tmp_path, [SHOWN, OTHER], claimed=False) == said
    assert weights_notice(made_by(tmp_path, "c"), [SHOWN, OTHER], claimed=False) == ""


@pytest.mark.parametrize("record", [None, "{", "[]", {}, {"weights": None}, {"weights": {"sha256": ""}}], ids=str)
def test_maps_whose_weights_are_not_known(tmp_path: Path, record: Any) -> None:
    if record is not None:
        gradcam(tmp_path, record)
    said = "cannot be tied to a fold: its gradcam.json does not say which weights made the maps."
    assert weights_notice(tmp_path, [SHOWN], claimed=True) == said


def test_folds_whose_weights_are_not_known(tmp_path: Path) -> None:
    shown = SHOWN._replace(digests={**SHOWN.digests, "fold_01": ""})
    said = "cannot be tied to a fold: which weights fold_01 had is not known."
    assert weights_notice(made_by(tmp_path, "d"), [shown], claimed=True) == said
