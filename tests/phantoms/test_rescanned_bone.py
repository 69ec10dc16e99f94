from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr
from skimage.filters import threshold_otsu

from bonemonai.__main__ import main
from bonemonai.data import (
    OmeZarrWriter,
    Volume,
    manifest_items,
    open_resolution_pair,
    open_volume,
    read_data_card,
    read_manifest,
)
from bonemonai.data.cropped_volume import CroppedVolume
from bonemonai.errors import InputError, OutputError
from bonemonai.phantoms import hr_acquisition, lr_acquisition, write_rescanned_study

SHAPE = (133, 49, 46)  # of which factor 2 takes 132 x 48 x 46
PARTS = {  # by hand: 66 coarse planes, of which 24 and 9, a gap of 7, and 26; 24 x 23 coarse rows and columns, halved
    "train": (slice(0, 48), slice(0, 48), slice(0, 46)),
    "val": (slice(48, 66), slice(0, 48), slice(0, 46)),
    "test-00": (slice(80, 132), slice(0, 24), slice(0, 22)),
    "test-01": (slice(80, 132), slice(0, 24), slice(22, 46)),
    "test-02": (slice(80, 132), slice(24, 48), slice(0, 22)),
    "test-03": (slice(80, 132), slice(24, 48), slice(22, 46)),
}
# columns run along -y, rows along +z, planes along -x: no axis is where it would be by itself
AFFINE = np.array([[-0.01, 0, 0, 3.0], [0, 0, -0.01, -2.0], [0, 0.01, 0, 1.0], [0, 0, 0, 1]])


def texture(shape: tuple[int, int, int] = SHAPE, seed: int = 1) -> NDArray[np.float32]:
    """Grains a few voxels wide, of both signs."""
    grains = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5, mode="nearest")
    return np.asarray(300 + 3000 * grains, dtype=np.float32)


def stored(path: Path, values: NDArray[Any], voxel_um: tuple[float, float, float] = (10.0, 10.0, 10.0)) -> Volume:
    options: dict[str, Any] = {"shape": values.shape, "dtype": values.dtype, "voxel_size_um": voxel_um}
    affine = AFFINE @ np.diag([*(np.array(voxel_um) / 10), 1])
    about = {"units": "mg HA/cm3", "affine_lps": affine.tolist()}
    with OmeZarrWriter(path, kind="image", overwrite=True, attributes=about, **options) as writer:
        writer.write(values)
    return open_volume(path)


def read(manifest: Path, part: str, name: str = "lr_1") -> NDArray[Any]:
    return open_volume(manifest.parent / part / f"{name}.ome.zarr").read()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def scans(folder: Path, part: str) -> dict[str, bytes]:
    """Every byte of a part, or of all parts whose names begin so."""
    return {name: found for name, (found, _) in contents(folder).items() if name.startswith(part)}


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return stored(tmp_path_factory.mktemp("scan") / "bone.ome.zarr", texture())


