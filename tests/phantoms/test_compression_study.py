from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import open_volume, read_data_card, read_manifest
from bonemonai.errors import InputError
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
