from __future__ import annotations

import json
import logging
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import create_workflow

from bonemonai.data import (
    PlaneDataset,
    Volume,
    intensity_artefact,
    manifest_items,
    open_volume,
    read_manifest,
    relative_planes,
    select_slices,
)
from bonemonai.errors import InputError, OutputError, find_bonemonai_error
from bonemonai.phantoms import SRMicroCTPhantom
from tests.conftest import ROOT

CONFIG = ROOT / "bundles" / "femur_srmct_osteoporosis_mga" / "configs" / "select_slices.json"
DEPTH = 24
RANGES = ("positive", "negative")


class ArrayVolume(Volume):
    """An array as a volume, which counts what is read of it."""

    format = "array"

    def __init__(self, planes: np.ndarray) -> None:
        super().__init__(Path("array"), shape=planes.shape, dtype=planes.dtype, affine_lps=None)
        self.planes, self.reads = planes, 0

    def _read(self, start: int, stop: int) -> np.ndarray:
        self.reads += stop - start
        assert stop - start <= 2
        return self.planes[start:stop].copy()


def artefact(planes: np.ndarray, **options: Any) -> str:
    return intensity_artefact(ArrayVolume(planes), **options)


@pytest.fixture(scope="module")
def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Grey values from 0 to 1, and bone."""
    block = SRMicroCTPhantom((DEPTH, 120, 115), seed=3, bone_fraction=0.4).block(0, DEPTH)
    return block.image, block.bone


# -- positions


@pytest.mark.parametrize(
    ("depth", "number", "margin", "planes"),
    [
        (100, 3, 0.2, [30, 50, 70]),
        (10, 1, 0.05, [5]),
        (1, 1, 0.05, [0]),
        (6, 2, 0.0, [1, 4]),
        (3, 2, 0.0, [0, 2]),
        (40, 6, 0.05, [5, 11, 17, 23, 29, 35]),
        # parts of two planes each, whose middles are borders: rounding would pair some of them
        (100, 40, 0.1, list(range(11, 91, 2))),
    ],
)
def test_planes_worked_out_by_hand(depth: int, number: int, margin: float, planes: list[int]) -> None:
    assert relative_planes(depth, number, margin=margin) == planes


def test_the_papers_440_of_2048() -> None:
    planes = relative_planes(2048, 440)
    assert (len(planes), planes[0], planes[-1]) == (440, 104, 1943)


MARGINS = st.floats(0, 0.45)


@given(depth=st.integers(1, 2500), other=st.integers(1, 2500), number=st.integers(1, 120), margin=MARGINS)
def test_positions_are_those_of_every_depth_and_never_neighbours(
    depth: int, other: int, number: int, margin: float
) -> None:
    found = []
    for planes_of in (depth, other):
        try:
            found.append(np.array(relative_planes(planes_of, number, margin=margin)))
        except InputError as error:
            fitting = int(re.search(r": (\d+) fit", str(error)).group(1))
            assert len(relative_planes(planes_of, fitting, margin=margin)) == fitting < number
            return
    wanted = margin + (1 - 2 * margin) * (np.arange(number) + 0.5) / number
    for planes_of, planes in zip((depth, other), found, strict=True):
        assert all(later - earlier >= 2 for earlier, later in pairwise(planes.tolist()))
        # half a plane: a plane's middle lies half a plane behind its number
        assert (np.abs(planes + 0.5 - wanted * planes_of) <= 0.5 + 1e-9).all()


@given(depth=st.integers(2, 2500), margin=MARGINS)
def test_as_many_fit_as_the_room_says(depth: int, margin: float) -> None:
    number = max(1, int((1 - 2 * margin) * depth / 2 - 1e-6))
    assert len(relative_planes(depth, number, margin=margin)) == number


def test_too_shallow_says_how_many_fit() -> None:
    with pytest.raises(InputError, match=r"number: of 440 planes, .* too many for a depth of 6: 2 fit\."):
        relative_planes(6, 440)


@pytest.mark.parametrize(
    ("number", "margin", "cause"),
    [
        (0, 0.05, "number: must be a whole number, 1 or more, got 0"),
        (2.5, 0.05, "number: must be a whole number"),
        ("many", 0.05, "number: must be a whole number"),
        (2, 0.5, "margin: must be a share of the depth, 0 to less than 0.5, got 0.5"),
        (2, -0.1, "margin: must be"),
        (2, "wide", "margin: must be"),
        (2, float("nan"), "margin: must be"),
    ],
)
def test_numbers_that_are_none(number: Any, margin: Any, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        relative_planes(100, number, margin=margin)


# -- artefacts


def beam_drop(planes: np.ndarray) -> None:
    planes[12:] *= 0.9


def missing_pictures(planes: np.ndarray) -> None:
    planes[12:15] = 0


def nearly_flat(planes: np.ndarray) -> None:
    planes[12] = 0.5 + 0.01 * (planes[12] - planes[12].mean())


def overexposed(planes: np.ndarray) -> None:
    planes *= 1.5


def overexposed_far(planes: np.ndarray) -> None:
    planes *= 2.5


def flicker(planes: np.ndarray) -> None:
    planes[::2] *= 1.3


def shadows_cut_off(planes: np.ndarray) -> None:
    planes[12] = np.maximum(planes[12], np.quantile(planes[12], 0.3))


def not_a_number(planes: np.ndarray) -> None:
    planes[12, 3, 4] = np.nan


def infinite(planes: np.ndarray) -> None:
    planes[12, 3, 4:6] = np.inf


INJECTIONS = {
    beam_drop: "changes abruptly from plane 11 to 12: mean",
    missing_pictures: "changes abruptly from plane 11 to 12: mean|plane 12 is flat",
    nearly_flat: "plane 12 is flat: standard deviation",
    overexposed: r"plane \d+ is saturated: \d+\.\d% of its pixels",
    overexposed_far: r"plane \d+ is saturated: \d+\.\d% of its pixels",
    flicker: "changes abruptly|is saturated",
    shadows_cut_off: r"changes abruptly from plane 11 to 12: .* pixels of the least value 0\.0% to 30\.0%",
    not_a_number: "plane 12 holds 1 NaN or infinite values",
    infinite: "plane 12 holds 2 NaN or infinite values",
}


def in_range(planes: np.ndarray, grey_range: str) -> np.ndarray:
    return np.clip(planes, 0, 1) - (grey_range == "negative") if np.isfinite(planes).all() else planes


@pytest.mark.parametrize("grey_range", RANGES)
@pytest.mark.parametrize(("inject", "reason"), INJECTIONS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_each_artefact_is_found_and_named(
    inject: Any, reason: str, grey_range: str, phantom: tuple[np.ndarray, np.ndarray]
) -> None:
    planes = phantom[0].copy()
    inject(planes)
    found = artefact(in_range(planes, grey_range))
    assert re.search(reason, found), found
    assert "\n" not in found


@pytest.mark.parametrize("grey_range", RANGES)
@pytest.mark.parametrize("bone", ["trabecular", "cortical"])
@pytest.mark.parametrize("seed", range(3))
def test_undamaged_scans_stay_in(
    seed: int, bone: Literal["trabecular", "cortical"], grey_range: Literal["positive", "negative"]
) -> None:
    block = SRMicroCTPhantom((12, 110, 110), seed, bone=bone, grey_range=grey_range).block(0, 12)
    assert artefact(block.image, margin=0) == ""


@pytest.mark.parametrize("shift", [0, -1])
def test_background_of_0_and_masks_are_no_artefacts(shift: int, phantom: tuple[np.ndarray, np.ndarray]) -> None:
    image, bone = phantom
    masked = np.where(bone, image + shift, 0).astype(np.float32)
    assert artefact(masked) == ""
    assert artefact(bone * np.uint8(255)) == ""


def test_bone_that_ends_within_the_scan_is_no_missing_picture(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    """A background of 0 that takes over column by column, and planes of nothing else."""
    planes = np.repeat(phantom[0][:1], 140, axis=0)
    for plane, columns in enumerate(range(115, 0, -1)):
        planes[plane, :, columns:] = 0
    planes[115:] = 0
    assert artefact(planes) == ""
    planes[60] = 0
    assert "from plane 59 to 60" in artefact(planes)


def test_whole_numbers_do_not_overflow(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    planes = (phantom[0] * 65535).astype(np.uint16)
    assert artefact(planes) == ""
    planes[12:] //= 2
    assert "from plane 11 to 12" in artefact(planes)


def test_a_scan_of_nothing() -> None:
    assert artefact(np.zeros((20, 5, 5))) == "the 18 planes looked at hold a single grey value each"
    assert artefact(np.ones((1, 5, 5))) == "the 1 planes looked at hold a single grey value each"


def test_planes_beyond_the_margins_do_not_count(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    planes = phantom[0].copy()
    planes[[0, -1]] = 0
    assert artefact(planes, margin=0.05) == ""
    assert "from plane 0 to 1" in artefact(planes, margin=0)


@pytest.mark.parametrize("at", [101, 500, 777])
def test_a_step_between_the_places_is_traced_to_its_planes(at: int, phantom: tuple[np.ndarray, np.ndarray]) -> None:
    planes = np.resize(phantom[0][:1], (1000, 120, 115))
    planes[at:] *= 0.8
    volume = ArrayVolume(planes)
    assert f"from plane {at - 1} to {at}:" in intensity_artefact(volume, places=8)
    assert volume.reads <= 2 * 8 + 8


def test_what_is_met_on_the_way_to_a_step_is_named(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    planes = np.resize(phantom[0][:1], (100, 120, 115))
    planes[40:] *= 0.8
    # half of the way from the end of one pair, 0 and 1, to the start of the next, 50 and 51
    planes[25, 0, 0] = np.nan
    assert artefact(planes, margin=0, places=1) == ""
    assert artefact(planes, margin=0, places=2) == "plane 25 holds 1 NaN or infinite values"


def test_a_gradual_change_is_anatomy(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    ramp = np.linspace(0, 0.3, 1000, dtype=np.float32)[:, None, None]
    volume = ArrayVolume(phantom[0][:1] + ramp)
    assert intensity_artefact(volume, places=4) == ""
    assert volume.reads < 20


def test_reads_do_not_grow_with_depth(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    for depth in (40, 128, 400, 1200):
        volume = ArrayVolume(np.broadcast_to(phantom[0][0], (depth, 120, 115)))
        assert intensity_artefact(volume, margin=0, places=64) == ""
        assert volume.reads == min(depth, 128)


def test_limits_are_the_callers(phantom: tuple[np.ndarray, np.ndarray]) -> None:
    planes = phantom[0].copy()
    beam_drop(planes)
    assert artefact(planes, step=2) == ""
    assert artefact(phantom[0], step=1e-3) != ""
    overexposed(planes)
    assert artefact(np.clip(planes, 0, 1), step=2, clipped=0.9) == ""


def test_real_scans_stay_in_until_they_are_damaged(sample_data: Path) -> None:
    for name in (
        "microct-lhdl-trabecular-tiff/tiff",
        "microct-shrew-trabecula-mask/Shrew.nrrd",
        "hrpqct-trabecular-aim/TRAB_1237.AIM",
        "hrpqct-trabecular-aim/TRAB_1240.AIM",
        "hrpqct-trabecular-aim/TRAB_1240_SEG.AIM",
    ):
        volume = open_volume(sample_data / name)
        assert intensity_artefact(volume, margin=0) == "", name
        planes = volume.read().astype(np.float32)
        planes[20:] *= 0.7
        assert "from plane 19 to 20" in artefact(planes), name


# -- manifests


@pytest.fixture
def scans(tmp_path: Path, phantom: tuple[np.ndarray, np.ndarray]) -> Path:
    """Four scans of three patients, of different depth and both ranges; the second lost its beam."""
    image = phantom[0]
    dropped = image.copy()
    beam_drop(dropped)
    for name, planes in {"a": image, "b": dropped, "c": image[:16] - 1, "d": image[3:]}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", planes, photometric="minisblack")
        tifffile.imwrite(tmp_path / f"{name}_truth.tif", np.zeros(planes.shape, np.uint8), photometric="minisblack")
    (tmp_path / "manifest.csv").write_text(
        "patient,image,label,split,site\n"
        "Smith,a.tif,a_truth.tif,train,x\n"
        "Smith,b.tif,b_truth.tif,train,x\n"
        "Jones,c.tif,c_truth.tif,val,y\n"
        "Brown,d.tif,d_truth.tif,test,y\n"
    )
    return tmp_path / "manifest.csv"


def test_slices_are_a_manifest(scans: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = scans.with_name("slices.csv")
    with caplog.at_level(logging.WARNING):
        selected, left_out = select_slices(scans, 4, out)
    read = read_manifest(out)
    pd.testing.assert_frame_equal(read, selected)
    before = read_manifest(scans)
    for row in (0, 2, 3):
        own = read[read["image"] == before["image"][row]]
        depth = open_volume(before["image"][row]).shape[0]
        assert own["plane"].tolist() == [str(plane) for plane in relative_planes(depth, 4)]
        for column in before:
            assert set(own[column]) == {before[column][row]}
    assert len(read) == 12
    assert left_out["scan"].tolist() == ["scan_0001"]
    text = out.with_name("slices_left_out.csv").read_text()
    assert text.splitlines()[0] == "scan,reason"
    pd.testing.assert_frame_equal(pd.read_csv(out.with_name("slices_left_out.csv")), left_out, check_dtype=False)
    for written in (text, caplog.text):
        assert "changes abruptly from plane 11 to 12" in written
        assert not any(name in written for name in ("Smith", "b.tif", str(scans.parent)))
    planes = PlaneDataset(manifest_items(read, "val"), ["image", "label"], progress=False)
    assert [planes[index]["plane"] for index in range(len(planes))] == relative_planes(16, 4)


def test_positions_correspond_between_patients(scans: Path) -> None:
    selected, _ = select_slices(scans, 4, scans.with_name("slices.csv"))
    depths = {image: open_volume(image).shape[0] for image in set(selected["image"])}
    relative = [
        ((rows["plane"].astype(int) + 0.5) / depths[image], 0.5 / depths[image])
        for image, rows in selected.groupby("image")
    ]
    for one, half in relative:
        for other, other_half in relative:
            assert (np.abs(one.to_numpy() - other.to_numpy()) <= half + other_half).all()


def test_list_of_scans_left_out_is_written_empty(scans: Path) -> None:
    lines = scans.read_text().splitlines()
    scans.write_text("\n".join(line for line in lines if "b.tif" not in line))
    _, left_out = select_slices(scans, 2, scans.with_name("slices.csv"))
    assert left_out.empty
    assert scans.with_name("slices_left_out.csv").read_text() == "scan,reason\n"


def test_labels_that_are_empty_or_classes_stay(scans: Path) -> None:
    datalist = scans.with_name("list.json")
    items = {"training": [{"image": "a.tif", "label": "a_truth.tif"}], "test": ["d.tif"]}
    datalist.write_text(json.dumps(items))
    selected, _ = select_slices(datalist, 2, scans.with_name("slices.csv"))
    truth = str(scans.with_name("a_truth.tif").resolve())
    assert selected["label"].tolist() == [truth, truth, "", ""]
    written = pd.read_csv(scans.with_name("slices.csv"), dtype=str, keep_default_na=False)
    assert written["label"].tolist() == ["a_truth.tif", "a_truth.tif", "", ""]
    scans.write_text("patient,image,label\n1,a.tif,healthy\n2,d.tif,osteoporotic\n")
    select_slices(scans, 2, scans.with_name("classes.csv"), label_is_path=False)
    classes = read_manifest(scans.with_name("classes.csv"), classes=("healthy", "osteoporotic"))
    assert classes["label"].tolist() == ["healthy", "healthy", "osteoporotic", "osteoporotic"]


def test_nothing_is_written_where_a_scan_cannot_be_used(scans: Path) -> None:
    before = set(scans.parent.iterdir())
    out = scans.with_name("slices.csv")
    with pytest.raises(InputError, match=r"c\.tif: number of 8 planes, .* depth of 16: 7 fit"):
        select_slices(scans, 8, out)
    with pytest.raises(InputError, match="number: must be a whole number"):
        select_slices(scans, 0, out)
    with pytest.raises(InputError, match=r"names no scan without an intensity artefact; of scan_0000, too grey\."):
        select_slices(scans, 2, out, check=lambda volume: "too grey")
    with pytest.raises(InputError, match=r"must lie in a folder that holds a\.tif as well"):
        select_slices(scans, 2, scans.parent / "elsewhere" / "slices.csv", check=lambda volume: 1 / 0)
    (scans.parent / "elsewhere").rmdir()
    scans.with_name("d.tif").write_bytes(b"lost")
    with pytest.raises(InputError, match=r"d\.tif: cannot be read"):
        select_slices(scans, 2, out)
    assert set(scans.parent.iterdir()) == before


def test_slices_of_slices_are_refused(scans: Path) -> None:
    out = scans.with_name("slices.csv")
    select_slices(scans, 2, out)
    with pytest.raises(InputError, match=r"slices\.csv: has a column 'plane': it lists slices already"):
        select_slices(out, 2, scans.with_name("again.csv"))


@pytest.mark.parametrize("taken", ["slices.csv", "slices_left_out.csv"])
def test_what_is_there_is_replaced_only_if_that_is_said(taken: str, scans: Path) -> None:
    scans.with_name(taken).write_text("precious")
    with pytest.raises(OutputError, match=f"{taken}: exists already"):
        select_slices(scans, 2, scans.with_name("slices.csv"), check=lambda volume: 1 / 0)
    assert scans.with_name(taken).read_text() == "precious"
    assert len(list(scans.parent.glob("*slices*"))) == 1
    select_slices(scans, 2, scans.with_name("slices.csv"), overwrite=True)
    assert scans.with_name(taken).read_text() != "precious"
    with pytest.raises(OutputError, match="is the manifest of the scans"):
        select_slices(scans, 2, scans, overwrite=True)


def test_progress_is_shown(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    select_slices(scans, 2, scans.with_name("slices.csv"))
    assert capsys.readouterr().err == ""
    select_slices(scans, 2, scans.with_name("slices.csv"), overwrite=True, progress=True)
    assert "scans checked: 100%" in capsys.readouterr().err


# -- the bundle's config


def workflow(**options: Any) -> Any:
    return create_workflow(config_file=str(CONFIG), logging_file=False, **options)


def test_config_selects_slices(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workflow(manifest_path=str(scans), number=3).run()
    assert len(read_manifest(scans.with_name("slices.csv"))) == 9
    output = str(scans.with_name("all.csv"))
    workflow(manifest_path=str(scans), number=3, output=output, **{"check#step": 2.0}).run()
    assert len(read_manifest(output)) == 12


def test_config_takes_the_papers_number_and_the_functions_limits() -> None:
    config = json.loads(CONFIG.read_text())
    assert config["number"] == 440
    limits = {name: value for name, value in config["check"].items() if not name.startswith("_")}
    defaults = intensity_artefact.__kwdefaults__
    assert {**limits, "margin": config["margin"]} == defaults
    assert config["margin"] == select_slices.__kwdefaults__["margin"]


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({}, "--manifest_path: is not given"),
        ({"manifest_path": "nowhere.csv"}, "nowhere.csv: no such file or folder"),
        ({"manifest": "x"}, "did you mean --manifest_path?"),
    ],
)
def test_config_refuses_in_one_line(options: dict[str, str], cause: str) -> None:
    with pytest.raises(Exception, match=r".") as raised:
        workflow(**options).run()
    assert cause in str(find_bonemonai_error(raised.value))