@pytest.fixture(scope="module")
def clean(scan: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rescanned_study(tmp_path_factory.mktemp("clean"), scan, noise=0)


@pytest.fixture(scope="module")
def noisy(scan: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rescanned_study(tmp_path_factory.mktemp("noisy"), scan, noise=60, frame_averages=(1, 3), seed=5)


def test_manifest_has_a_row_a_part_and_frame_average(noisy: Path) -> None:
    lines = noisy.read_text().splitlines()
    assert lines[0] == "patient,image,lr,lr_frames,part,site,split,units,voxel_size_um,lr_voxel_size_um"
    assert lines[1] == "specimen-1,train/hr.ome.zarr,train/lr_1.ome.zarr,1,train,specimen,train,mg HA/cm3,10,20"
    with pytest.raises(InputError, match="'specimen-1' stands in more than one split: test, train, val"):
        read_manifest(noisy)
    manifest = read_manifest(noisy, allow_shared_patient=True)
    assert manifest["part"].tolist() == [part for part in PARTS for _ in "13"]
    assert manifest["lr_frames"].tolist() == ["1", "3"] * 6
    assert manifest["split"].tolist() == ["train"] * 2 + ["val"] * 2 + ["test"] * 8


def test_high_is_the_scan_itself_and_low_is_of_the_same_place(scan: Volume, noisy: Path) -> None:
    values = scan.read()
    for row in manifest_items(read_manifest(noisy, allow_shared_patient=True)):
        box = PARTS[row["part"]]
        hr, lr = open_volume(row["image"]), open_volume(row["lr"])
        assert (hr.dtype, lr.dtype) == (np.float32, np.float32)
        assert hr.units == lr.units == "mg HA/cm3"
        assert hr.warnings == lr.warnings == []
        np.testing.assert_array_equal(hr.read(), values[box])
        assert lr.shape == tuple(length // 2 for length in hr.shape)
        assert (hr.voxel_size_um, lr.voxel_size_um) == ((10, 10, 10), (20, 20, 20))
        assert hr.affine_lps is not None
        assert lr.affine_lps is not None
        first = [side.start for side in box]
        np.testing.assert_allclose(hr.affine_lps @ [0, 0, 0, 1], AFFINE @ [*first, 1], atol=1e-9)
        np.testing.assert_allclose(hr.affine_lps[:, :3], AFFINE[:, :3], atol=1e-12)
        for corner in np.ndindex(2, 2, 2):  # the outer ones of the outermost voxels
            ends = [[side * length - 0.5 for side, length in zip(corner, v.shape, strict=True)] for v in (hr, lr)]
            one, other = (v.affine_lps @ [*end, 1] for v, end in zip((hr, lr), ends, strict=True))
            np.testing.assert_allclose(one, other, atol=1e-9)
    assert open_resolution_pair(row).factor == 2


def weights(length: int, factor: int, sigma: float, pad: int) -> NDArray[np.float64]:
    """Of fine voxels, ``pad`` more at each end, in coarse ones: the Gaussian integrated over both, numerically."""
    nodes, share = np.polynomial.legendre.leggauss(40)
    within = (nodes + 1) / 2 * factor
    at = (np.arange(length // factor)[:, None] * factor + within)[..., None]
    fine = np.arange(-pad, length + pad)
    of_points = ndtr((fine + 1 - at) / sigma) - ndtr((fine - at) / sigma)
    return np.asarray((of_points * share[:, None] / 2).sum(axis=1))


@pytest.mark.parametrize(("factor", "shape"), [(2, SHAPE), (3, (193, 34, 35))])
def test_low_is_blurred_by_what_is_missing_and_averaged(
    tmp_path: Path, factor: int, shape: tuple[int, int, int]
) -> None:
    values = texture(shape)
    study = write_rescanned_study(
        tmp_path / "study", stored(tmp_path / "s.ome.zarr", values), factor=factor, noise=0, blocks=1
    )
    # 0.7 of the coarse voxel less 0.7 of the fine one, in variance
    assert hr_acquisition().psf_sigma_um / 10 == lr_acquisition().psf_sigma_um / 20 == 0.7
    sigma, pad = 0.7 * math.sqrt(factor**2 - 1), 30
    assert read_data_card(study)["psf_added_um"] == pytest.approx(10 * sigma)
    whole = [length // factor * factor for length in shape]
    padded = np.pad(values.astype(np.float64), pad, mode="edge")
    padded = padded[tuple(slice(0, length + 2 * pad) for length in whole)]  # what is cropped still informs the end
    matrices = [weights(length, factor, sigma, pad) for length in whole]
    expected = np.einsum("kz,jy,ix,zyx->kji", *matrices, padded, optimize=True)
    # the scanner drops the point spread beyond 4 standard deviations: 3 axes x 6e-5 of the range at most
    atol = 2e-4 * float(np.ptp(values))
    planes = whole[0] // factor
    train, val, test = (read(study, part) for part in ("train", "val", "test-00"))
    np.testing.assert_allclose(np.concatenate([train, val]), expected[: planes // 2], atol=atol, rtol=0)
    np.testing.assert_allclose(test, expected[planes - len(test) :], atol=atol, rtol=0)
    # and it does blur: plain averages are far off
    d, h, w = train.shape
    averaged = values[: d * factor, : h * factor, : w * factor].reshape(d, factor, h, factor, w, factor)
    assert np.abs(averaged.mean(axis=(1, 3, 5)) - train).max() > 100 * atol


def test_parts_are_cut_out_of_one_coarse_scan(scan: Volume, clean: Path, tmp_path: Path) -> None:
    """Beyond a part its neighbours inform it, so that blocks side by side are the block that they were."""
    whole = read(write_rescanned_study(tmp_path, scan, noise=0, blocks=1), "test-00")
    rows = [np.concatenate([read(clean, f"test-0{2 * i + j}") for j in (0, 1)], axis=2) for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), whole)


def test_constant_bone_stays_constant_and_means_are_kept(tmp_path: Path, scan: Volume, clean: Path) -> None:
    values = np.full(SHAPE, 250, dtype=np.int16)
    values[73:] = 900  # beyond the middle of the gap, which nothing of the first half sees
    study = write_rescanned_study(tmp_path / "study", stored(tmp_path / "s.ome.zarr", values), noise=0)
    for part in PARTS:
        np.testing.assert_allclose(read(study, part), 900 if part.startswith("test") else 250, rtol=1e-6)
    # away from its border, blur and average only move grey about
    low, high = read(clean, "train"), scan.read()[PARTS["train"]]
    assert high.std() > 100
    assert low.mean() == pytest.approx(high.mean(), abs=0.02 * float(high.std()))


def test_no_voxel_informs_both_sides(tmp_path: Path, clean: Path) -> None:
    """Whatever stands up to the middle of the gap, test is the same, byte for byte; and the other way round."""
    for name, changed, kept, moved in (
        ("first", slice(0, 73), ("test",), "val"),
        ("second", slice(73, None), ("train", "val"), "test"),
    ):
        values = texture()
        values[changed] += 1e6
        study = write_rescanned_study(tmp_path / name, stored(tmp_path / f"{name}.zarr", values), noise=0)
        for part in kept:
            assert scans(study.parent, part) == scans(clean.parent, part) != {}
        assert scans(study.parent, moved) != scans(clean.parent, moved)


def test_val_sees_the_first_half_of_the_gap(tmp_path: Path, clean: Path) -> None:
    values = texture()
    values[66:73] += 1e9
    study = write_rescanned_study(tmp_path / "study", stored(tmp_path / "s.zarr", values), noise=0)
    assert np.abs(read(study, "val") - read(clean, "val"))[-1].min() > 1e6
    np.testing.assert_array_equal(read(study, "train")[:-1], read(clean, "train")[:-1])


def test_noise_is_as_asked_and_each_scans_own(clean: Path, noisy: Path) -> None:
    found = {
        (part, frames): read(noisy, part, f"lr_{frames}") - read(clean, part) for part in PARTS for frames in (1, 3)
    }
    for (_, frames), noise in found.items():
        assert noise.std() == pytest.approx(60 / math.sqrt(frames), rel=0.06)
        assert abs(noise.mean()) < 1
    single = found["train", 1]
    assert single.std() / found["train", 3].std() == pytest.approx(math.sqrt(3), rel=0.03)
    corner = (slice(0, 9), slice(0, 11), slice(0, 11))
    others = [found["train", 3], found["val", 1], found["test-00", 1], found["test-03", 1], single[1:]]
    for other in others:
        assert abs(np.corrcoef(single[corner].ravel(), other[corner].ravel())[0, 1]) < 0.15


def test_noise_follows_contrast_as_in_the_phantom(tmp_path: Path) -> None:
    # 90 mg HA/cm3 of noise where trabeculae of 950 lie in marrow of 50, halfway along both ranges: a tenth
    values = np.where(texture() > 400, 330, 80).astype(np.uint16)
    study = write_rescanned_study(tmp_path / "study", stored(tmp_path / "s.ome.zarr", values), frame_averages=(2,))
    card = read_data_card(study)
    assert card["contrast"] == pytest.approx(250, rel=1e-3)
    assert card["noise_sd"]["lr_2"] == pytest.approx(25 / math.sqrt(2), rel=1e-3)
    silent = write_rescanned_study(tmp_path / "silent", open_volume(tmp_path / "s.ome.zarr"), noise=0)
    noise = read(study, "train", "lr_2") - read(silent, "train")
    assert noise.std() == pytest.approx(25 / math.sqrt(2), rel=0.03)


def test_card(noisy: Path) -> None:
    card = read_data_card(noisy)
    assert (card["kind"], card["licence"]) == ("real bone, coarse scan simulated", None)
    assert (card["units"], card["factor"], card["seed"]) == ("mg HA/cm3", 2, 5)
    assert "scores say nothing about another specimen" in card["leakage"]
    assert card["noise_sd"] == {"lr_1": 60, "lr_3": pytest.approx(60 / math.sqrt(3))}
    assert {part: tuple(map(slice, found["start"], found["stop"])) for part, found in card["parts"].items()} == PARTS
    assert re.fullmatch("[0-9a-f]{64}", card["settings"]["input"]["sha256_sampled"])
    written = noisy.with_suffix(".json").read_text()
    assert "bone.ome.zarr" not in written
    assert str(noisy.parent) not in written


def test_the_same_call_changes_nothing_and_another_place_gets_the_same(
    tmp_path: Path, scan: Volume, noisy: Path
) -> None:
    options: dict[str, Any] = {"noise": 60, "frame_averages": (1, 3), "seed": 5}
    before = contents(noisy.parent)
    assert write_rescanned_study(noisy.parent, scan, **options) == noisy
    assert contents(noisy.parent) == before
    write_rescanned_study(tmp_path, scan, **options)
    assert scans(tmp_path, "") == scans(noisy.parent, "")


def test_a_stopped_study_is_not_listed_and_the_same_call_completes_it(
    tmp_path: Path, scan: Volume, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bonemonai.phantoms.rescanned_bone.fbp_noise", dying)
    with pytest.raises(KeyboardInterrupt):
        write_rescanned_study(tmp_path, scan, noise=0)
    assert not (tmp_path / "manifest.csv").exists()
    assert not list(tmp_path.rglob("*lr_1*"))
    monkeypatch.undo()
    with pytest.raises(OutputError, match="is of another study"):
        write_rescanned_study(tmp_path, scan, noise=0, seed=1)
    write_rescanned_study(tmp_path, scan, noise=0)
    assert scans(tmp_path, "") == scans(clean.parent, "")


def test_another_study_is_kept_unless_told(tmp_path: Path, scan: Volume) -> None:
    path = write_rescanned_study(tmp_path / "study", scan, noise=1)
    before = contents(path.parent)
    other = stored(tmp_path / "other.ome.zarr", texture(seed=2))
    changes: list[dict[str, Any]] = [
        {"seed": 3}, {"noise": 2}, {"frame_averages": (3,)}, {"blocks": 1}, {"site": "tibia"}, {"scan": other},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(OutputError, match="is of another study; choose another folder, or say overwrite"):
            write_rescanned_study(path.parent, **{"scan": scan, "noise": 1, **change})
    assert contents(path.parent) == before
    write_rescanned_study(path.parent, other, noise=1, site="tibia", overwrite=True)
    assert set(read_manifest(path, allow_shared_patient=True)["site"]) == {"tibia"}
    np.testing.assert_array_equal(read(path, "val", "hr"), other.read()[PARTS["val"]])


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"factor": 1}, "factor: must be >= 2, got 1"),
        ({"blocks": 0}, "blocks: must be >= 1, got 0"),
        ({"seed": -1}, "seed: must be >= 0, got -1"),
        ({"frame_averages": ()}, r"frame_averages: must be different numbers >= 1, got \(\)"),
        ({"frame_averages": (3, 3)}, "frame_averages: must be different"),
        ({"noise": -1.0}, "noise: must be a number >= 0, got -1.0"),
        ({"noise": math.nan}, "noise: must be a number >= 0, got nan"),
        ({"site": "a\nb"}, r"site: must be a word, got 'a\\nb'"),
        ({"blocks": 3}, r"is \(133, 49, 46\) voxels, of which 'test-00' gets \(52, 16, 14\); \(16, 22, 22\) are due "
         "a part: 128 planes and 66 rows and columns are enough"),
        ({"factor": 3}, r"'val' gets \(18, 48, 45\); \(24, 33, 33\) are due a part: 192 planes and 66 rows"),
    ],
)  # fmt: skip
def test_wrong_arguments_write_nothing(tmp_path: Path, scan: Volume, wrong: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        write_rescanned_study(tmp_path / "study", scan, **wrong)
    assert not (tmp_path / "study").exists()


def test_what_is_enough_is_enough(tmp_path: Path) -> None:
    write_rescanned_study(tmp_path / "study", stored(tmp_path / "s.zarr", texture((128, 44, 44))), noise=0)
    assert read(tmp_path / "study" / "manifest.csv", "val").shape == (8, 22, 22)
    assert read(tmp_path / "study" / "manifest.csv", "test-03").shape == (25, 11, 11)


def test_wrong_scans_write_nothing(tmp_path: Path) -> None:
    holed = texture()
    holed[100, 3, 4] = np.nan
    unknown = stored(tmp_path / "unknown.zarr", texture())
    unknown.affine_lps = None
    for wrong, cause in (
        (stored(tmp_path / "nan.zarr", holed), "holds 1 values that are NaN or infinite"),
        (stored(tmp_path / "flat.zarr", np.ones(SHAPE, "uint8")), "holds a single grey value"),
        (unknown, "does not state its voxel size; say --voxel-size-um"),
        (stored(tmp_path / "long.zarr", texture(), (10, 10, 11)), "has voxels of 10 x 10 x 11 um; cubes are due"),
    ):
        with pytest.raises(InputError, match=cause):
            write_rescanned_study(tmp_path / "study", wrong, noise=1)
    assert not (tmp_path / "study").exists()


def test_almost_cubes_are_cubes(tmp_path: Path) -> None:
    scan = stored(tmp_path / "s.zarr", texture(), (10.05, 10, 10))
    study = write_rescanned_study(tmp_path / "study", scan, noise=0)
    row = manifest_items(read_manifest(study, allow_shared_patient=True))[0]
    assert float(row["voxel_size_um"]) == pytest.approx(30.05 / 3)
    assert float(row["lr_voxel_size_um"]) == pytest.approx(60.1 / 3)
    assert open_volume(row["lr"]).voxel_size_um == (20.1, 20, 20)
    assert open_resolution_pair(row).factor == 2


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path / "s.ome.zarr", texture())
    options = "--frames 1,2 --noise 5 --seed 2 --blocks 1 --site tibia --voxel-size-um 12 --factor 2"
    with pytest.raises(SystemExit) as stop:
        main(["rescan", str(tmp_path / "s.ome.zarr"), str(tmp_path / "study"), *options.split()])
    assert not stop.value.code
    path = tmp_path / "study" / "manifest.csv"
    assert f"manifest: {path}" in capsys.readouterr().out
    manifest = read_manifest(path, allow_shared_patient=True)
    assert manifest["part"].tolist() == ["train", "train", "val", "val", "test-00", "test-00"]
    assert set(manifest["lr_voxel_size_um"]) == {"24"}
    settings = json.loads(path.with_suffix(".json").read_text())["settings"]
    assert {name: settings[name] for name in ("frame_averages", "noise", "seed", "site")} == {
        "frame_averages": [1, 2], "noise": 5, "seed": 2, "site": "tibia",
    }  # fmt: skip
    for wrong, code, cause in (
        (["--frames", "1,x"], 2, "--frames: must be whole numbers parted by commas, got '1,x'"),
        (["--units", "HU"], 2, "states its values in mg HA/cm3; they are not HU"),
        (["--seed", "3"], 4, "is of another study"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["rescan", str(tmp_path / "s.ome.zarr"), str(tmp_path / "study"), *wrong])
        assert stop.value.code == code
        assert cause in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "voxel_um", "size"),
    [
        ("microct-lhdl-trabecular-tiff/tiff", 19.5, (200, 110, 100)),
        ("hrpqct-trabecular-aim/TRAB_1240.AIM", None, (126, 108, 108)),
    ],
)
def test_real_bone(
    sample_data: Path,
    tmp_path: Path,
    name: str,
    voxel_um: float | None,
    size: tuple[int, int, int],
) -> None:
    scan = CroppedVolume(open_volume(sample_data / name, voxel_size_um=voxel_um), (0, 0, 0), size)
    study = write_rescanned_study(tmp_path, scan)
    card = read_data_card(study)
    values = scan.read()
    bone = values > threshold_otsu(values)
    assert card["contrast"] == pytest.approx(values[bone].mean() - values[~bone].mean(), rel=0.02)
    assert card["noise_sd"] == {"lr_1": pytest.approx(card["contrast"] / 10)}
    for row in manifest_items(read_manifest(study, allow_shared_patient=True)):
        pair = open_resolution_pair(row)  # which refuses scans that are more than a fine voxel off each other
        assert pair.shift_voxels is not None
        assert max(map(abs, pair.shift_voxels)) <= 0.5
        assert pair.high.units == pair.low.units == scan.units
        box = tuple(map(slice, card["parts"][row["part"]]["start"], card["parts"][row["part"]]["stop"]))
        np.testing.assert_array_equal(pair.high.read(), values[box])
        # the coarse scan is the fine one, blurred: they agree, up to noise
        assert np.corrcoef(pair.low.read().ravel(), pair.high.read().ravel())[0, 1] > 0.75
