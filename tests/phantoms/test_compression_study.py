from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bonemonai.data import open_volume, read_data_card, read_manifest
from bonemonai.errors import InputError, OutputError
from bonemonai.phantoms import CompressionPhantom, write_compression_study
from bonemonai.phantoms.compression_study import sample_name, sample_seed

SHAPE = (18, 20, 24)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compression")
    return write_compression_study(folder, bone="trabecular", samples=2, states=3, shape=SHAPE, seed=7)


def test_study_is_real_files_a_row_a_scan(path: Path) -> None:
    manifest = read_manifest(path)
    assert list(manifest["patient"]) == ["TB5"] * 3 + ["TB6"] * 3
    assert list(manifest["load_state"]) == ["1", "2", "3"] * 2
    assert set(manifest["bone"]) == {"trabecular"}
    assert set(manifest["voxel_size_um"]) == {"6.5"}
    assert set(manifest["site"]) == {"phantom"}
    assert "split" not in manifest
    for row in manifest.to_dict("records"):
        phantom = CompressionPhantom("trabecular", SHAPE, sample_seed(7, int(row["patient"] == "TB6")), 3)
        scan = phantom.state(int(row["load_state"]))
        for name, dtype in (("image", "float32"), ("crack", "uint8"), ("ring", "uint8")):
            volume = open_volume(path.parent / row[name])
            assert (str(volume.dtype), volume.shape, volume.voxel_size_um) == (dtype, SHAPE, (6.5, 6.5, 6.5))
            np.testing.assert_array_equal(volume.read(), getattr(scan, name))


def test_paths_in_the_manifest_are_relative(path: Path) -> None:
    assert path.read_text().splitlines()[1].startswith("TB5,TB5/state_01/image,TB5/state_01/crack,TB5/state_01/ring,1,")


def test_card_says_what_was_drawn(path: Path) -> None:
    card = read_data_card(path)
    assert (card["kind"], card["seed"], card["licence"]) == ("synthetic", 7, "Apache-2.0")
    assert card["units"].startswith("raw")
    assert card["states"] == 3
    fractions = [CompressionPhantom("trabecular", SHAPE, sample_seed(7, k)).bone_volume_fraction for k in (0, 1)]
    assert list(card["bv_tv"]) == ["TB5", "TB6"]
    assert list(card["bv_tv"].values()) == pytest.approx(fractions, abs=1e-5)
    assert "to_first" not in card


def test_card_of_a_moved_study_has_the_motion_to_undo(tmp_path: Path) -> None:
    path = write_compression_study(tmp_path, samples=1, states=2, shape=(16, 16, 16), seed=5, motion_voxels=1.5)
    found = np.array(read_data_card(path)["to_first"]["CB5"])
    phantom = CompressionPhantom("cortical", (16, 16, 16), sample_seed(5, 0), 2, motion_voxels=1.5)
    np.testing.assert_allclose(found, [np.eye(4), phantom.to_first(2)], atol=1e-6)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


TINY: dict[str, Any] = {"samples": 2, "states": 2, "shape": (16, 16, 16), "seed": 3}


@pytest.fixture(scope="module")
def first_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_compression_study(tmp_path_factory.mktemp("tiny"), **TINY).parent


@pytest.fixture
def tiny(first_tiny: Path, tmp_path: Path) -> Path:
    """A small study that may be changed."""
    return Path(shutil.copytree(first_tiny, tmp_path / "tiny"))


@pytest.mark.parametrize("lost", [[], ["manifest.csv"], ["manifest.csv", "manifest.json"]], ids=str)
def test_the_same_call_again_writes_the_same_study(tiny: Path, lost: list[str]) -> None:
    before = contents(tiny)
    card = json.loads((tiny / "manifest.json").read_text())
    # of another version, but the same study
    (tiny / "manifest.json").write_text(json.dumps({**card, "source": "bonemonai, version 0.0.1"}))
    for name in lost:
        (tiny / name).unlink()
    shutil.rmtree(tiny / "CB6" / "state_02")
    write_compression_study(tiny, **TINY)
    assert contents(tiny) == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 4}, "other seed, samples"),
        ({"samples": 1}, "other samples"),
        ({"states": 3}, "other states, opening_voxels"),
        ({"bone": "trabecular"}, "other name, drawn"),
        ({"shape": (16, 16, 18)}, "other shape"),
        ({"voxel_size_um": 7.0}, "other voxel_size_um"),
        ({"artefacts": False}, "other artefacts"),
        ({"motion_voxels": 1.0}, "other motion_voxels, to_first"),
    ],
    ids=str,
)
def test_another_study_is_not_replaced_unasked(tiny: Path, changed: dict[str, Any], said: str) -> None:
    before = contents(tiny)
    with pytest.raises(OutputError, match=rf"manifest\.csv: is of another study \({said}.*say --overwrite, or choose"):
        write_compression_study(tiny, **{**TINY, **changed})
    assert contents(tiny) == before


@pytest.mark.parametrize("card", [None, b"{", b"[]"])
def test_a_list_whose_study_is_not_known_is_not_replaced_unasked(tiny: Path, card: bytes | None) -> None:
    (tiny / "manifest.json").unlink()
    if card is not None:
        (tiny / "manifest.json").write_bytes(card)
    with pytest.raises(OutputError, match="is of another study \\(no card beside it says which"):
        write_compression_study(tiny, **TINY)
    write_compression_study(tiny, **TINY, overwrite=True)
    assert read_data_card(tiny / "manifest.csv")["seed"] == 3


def test_overwritten_is_what_a_new_folder_would_hold(tiny: Path, tmp_path: Path) -> None:
    other = {**TINY, "seed": 4, "samples": 1}
    write_compression_study(tmp_path / "new", **other)
    write_compression_study(tiny, **other, overwrite=True)
    expected = contents(tmp_path / "new")
    found = contents(tiny)
    assert {name: found[name] for name in expected} == expected
    # no scan of the other study is listed
    assert {name for name in found if name not in expected} == {name for name in found if name.startswith("CB6")}


def test_stopped_while_overwriting_leaves_no_list_of_either(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = CompressionPhantom.state

    def dying(self: CompressionPhantom, number: int) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return states(self, number)

    monkeypatch.setattr(CompressionPhantom, "state", dying)
    with pytest.raises(KeyboardInterrupt):
        write_compression_study(tiny, **{**TINY, "seed": 4}, overwrite=True)
    assert not list(tiny.glob("manifest.*"))


def test_no_two_studies_share_a_sample() -> None:
    assert len({sample_seed(seed, index) for seed in range(20) for index in range(20)}) == 400


def test_samples_are_named_as_the_papers() -> None:
    assert [sample_name("cortical", i) for i in range(6)] == ["CB5", "CB6", "CB8", "CB12", "CB22", "CB_06"]
    assert [sample_name("trabecular", i) for i in range(6)] == ["TB5", "TB6", "TB9", "TB11", "TB12", "TB_06"]


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"samples": 0}, "samples: must be >= 1, got 0"),
        ({"states": 1}, "states: must be >= 2"),
        ({"bone": "x"}, "bone"),
    ],
)
def test_wrong_arguments_write_nothing(tmp_path: Path, arguments: dict, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        write_compression_study(tmp_path / "study", **arguments)
    assert not (tmp_path / "study").exists()
