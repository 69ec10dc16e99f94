from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from skimage.exposure import match_histograms

from bonemonai.data import ScanPreparation, TiffStackWriter, open_volume, read_data_card, read_manifest
from bonemonai.data.median_volume import MedianVolume
from bonemonai.data.resampled_volume import ResampledVolume
from bonemonai.errors import InputError, OutputError, ResumeError
from bonemonai.phantoms import write_compression_study
from tests.drill import content, finish, start

CROP, START = (20, 22, 24), (6, 5, 4)  # of scans of 32 x 32 x 32
BOX = tuple(slice(first, first + n) for first, n in zip(START, CROP, strict=True))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples, two states: scans 0, 2 and 4 are the samples' first."""
    return write_compression_study(tmp_path_factory.mktemp("study"), samples=3, states=2, shape=(32, 32, 32), seed=4)


@pytest.fixture(scope="module")
def two_scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sample, two states, moved between them."""
    folder = tmp_path_factory.mktemp("two")
    return write_compression_study(
        folder, bone="trabecular", samples=1, states=2, shape=(32, 32, 32), seed=1, motion_voxels=1.0
    )


def preparation(manifest: Path, out: Path, **options: Any) -> ScanPreparation:
    defaults = {"crop_size": CROP, "slices_per_plane": 5, "registered": True, "progress": False}
    return ScanPreparation(manifest, out, **{**defaults, **options})


def values(manifest: Path, number: int, column: str = "image") -> NDArray[Any]:
    return open_volume(read_manifest(manifest).loc[number, column]).read()[BOX]


def prepared(out: Path, number: int, what: str = "") -> NDArray[Any]:
    return open_volume(out / f"scan_{number:04d}{what}.ome.zarr").read()


def changes(out: Path) -> dict[str, int]:
    """Modification times of all but locks and the list of slices."""
    files = (file for file in out.rglob("*") if file.is_file() and not file.name.endswith(".lock"))
    return {str(file.relative_to(out)): file.stat().st_mtime_ns for file in files if not file.name.startswith("slices")}


def by_hand(scan: NDArray[Any], reference: NDArray[Any] | None, median: bool = True) -> NDArray[Any]:
    """What scikit-image and scipy make of whole arrays."""
    matched = scan if reference is None else match_histograms(scan, reference)
    return median_filter(matched, size=3, mode="nearest") if median else matched


@pytest.mark.parametrize(
    ("options", "reference_of"),
    [
        ({}, {1: 0, 5: 4}),
        ({"matching": "bone"}, {1: 0, 2: 0, 5: 0}),
        ({"matching": "none"}, {}),
        ({"median": False}, {1: 0, 5: 4}),
        ({"matching": "none", "median": False}, {}),
        ({"memory": 1.0}, {1: 0, 5: 4}),
    ],
    ids=["as in the paper", "by bone", "not matched", "not filtered", "neither", "plane by plane"],
)
def test_registered_scans_are_the_plain_pipelines(
    study: Path, tmp_path: Path, options: dict[str, Any], reference_of: dict[int, int]
) -> None:
    made = preparation(study, tmp_path, **options)
    for number in (0, 1, 2, 5):
        scan = values(study, number)
        reference = values(study, reference_of[number]) if number in reference_of else None
        found = made.prepared(number).read()
        expected = by_hand(scan, reference, options.get("median", True))
        if reference is None:
            np.testing.assert_array_equal(found, expected)
            continue
        distance = np.abs(found - expected) / np.ptp(reference)
        assert distance.max() <= 1e-2
        assert distance.mean() <= 1e-4


def test_what_is_written(study: Path, tmp_path: Path) -> None:
    made = preparation(study, tmp_path)
    path = made.run()
    assert path == tmp_path / "slices.csv"
    scans = read_manifest(study)
    for number in range(6):
        image = open_volume(tmp_path / f"scan_{number:04d}.ome.zarr")
        assert (image.shape, image.dtype, image.voxel_size_um) == (CROP, np.float32, (6.5, 6.5, 6.5))
        np.testing.assert_array_equal(image.read(), made.prepared(number).read())
        for mask in ("crack", "ring"):
            np.testing.assert_array_equal(prepared(tmp_path, number, f"_{mask}"), values(study, number, mask))
        record = json.loads((tmp_path / f"scan_{number:04d}.json").read_text())
        assert record["registration"] is None
        assert record["options"]["crop_size"] == list(CROP)
        assert str(study.parent) not in json.dumps(record)
    assert not list(tmp_path.glob("*.tfm"))
    assert not list(tmp_path.glob(".*.partial"))
    table = read_manifest(path)
    assert len(table) == 6 * 3 * 5
    assert not table.duplicated().any()
    assert not table.duplicated(["patient", "load_state", "plane", "index"]).any()
    assert list(table["patient"].unique()) == list(scans["patient"].unique())
    for row in table.to_dict("records"):
        scan = scans[(scans["patient"] == row["patient"]) & (scans["load_state"] == row["load_state"])]
        assert Path(row["image"]).name == f"scan_{scan.index[0]:04d}.ome.zarr"
        assert Path(row["crack"]).name == f"scan_{scan.index[0]:04d}_crack.ome.zarr"
        assert (row["bone"], row["site"]) == ("cortical", "phantom")
        assert int(row["index"]) < CROP[["XY", "XZ", "YZ"].index(row["plane"])]
    card = read_data_card(path)
    assert (card["kind"], card["preparation"]["matching"]) == ("synthetic", "sample")


@pytest.fixture(scope="module")
def first_done(two_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    preparation(two_scans, folder).run()
    return folder


@pytest.fixture
def done(first_done: Path, tmp_path: Path) -> Path:
    """The study of two scans, prepared."""
    return Path(shutil.copytree(first_done, tmp_path / "out"))


def test_second_call_touches_nothing(two_scans: Path, done: Path) -> None:
    before, digest = changes(done), content(done)
    assert len(before) > 2 * 7
    path = preparation(two_scans, done, slices_per_plane=3, crop_size=list(CROP)).run()
    assert (changes(done), content(done)) == (before, digest)
    assert path is not None
    assert len(read_manifest(path)) == 2 * 3 * 3


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


@pytest.mark.parametrize(
    "damage",
    [
        lambda out: shutil.rmtree(out / "scan_0001.ome.zarr"),
        lambda out: shutil.rmtree(out / "scan_0001_crack.ome.zarr"),
        lambda out: (out / "scan_0001.json").unlink(),
        lambda out: (out / "scan_0001.ome.zarr" / "0" / "c" / "1" / "0" / "0").unlink(),
        lambda out: cut_short(out / "scan_0001.ome.zarr" / "0" / "c" / "1" / "0" / "0"),
        lambda out: cut_short(out / "scan_0001_ring.ome.zarr" / "0" / "c" / "0" / "0" / "0"),
        lambda out: cut_short(out / "scan_0001.ome.zarr" / "zarr.json"),
        lambda out: (out / "scan_0001.ome.zarr" / "zarr.json").unlink(),
    ],
    ids=["scan", "mask", "record", "chunk", "chunk cut", "chunk of a mask cut", "metadata cut", "metadata"],
)
def test_what_is_not_whole_any_more_is_made_anew(two_scans: Path, done: Path, damage: Any) -> None:
    digest, before = content(done), changes(done)
    damage(done)
    assert preparation(two_scans, done).run() == done / "slices.csv"
    assert content(done) == digest
    after = changes(done)
    assert {name for name in before if after[name] != before[name]} == {
        name for name in before if name.startswith("scan_0001")
    }


@pytest.mark.parametrize(
    "options",
    [{"crop_size": 20}, {"matching": "none"}, {"median": False}, {"seed": 1}, {"interpolation": "linear"}],
    ids=str,
)
def test_other_options_are_refused_and_taken_with_overwrite(
    two_scans: Path, done: Path, options: dict[str, Any]
) -> None:
    digest = content(done)
    with pytest.raises(ResumeError, match=r"scan_0000\.ome\.zarr: was prepared from other data or with other") as error:
        preparation(two_scans, done, **options).run()
    assert error.value.exit_code == 3
    assert content(done) == digest
    preparation(two_scans, done, overwrite=True, **options).run()
    made = preparation(two_scans, done, **options)
    np.testing.assert_array_equal(prepared(done, 1), made.prepared(1).read())
    assert made.run() is not None


def test_a_place_taken_by_something_else_is_refused(two_scans: Path, tmp_path: Path) -> None:
    (tmp_path / "scan_0000.ome.zarr").mkdir()
    with pytest.raises(ResumeError, match="was prepared from other data"):
        preparation(two_scans, tmp_path).run()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written to"):
        preparation(two_scans, tmp_path / "file").run()


def rewrite(scan: Path, values: NDArray[Any], edge_um: float | None = 6.5) -> None:
    if edge_um is None:
        shutil.rmtree(scan, ignore_errors=True)
        scan.mkdir()
        for number, plane in enumerate(values):
            tifffile.imwrite(scan / f"{number:04d}.tif", plane, photometric="minisblack")
        return
    with TiffStackWriter(
        scan, shape=values.shape, dtype=values.dtype, voxel_size_um=(edge_um,) * 3, overwrite=True
    ) as writer:
        writer.write(values)


@pytest.fixture
def own(two_scans: Path, tmp_path: Path) -> Path:
    """A copy of the study that may be changed."""
    shutil.copytree(two_scans.parent, tmp_path / "study")
    return tmp_path / "study" / "manifest.csv"


@pytest.mark.parametrize(("state", "what"), [(1, "image"), (2, "image"), (2, "crack")])
def test_changed_source_is_noticed(own: Path, tmp_path: Path, state: int, what: str) -> None:
    preparation(own, tmp_path / "out").run()
    scan = own.parent / "TB5" / f"state_{state:02d}" / what
    changed = open_volume(scan).read()
    changed[5, 6, 7] += 1  # one voxel
    rewrite(scan, changed)
    with pytest.raises(ResumeError, match=f"scan_000{0 if state == 1 else 1}.ome.zarr: was prepared from other data"):
        preparation(own, tmp_path / "out").run()


def test_stopped_in_the_middle_leaves_nothing_half_written(
    two_scans: Path, first_done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = MedianVolume._read, []

    def dying(self: MedianVolume, start: int, stop: int) -> NDArray[Any]:
        reads.append(start)
        if len(reads) == 4:
            raise KeyboardInterrupt
        return read(self, start, stop)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(MedianVolume, "_read", dying)
        with pytest.raises(KeyboardInterrupt):
            preparation(two_scans, out, memory=1.0).run()
    assert reads == [0, 16, 0, 16]
    assert sorted(file.name for file in out.iterdir() if file.name[0] != ".") == [
        "scan_0000.json", "scan_0000.ome.zarr", "scan_0000_crack.ome.zarr", "scan_0000_ring.ome.zarr"
    ]  # fmt: skip
    before = changes(out)
    preparation(two_scans, out).run()
    assert content(out) == content(first_done)
    assert {name: time for name, time in changes(out).items() if name in before} == before


@pytest.mark.parametrize("last", ["scan_0001.ome.zarr", "scan_0001_ring.ome.zarr"])
def test_stopped_between_files_goes_on(
    two_scans: Path, first_done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    write = ScanPreparation._write

    def dying(self: ScanPreparation, volume: Any, path: Path, **options: Any) -> None:
        write(self, volume, path, **options)
        if path.name == last:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ScanPreparation, "_write", dying)
        with pytest.raises(KeyboardInterrupt):
            preparation(two_scans, tmp_path / "out").run()
    assert not (tmp_path / "out" / "scan_0001.json").exists()
    preparation(two_scans, tmp_path / "out").run()
    assert content(tmp_path / "out") == content(first_done)


def prepare(manifest: Path, out: Path) -> None:
    preparation(manifest, out).run()


def test_processes_at_once_make_what_one_makes(two_scans: Path, first_done: Path, tmp_path: Path) -> None:
    # the second time there is nothing left to do: both write the list at once
    for _ in range(2):
        processes = [start(prepare, two_scans, tmp_path / "out") for _ in range(2)]
        assert [finish(process) for process in processes] == [0, 0]
        assert content(tmp_path / "out") == content(first_done)
        assert (tmp_path / "out" / "slices.csv").read_text() == (first_done / "slices.csv").read_text()


def test_scan_that_another_process_works_on_is_left_to_it(two_scans: Path, done: Path) -> None:
    from filelock import FileLock

    (done / "scan_0001.json").unlink()
    (done / "slices.csv").unlink()
    with FileLock(done / ".scan_0001.lock"):
        assert preparation(two_scans, done).run() is None
    assert not (done / "slices.csv").exists()
    assert preparation(two_scans, done).run() == done / "slices.csv"


def test_registered_scan_its_masks_and_its_transform(two_scans: Path, tmp_path: Path) -> None:
    made = preparation(two_scans, tmp_path, registered=False, matching="none", median=False)
    made.run()
    assert not (tmp_path / "scan_0000.tfm").exists()
    np.testing.assert_array_equal(prepared(tmp_path, 0), values(two_scans, 0))
    transform = SimpleITK.ReadTransform(str(tmp_path / "scan_0001.tfm"))
    record = json.loads((tmp_path / "scan_0001.json").read_text())
    about = record["registration"]
    euler = SimpleITK.Euler3DTransform(transform)
    angles = np.rad2deg([euler.GetAngleX(), euler.GetAngleY(), euler.GetAngleZ()])
    assert about["rotation_deg"] == pytest.approx(angles.tolist(), abs=1e-5)
    assert about["shift_um"] == pytest.approx([1000 * step for step in euler.GetTranslation()], abs=1e-3)
    assert about["correlation"] >= about["correlation_before"]
    scans = read_manifest(two_scans)
    for column, what, way in (("image", "", "bspline"), ("crack", "_crack", "nearest"), ("ring", "_ring", "nearest")):
        volume = open_volume(scans.loc[1, column], voxel_size_um=6.5)
        expected = ResampledVolume(volume, euler, START, CROP, way)  # type: ignore[arg-type]
        assert about["outside"] == expected.outside
        np.testing.assert_array_equal(prepared(tmp_path, 1, what), expected.read())
    assert set(np.unique(prepared(tmp_path, 1, "_crack"))) <= {0, 1}
    # the motion that the phantom was drawn with
    truth = np.asarray(read_data_card(two_scans)["to_first"]["TB5"][1])
    for corner in ((START), np.add(START, CROP) - 1):
        point = np.asarray(euler.TransformPoint((np.asarray(corner)[::-1] * 0.0065).tolist()))[::-1] / 0.0065
        assert np.linalg.norm((truth @ [*point, 1])[:3] - corner) < 1
    # as registered, the file is gone
    preparation(two_scans, tmp_path, overwrite=True).run()
    assert not (tmp_path / "scan_0001.tfm").exists()


def test_doubtful_registration_is_said(
    two_scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bonemonai.data.scan_preparation._DOUBTFUL", 1.1)
    preparation(two_scans, tmp_path, registered=False, matching="none", median=False).run()
    assert "scan_0001.ome.zarr: after registration grey values correlate by" in caplog.text


def real_study(tmp_path: Path, scan: Path, edge_um: str = "") -> Path:
    place = tmp_path / "real" / scan.name
    (shutil.copytree if scan.is_dir() else shutil.copy2)(scan, place.parent.mkdir() or place)
    manifest = place.parent / "manifest.csv"
    manifest.write_text(f"patient,image,load_state,voxel_size_um,site\nTB1,{scan.name},1,{edge_um},Bologna\n")
    return manifest


def test_real_stack_as_unloaded_bone(lhdl: Path, tmp_path: Path) -> None:
    manifest = real_study(tmp_path, lhdl, "19.5")
    with pytest.raises(InputError, match=r"tiff: is \(200, 200, 200\) voxels: .* choose a smaller crop_size"):
        ScanPreparation(manifest, tmp_path / "out", progress=False).run()
    with pytest.raises(InputError, match="slices_per_plane: must be at most the box's 200 slices, got 300"):
        ScanPreparation(manifest, tmp_path / "out", crop_size=200, progress=False).run()
    assert not (tmp_path / "out").exists()
    path = ScanPreparation(manifest, tmp_path / "out", crop_size=200, slices_per_plane=4, progress=False).run()
    table = read_manifest(path)
    assert table["index"].tolist() == ["25", "75", "125", "175"] * 3
    image = open_volume(table.loc[0, "image"])
    assert (image.shape, image.voxel_size_um) == ((200, 200, 200), (19.5, 19.5, 19.5))
    expected = median_filter(open_volume(lhdl).read(60, 90), size=3, mode="nearest")
    np.testing.assert_array_equal(image.read(61, 89), expected[1:-1])


def test_real_aim_as_unloaded_bone(sample_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("py_aimio")
    scan = sample_data / "hrpqct-trabecular-aim" / "TRAB_1240.AIM"
    source = open_volume(scan)
    size = min(source.shape) // 2
    path = ScanPreparation(
        real_study(tmp_path, scan), tmp_path / "out", crop_size=size, slices_per_plane=2, progress=False
    ).run()
    image = open_volume(read_manifest(path).loc[0, "image"])
    box = tuple(slice((n - size) // 2, (n - size) // 2 + size) for n in source.shape)
    np.testing.assert_array_equal(image.read(), median_filter(source.read()[box], size=3, mode="nearest"))
    assert image.voxel_size_um == pytest.approx(source.voxel_size_um, rel=1e-6)
    assert image.units == source.units


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"matching": "all"}, "matching: must be sample, bone or none, got 'all'"),
        ({"slices_per_plane": 0}, r"slices_per_plane: must be >= 1 \(slices\), got 0"),
        ({"interpolation": "cubic"}, "interpolation: must be one of bspline, linear, nearest, got 'cubic'"),
        ({"seed": -1}, "seed: must be >= 0, got -1"),
        ({"crop_size": 0}, "no box of"),
        ({"crop_size": "large"}, "crop_size: must be one number or three"),
        ({"crop_size": (20, 20)}, "crop_size: must be one number or three"),
        ({"slices_per_plane": 21}, "must be at most the box's 20 slices, got 21"),
    ],
)
def test_options_that_will_not_do(two_scans: Path, tmp_path: Path, options: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        preparation(two_scans, tmp_path / "out", **options).run()
    assert not (tmp_path / "out").exists()


def test_voxel_sizes_and_shapes(own: Path, tmp_path: Path) -> None:
    table = pd.read_csv(own, dtype=str).drop(columns="voxel_size_um")
    table.to_csv(own, index=False)
    scan = own.parent / "TB5" / "state_02" / "image"
    whole = open_volume(scan).read()
    rewrite(scan, whole, None)
    for registered in (True, False):
        with pytest.raises(InputError, match="state_02/image: states no voxel size; give it in the manifest's column"):
            preparation(own, tmp_path / "out", registered=registered).run()
    rewrite(scan, whole, 6.6)
    with pytest.raises(InputError, match=r"has voxels of \(6\.6, 6\.6, 6\.6\) um, its sample's first scan"):
        preparation(own, tmp_path / "out").run()
    with pytest.raises(InputError, match=r"has voxels of \(6\.6, 6\.6, 6\.6\) um, its sample's first scan"):
        preparation(own, tmp_path / "out2", registered=False).run()
    rewrite(scan, whole[1:])
    with pytest.raises(InputError, match=r"has shape \(31, 32, 32\), its sample's first scan \(32, 32, 32\)"):
        preparation(own, tmp_path / "out").run()


def test_masks_take_the_voxel_size_of_their_scan_and_must_fit_it(own: Path, tmp_path: Path) -> None:
    table = pd.read_csv(own, dtype=str).drop(columns="voxel_size_um")
    table.loc[0, "crack"] = ""
    table.to_csv(own, index=False)
    mask = own.parent / "TB5" / "state_02" / "crack"
    truth = open_volume(mask).read()
    rewrite(mask, truth, None)
    path = preparation(own, tmp_path / "out").run()
    assert open_volume(tmp_path / "out" / "scan_0001_crack.ome.zarr").voxel_size_um == (6.5, 6.5, 6.5)
    # a scan without a mask has none in the list either
    slices = read_manifest(path)
    assert slices.groupby("load_state")["crack"].unique().map(list).to_dict() == {
        "1": [""], "2": [str(tmp_path / "out" / "scan_0001_crack.ome.zarr")]
    }  # fmt: skip
    rewrite(mask, truth[:, :30])
    with pytest.raises(InputError, match=r"crack: has shape \(32, 30, 32\), its scan \(32, 32, 32\)"):
        preparation(own, tmp_path / "out", overwrite=True).run()


@pytest.mark.parametrize("options", [{"matching": "none"}, {"matching": "none", "median": False}, {}])
def test_a_value_that_is_no_number_is_refused(own: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    scan = Path(read_manifest(own)["image"][1])
    grey = open_volume(scan).read()
    grey[12, 13, 14] = np.nan
    rewrite(scan, grey)
    with pytest.raises(InputError, match=r"NaN|not finite"):
        preparation(own, tmp_path / "out", **options).run()
    assert not (tmp_path / "out" / "scan_0001.ome.zarr").exists()
    assert not (tmp_path / "out" / "slices.csv").exists()


def test_slices_are_not_listed_while_scans_are_prepared_otherwise(two_scans: Path, done: Path) -> None:
    again = preparation(two_scans, done, matching="none", overwrite=True)
    again._prepare(0)  # and is killed
    assert not (done / "slices.csv").exists()
    assert not (done / "slices.json").exists()
    assert again.run() == done / "slices.csv"
    assert read_data_card(done / "slices.csv")["preparation"]["matching"] == "none"
