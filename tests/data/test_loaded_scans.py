from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import TiffStackWriter, open_volume
from bonemonai.data.loaded_scans import LoadedScans, read_scans
from bonemonai.errors import InputError
from bonemonai.phantoms import write_compression_study


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """One sample, two states: a study that may be changed."""
    return write_compression_study(
        tmp_path / "study", bone="trabecular", samples=1, states=2, shape=(16, 16, 16), seed=1
    )


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("ring,2,", "ring,x,", r"manifest\.csv: image 2: load_state must be a number from 1, got 'x'"),
        ("ring,2,", "ring,0,", "image 2: load_state must be a number from 1, got '0'"),
        ("ring,2,", "ring,-1,", "image 2: load_state must be a number from 1"),
        ("ring,2,", "ring,2.0,", "image 2: load_state must be a number from 1"),
        ("ring,2,", "ring,\u00b2,", "image 2: load_state must be a number from 1"),
        ("ring,2,", "ring,1,", "image 2: TB5 has that loading state already"),
        ("ring,2,", "ring,01,", "image 2: TB5 has that loading state already"),
        ("load_state", "state", r"manifest\.csv: has no column 'load_state'"),
        ("patient", "sample", "lacks the column 'patient'"),
    ],
)
def test_manifests_that_will_not_do(own: Path, old: str, new: str, cause: str) -> None:
    own.write_text(own.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=cause):
        read_scans(own)


def test_bone_must_be_known_to_match_by_it(own: Path) -> None:
    own.write_text(own.read_text().replace("trabecular", "", 1))
    with pytest.raises(InputError, match="image 1: column 'bone' is empty"):
        read_scans(own, by_bone=True)
    own.write_text(own.read_text().replace(",bone,", ",kind,"))
    with pytest.raises(InputError, match="has no column 'bone'"):
        read_scans(own, by_bone=True)
    assert len(read_scans(own)) == 2


def test_first_of_each_sample_and_bone(tmp_path: Path) -> None:
    rows = [("a", 3, "x"), ("b", 1, "y"), ("A ", 2, "x"), ("b", 5, "y"), ("c", 10, "x"), ("c", 9, "x")]
    for number in range(6):
        (tmp_path / str(number)).touch()
    lines = [f"{patient},{number},{state},{bone}" for number, (patient, state, bone) in enumerate(rows)]
    (tmp_path / "m.csv").write_text("patient,image,load_state,bone\n" + "\n".join(lines) + "\n")
    scans = read_scans(tmp_path / "m.csv")
    assert scans["first"].tolist() == [2, 1, 2, 1, 5, 5]
    assert scans["first_of_bone"].tolist() == [2, 1, 2, 1, 2, 2]


@pytest.mark.parametrize(
    ("matching", "references"),
    [("sample", [2, 1, 2, 1, 4]), ("bone", [2, 2, 2, 2, 4]), ("none", [0, 1, 2, 3, 4])],
)
def test_whose_histogram_a_scan_takes(tmp_path: Path, matching: str, references: list[int]) -> None:
    rows = [("a", 3, "x"), ("b", 1, "x"), ("a", 2, "x"), ("b", 5, "x"), ("c", 9, "y")]
    for number in range(5):
        (tmp_path / str(number)).touch()
    lines = [f"{patient},{number},{state},{bone}" for number, (patient, state, bone) in enumerate(rows)]
    (tmp_path / "m.csv").write_text("patient,image,load_state,bone\n" + "\n".join(lines) + "\n")
    scans = LoadedScans(tmp_path / "m.csv", matching)  # type: ignore[arg-type]
    assert [scans.first(number) for number in range(5)] == [2, 1, 2, 1, 4]
    assert [scans.reference(number) for number in range(5)] == references
    with pytest.raises(InputError, match="matching: must be sample, bone or none, got 'all'"):
        LoadedScans(tmp_path / "m.csv", "all")  # type: ignore[arg-type]


def test_scans_their_masks_and_what_does_not_fit(own: Path) -> None:
    own.write_text(own.read_text().replace("TB5/state_01/ring", ""))
    scans = LoadedScans(own, "none")
    assert (scans.masks(0), scans.masks(1)) == (["crack"], ["crack", "ring"])
    assert scans.path(0, "no such column") == ""
    scan = scans.open(1)
    assert (scan.shape, scan.voxel_size_um) == ((16, 16, 16), (6.5, 6.5, 6.5))
    assert scans.open_mask(1, "ring", scan).voxel_size_um == scan.voxel_size_um
    assert scans.refuse_unlike_first(1, registered=True).path == scans.open(0).path
    image = own.parent / "TB5" / "state_02" / "image"
    with TiffStackWriter(image, shape=(16, 16, 14), dtype=np.float32, voxel_size_um=(6.5,) * 3, overwrite=True) as made:
        made.write(open_volume(own.parent / "TB5" / "state_01" / "image").read()[:, :, :14])
    for registered, cause in ((True, r"its sample's first scan \(16, 16, 16\)"), (False, r"crack: has shape")):
        with pytest.raises(InputError, match=cause):
            scans.refuse_unlike_first(1, registered=registered)
