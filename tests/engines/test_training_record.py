from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from bonemonai.engines import training_record
from bonemonai.engines.training_record import TrainingRecord
from bonemonai.errors import InputError, OutputError, ResumeError
from tests.one_scan import write_one_scan


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_one_scan(tmp_path)


def state(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "parts": {"network": {"w": torch.full((3,), float(epoch))}}}


def record(manifest: Path, epochs: int = 0, max_epochs: int = 10, **options: Any) -> TrainingRecord:
    found = TrainingRecord(manifest.parent / "model.pt", max_epochs, manifest, **options)
    for epoch in range(1, epochs + 1):
        found.save(state(epoch), epoch)
    return found


def test_the_last_two_epochs_are_kept(manifest: Path) -> None:
    assert not record(manifest, epochs=4).continues
    again = record(manifest)
    assert again.continues
    assert again.load()["epoch"] == 4  # type: ignore[index]
    assert sorted(path.name for path in again.folder.iterdir()) == ["epoch_00003.pt", "epoch_00004.pt", "record.json"]


def test_a_complete_training_goes_on_for_more_epochs_only(manifest: Path) -> None:
    record(manifest, epochs=3, max_epochs=3)
    assert not record(manifest, max_epochs=3).continues
    assert record(manifest, max_epochs=3).load() is None
    assert record(manifest, max_epochs=4).continues
    assert not record(manifest, max_epochs=4, overwrite=True).continues


def test_a_damaged_epoch_leaves_the_one_before(manifest: Path) -> None:
    folder = record(manifest, epochs=3).folder
    with (folder / "epoch_00003.pt").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\xff\xff")
    assert record(manifest).load()["epoch"] == 2  # type: ignore[index]
    (folder / "epoch_00002.pt").unlink()
    with pytest.raises(ResumeError, match="holds no epoch that is whole; say --overwrite True"):
        record(manifest).load()


def test_a_failed_save_harms_nothing(manifest: Path) -> None:
    first = record(manifest, epochs=2)
    for broken in ("fsync", "replace"):
        target = "os.fsync" if broken == "fsync" else "pathlib.Path.replace"
        with mock.patch(target, side_effect=OSError(28, os.strerror(28))), pytest.raises(OutputError, match="No space"):
            first.save(state(3), 3)
    again = record(manifest)
    assert again.load()["epoch"] == 2  # type: ignore[index]
    again.save(state(3), 3)
    assert record(manifest).load()["epoch"] == 3  # type: ignore[index]


def test_what_lies_after_the_epoch_that_it_goes_on_from_is_done_anew(manifest: Path) -> None:
    folder = record(manifest, epochs=3).folder
    (folder / "epoch_00003.pt").unlink()
    again = record(manifest)
    assert again.load()["epoch"] == 2  # type: ignore[index]
    again.save(state(3), 3)
    known = json.loads((folder / "record.json").read_text())
    assert [entry["epoch"] for entry in known["epochs"]] == [2, 3]


@pytest.mark.parametrize("changed", ["manifest", "scans", "options", "configs", "max_epochs"])
def test_another_training_is_refused(manifest: Path, changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = manifest.parent / "train.json"
    schedule = "$0.01 ** (1 / @max_epochs)" if changed == "max_epochs" else 0.9
    trainer = {"max_epochs": "@max_epochs"}
    content = {"learning_rate": 0.3, "gamma": schedule, "max_epochs": 10, "train": {"trainer": trainer}}
    config.write_text(json.dumps({**content, "record": {"max_epochs": "@max_epochs"}, "roi_size": [-1, -1]}))
    options: dict[str, Any] = {"learning_rate": 0.1}
    monkeypatch.setattr(training_record, "passed_to_create_workflow", lambda: ((str(config),), options))
    record(manifest, epochs=1)
    options |= {"num_workers": 2, "roi_size": (-1, -1), "checkpoint": "elsewhere"}
    assert record(manifest).continues
    if changed == "options":
        options["learning_rate"] = 0.2
    elif changed != "max_epochs":
        path = {"manifest": manifest, "scans": manifest.parent / "a.npy", "configs": config}[changed]
        path.write_text(path.read_text() + "\n")
    with pytest.raises(ResumeError, match=rf"is a training with other {changed}; say --overwrite True"):
        record(manifest, max_epochs=12)
    begun = record(manifest, overwrite=True)
    assert begun.load() is None
    begun.save(state(1), 1)
    assert [path.name for path in begun.folder.glob("*.pt")] == ["epoch_00001.pt"]


def test_weights_end_in_pt(manifest: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.pt"):
        TrainingRecord(manifest.parent / "v1.2", 1, manifest)
