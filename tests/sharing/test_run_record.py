from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bonemonai
from bonemonai.data.fingerprint import fingerprint
from bonemonai.errors import BonemonaiError, InputError, OutputError, ResumeError
from bonemonai.sharing.run_record import RunRecord, refuse_other_file


def record(**options: Any) -> RunRecord:
    about = {"name": "Lacunae", "version": "1.0"}
    return RunRecord(about, "inference", ["smoke"], {"width": 2, "network": "$@net"}, options, ["zarr 9 (here 3)"])


def stored(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_what_it_says_when_the_run_begins_and_ends(tmp_path: Path) -> None:
    scan = tmp_path / "Mustermann.tif"
    scan.write_bytes(b"pixels")
    run = record(dataset_dir=str(scan), width=3)
    values = {"dataset_dir": str(scan), "output_dir": str(tmp_path / "out"), "seed": 4, "width": 3, "device": object()}
    run.begin(values, None)
    path = tmp_path / "out" / "inference.run.json"
    begun = stored(path)
    assert run.path == path
    assert (begun["outcome"], begun["seed"], begun["workflow"], begun["overlays"]) == (
        "running",
        4,
        "inference",
        ["smoke"],
    )
    assert begun["bundle"] == {"name": "Lacunae", "version": "1.0"}
    assert begun["options"] == {"dataset_dir": "<path>", "width": 3}
    assert begun["config"] == {"width": 2, "network": "$@net"}
    assert begun["values"] == {"dataset_dir": "<path>", "output_dir": "<path>", "seed": 4, "width": 3}
    assert begun["inputs"] == {"dataset_dir": fingerprint(scan)}
    assert begun["versions"]["bonemonai"] == bonemonai.__version__
    assert begun["older_than_the_bundles"] == ["zarr 9 (here 3)"]
    run.end(None, {**values, "more": [1, "a"]})
    ended = stored(path)
    assert (ended["outcome"], ended["exit_code"], ended["weights"]) == ("done", 0, None)
    assert ended["seconds"] >= 0
    assert ended["values"]["more"] == [1, "a"]
    assert "Mustermann" not in path.read_text()
    assert str(tmp_path) not in path.read_text()


def test_beside_weights_and_where_it_is_told(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    run = record()
    run.begin({"checkpoint": str(weights)}, None)
    assert run.path == tmp_path / "model.inference.run.json"
    assert stored(run.path)["inputs"] == {}
    weights.write_bytes(b"new")
    run.end(None, {"checkpoint": str(weights)})
    assert stored(run.path)["weights"] == fingerprint(weights)
    run.begin({}, tmp_path / "own.json")
    assert stored(tmp_path / "own.json")["outcome"] == "running"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InputError("/data/Erika/a.tif", "patient 'Erika' stands in two splits."), ("refused", 2, "InputError")),
        (ResumeError("Erika", "changed."), ("refused", 3, "ResumeError")),
        (BonemonaiError("run", "fails: ValueError: Erika"), ("refused", 1, "BonemonaiError")),
        (SystemExit(143), ("stopped", 143, None)),
        (KeyboardInterrupt(), ("stopped", 130, None)),
        (MemoryError("Erika"), ("failed", 1, "MemoryError")),
    ],
)  # fmt: skip
def test_how_it_ended(error: BaseException, expected: tuple[Any, ...], tmp_path: Path) -> None:
    run = record()
    run.begin({}, tmp_path / "r.json")
    run.end(error, {})
    ended = stored(tmp_path / "r.json")
    assert (ended["outcome"], ended["exit_code"], ended.get("kind")) == expected
    assert "Erika" not in (tmp_path / "r.json").read_text()


def test_without_a_place_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = record()
    run.begin({"seed": 0}, None)
    run.end(None, {})
    assert run.path is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["patient,image\n", '{"a": 1}', "[1]", ""])
def test_another_file_is_not_replaced(content: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    refuse_other_file(path)
    path.write_text(content)
    with pytest.raises(OutputError, match="is no record of a run; choose another --record"):
        refuse_other_file(path)
    path.write_text('{"outcome": "done"}')
    refuse_other_file(path)
