from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bonemonai.engines.evaluation_matrix import EvaluationMatrix
from bonemonai.errors import InputError, OutputError, ResumeError

CELLS = [{"site": site, "frames": frames} for site in ("femur", "spine") for frames in (1, 3)]
# an evaluation that says what it was given; --broken ends it midway
CONFIG = {
    "imports": ["$import pathlib"],
    "checkpoint": None,
    "manifest_path": None,
    "output_dir": None,
    "site": None,
    "frames": None,
    "broken": None,
    "initialize": [],
    "run": [
        "$pathlib.Path(@output_dir, 'part.txt').write_text('half')",
        "$1 / 0 if @broken == @site else None",
        "$pathlib.Path(@output_dir, 'scores.txt').write_text("
        "' '.join([pathlib.Path(@checkpoint).read_text(), @site, str(@frames)]))",
    ],
}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "evaluate.json").write_text(json.dumps(CONFIG))
    for name in ("a", "b"):
        (tmp_path / f"{name}.pt").write_text(name)
    for name in ("hr", "lr"):
        (tmp_path / f"{name}.npy").write_bytes(b"scan" + name.encode())
    (tmp_path / "manifest.csv").write_text("patient,image,lr,split\np,hr.npy,lr.npy,test\n")
    weights = {name: str(tmp_path / f"{name}.pt") for name in ("a", "b")}
    return {"evaluate": [str(tmp_path / "evaluate.json")], "weights": weights, "cells": CELLS,
            "output_dir": tmp_path / "out", "manifest_path": tmp_path / "manifest.csv"}  # fmt: skip


def times(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/scores.txt")}


def test_each_weights_on_each_choice_of_scans(inputs: dict[str, Any]) -> None:
    matrix = EvaluationMatrix(**inputs)
    assert matrix.run()
    assert {name: (folder / "scores.txt").read_text() for name, folder in matrix.folders.items()} == {
        f"{weights}_on_{site}_{frames}": f"{weights} {site} {frames}"
        for weights in "ab" for site in ("femur", "spine") for frames in (1, 3)
    }  # fmt: skip


def test_it_goes_on_where_it_was_stopped(inputs: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="Failed to evaluate"):
        EvaluationMatrix(**inputs, options={"broken": "spine"}).run()
    folder = inputs["output_dir"]
    before = times(folder)
    assert set(before) == {"a_on_femur_1", "a_on_femur_3"}
    assert (folder / "a_on_spine_1" / "part.txt").is_file()
    # with other options what was done is refused, whatever was broken
    with pytest.raises(ResumeError, match="was done with other options"):
        EvaluationMatrix(**inputs).run()
    assert EvaluationMatrix(**inputs, overwrite=True).run()
    after = times(folder)
    assert EvaluationMatrix(**inputs).run()
    assert times(folder) == after


@pytest.mark.parametrize(("file", "words"), [("a.pt", "weights"), ("hr.npy", "scans"), ("evaluate.json", "configs")])
def test_changed_inputs_are_refused(inputs: dict[str, Any], file: str, words: str) -> None:
    EvaluationMatrix(**inputs).run()
    path = inputs["manifest_path"].parent / file
    path.write_text(path.read_text() + " ")
    with pytest.raises(ResumeError, match=f"done with other {words}"):
        EvaluationMatrix(**inputs).run()


def test_another_process_keeps_its_cell(inputs: dict[str, Any]) -> None:
    inputs["output_dir"].mkdir()
    with FileLock(inputs["output_dir"] / ".b_on_spine_3.lock"):
        matrix = EvaluationMatrix(**inputs)
        assert not matrix.run()
    assert len(times(inputs["output_dir"])) == 7
    assert matrix.run()


def test_folders_of_others_are_left_alone(inputs: dict[str, Any]) -> None:
    own = inputs["output_dir"] / "a_on_femur_1"
    own.mkdir(parents=True)
    (own / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds files that no matrix made"):
        EvaluationMatrix(**inputs).run()
    assert (own / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": {}}, "must be name to file"),
        ({"weights": "a.pt"}, "must be name to file"),
        ({"weights": {"a": "/no/such.pt"}}, "no such file"),
        ({"cells": []}, "name no scans"),
        ({"cells": [{"site": "a b"}, {"site": "a_b"}]}, "name a_on_a_b twice"),
        ({"options": {"checkpoint": "x", "site": "femur"}}, "must leave checkpoint, site to the matrix"),
    ],
)
def test_refusals(inputs: dict[str, Any], change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        EvaluationMatrix(**{**inputs, **change})
