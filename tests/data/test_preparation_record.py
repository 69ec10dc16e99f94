from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bonemonai.data import refuse_other_preparation
from bonemonai.data.loaded_scans import LoadedScans
from bonemonai.data.preparation_record import PreparationRecord, preparation_fingerprint, stored_preparation
from bonemonai.errors import InputError
from bonemonai.phantoms import write_compression_study


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """One sample, two states: a study that may be changed."""
    return write_compression_study(
        tmp_path / "study", bone="trabecular", samples=1, states=2, shape=(16, 16, 16), seed=1
    )


def test_reference_that_changed_or_another_voxel_size_is_noticed(own: Path) -> None:
    def fingerprints() -> list[str]:
        return [preparation_fingerprint(LoadedScans(own, "sample"), number, {"median": True}) for number in (0, 1)]

    before = fingerprints()
    text = own.read_text()
    own.write_text(text.replace(",6.5,", ",6.6,"))
    assert not set(before) & set(fingerprints())
    # the same two scans, but now the other one is the first
    own.write_text(text.replace("ring,1,", "ring,3,"))
    assert fingerprints()[1] != before[1]


def test_options_masks_and_matching_are_part_of_it(own: Path) -> None:
    scans = LoadedScans(own, "sample")
    whole = preparation_fingerprint(scans, 1, {"median": True})
    assert preparation_fingerprint(scans, 1, {"median": True}) == whole
    assert preparation_fingerprint(scans, 1, {"median": False}) != whole
    own.write_text(own.read_text().replace("TB5/state_02/ring", ""))
    assert preparation_fingerprint(LoadedScans(own, "sample"), 1, {"median": True}) != whole


def test_a_scan_is_done_while_its_files_are_what_was_written(tmp_path: Path) -> None:
    record = PreparationRecord(tmp_path, 7)
    assert record.made_from() is None
    assert not record.is_done("f")
    record.image.mkdir()
    assert record.made_from() == ""
    metadata = {"attributes": {"bonemonai": {"preparation": {"fingerprint": "f", "options": {}}}}}
    (record.image / "zarr.json").write_text(json.dumps(metadata))
    assert record.made_from() == "f"
    assert not record.is_done("f")
    transform = record.file(".tfm")
    assert transform.name == "scan_0007.tfm"
    transform.write_text("0")
    record.write({"fingerprint": "f"}, [record.image, transform])
    assert record.made_from() == "f"
    assert record.is_done("f")
    assert not record.is_done("g")
    transform.write_text("1")
    assert not record.is_done("f")
    record.write({"fingerprint": "f"}, [record.image, transform])
    transform.unlink()
    assert not record.is_done("f")


@pytest.mark.parametrize("stored", [None, "{", "[]", {}, {"attributes": None}, {"attributes": {"bonemonai": {}}}])
def test_a_scan_that_was_not_prepared_says_nothing(tmp_path: Path, stored: Any) -> None:
    if stored is not None:
        (tmp_path / "zarr.json").write_text(stored if isinstance(stored, str) else json.dumps(stored))
    assert stored_preparation(tmp_path) == {}


def test_scans_prepared_otherwise_than_the_weights_know_are_refused(tmp_path: Path) -> None:
    def card(**options: Any) -> dict[str, Any]:
        return {"trained_on": {"preparation": {"matching": "sample", "median": True, **options}}}

    scan = tmp_path / "scan.ome.zarr"
    scan.mkdir()
    stored = {"options": {"matching": "sample", "median": True, "seed": 3}}
    (scan / "zarr.json").write_text(json.dumps({"attributes": {"bonemonai": {"preparation": stored}}}))
    (tmp_path / "m.csv").write_text("patient,image,plane,index\na,scan.ome.zarr,XY,0\na,scan.ome.zarr,XY,1\n")
    for path in (scan, tmp_path / "m.csv"):
        for known in (card(), {}, {"trained_on": None}, {"trained_on": {}}):
            refuse_other_preparation(path, known)
        with pytest.raises(InputError, match=r"scan\.ome\.zarr: was prepared with median True, .* know with False"):
            refuse_other_preparation(path, card(median=False))
        with pytest.raises(InputError, match=r"was prepared with matching sample, .* know with none: prepare it alike"):
            refuse_other_preparation(path, card(matching="none"))
    with pytest.raises(InputError, match="was prepared with matching None"):
        refuse_other_preparation(tmp_path / "raw", card())
