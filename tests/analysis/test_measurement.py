from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from bonemonai.analysis import find_subject, measure_bone
from bonemonai.analysis.measurement import GROUPS, Measurement
from bonemonai.data import Volume, open_volume
from bonemonai.errors import InputError, ResumeError
from tests.array_volume import ArrayVolume

SIZE = (10.0, 10.0, 10.0)


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(70, 30, 32)), 2)
    values = np.clip(128 + 400 * field, 0, 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "scan.tif", values, photometric="minisblack")
    return open_volume(tmp_path / "scan.tif", voxel_size_um=10)


def numbers(found: Measurement) -> dict[str, float | int | str]:
    return {row.name: row.value for row in found.quantities}


def test_names_units_and_order(scan: Volume) -> None:
    found = measure_bone(find_subject(scan, threshold=140))
    assert found.quantities[0].name == "BV/TV"
    units = {row.name: row.unit for row in found.quantities}
    assert units == {
        "BV/TV": "1", "BV": "mm3", "TV": "mm3", "BA/TA": "1", "BA/TA.SD": "1",
        "BS": "mm2", "BS/BV": "1/mm", "BS/TV": "1/mm",
        "Tb.Th.plate": "mm", "Tb.Sp.plate": "mm", "Tb.N.plate": "1/mm", "DA.MIL": "1",
        "Tb.Th": "mm", "Tb.Th.SD": "mm", "Tb.Th.max": "mm", "Tb.Sp": "mm", "Tb.Sp.SD": "mm", "Tb.Sp.max": "mm",
        "Tb.N": "1/mm", "1/(Tb.Th+Tb.Sp)": "1/mm",
        "Euler": "1", "Conn.D": "1/mm3", "Conn.D.loops": "1/mm3", "Conn.D.edge-corrected": "1/mm3",
        "pieces": "1", "cavities": "1",
        "voxel.plane": "um", "voxel.row": "um", "voxel.column": "um", "bone": "-", "tissue": "-",
    }  # fmt: skip
    value = numbers(found)
    assert (value["bone"], value["tissue"]) == ("grey > 140", "whole volume")
    assert value["BV/TV"] == pytest.approx((scan.read() > 140).mean())
    assert value["Tb.Th.plate"] == pytest.approx(2 / float(value["BS/BV"]))
    # the plate model, all three of it: Tb.N (Tb.Th + Tb.Sp) = 1
    plate = [float(value[f"Tb.{name}.plate"]) for name in ("Th", "Sp", "N")]
    assert plate[2] * (plate[0] + plate[1]) == pytest.approx(1)


@pytest.mark.parametrize("tissue", ["whole", "envelope", "file"])
def test_little_memory_gives_the_same(tissue: str, scan: Volume, tmp_path: Path) -> None:
    if tissue == "file":
        tissue = str(tmp_path / "tissue.tif")
        mask = np.zeros(scan.shape, np.uint8)
        mask[3:60, 4:28, 5:30] = 1
        tifffile.imwrite(tissue, mask, photometric="minisblack")
    subject = find_subject(scan, threshold=140, tissue=tissue)
    much, little = (numbers(measure_bone(subject, memory=memory)) for memory in (1e9, 5e6))
    assert much.keys() == little.keys()
    for name, value in much.items():
        assert little[name] == (pytest.approx(value, rel=1e-9, nan_ok=True) if isinstance(value, float) else value)
    assert ("Conn.D.edge-corrected" in much) == (tissue == "whole")


def test_mask_of_bone(scan: Volume, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", (scan.read() > 140) * np.uint8(255), photometric="minisblack")
    mask = open_volume(tmp_path / "mask.tif")
    by_mask = measure_bone(find_subject(scan, mask=mask), groups=[])
    by_threshold = measure_bone(find_subject(scan, threshold=140), groups=[])
    assert by_mask.quantities[:5] == by_threshold.quantities[:5]
    with pytest.raises(InputError, match=r"says what bone is; leave --threshold and --density out"):
        find_subject(scan, mask=mask, threshold=3)


def test_stopped_measurement_goes_on(scan: Volume, tmp_path: Path) -> None:
    subject, record = find_subject(scan, threshold=140), tmp_path / "record.json"
    first = measure_bone(subject, memory=5e6, record=record)
    content = json.loads(record.read_text())
    stages = {key.split()[0] for key in content["slabs"]}
    assert stages == {"volume", "surface", "Tb.Th", "Tb.Sp", "mid-axes", "network", "pieces", "cavities"}
    # as if it had been stopped half-way
    content["slabs"] = dict(list(content["slabs"].items())[: len(content["slabs"]) // 2])
    record.write_text(json.dumps(content))
    again = measure_bone(subject, memory=5e6, record=record)
    assert again.quantities == first.quantities
    pd.testing.assert_frame_equal(again.slices, first.slices)
    with pytest.raises(ResumeError, match=r"is of another measurement \(bone\)"):
        measure_bone(find_subject(scan, threshold=141), memory=5e6, record=record)
    assert str(tmp_path) not in record.read_text()


def test_stopped_lacunae_go_on(scan: Volume, tmp_path: Path) -> None:
    subject, record, folder = find_subject(scan, threshold=140), tmp_path / "r.json", tmp_path / "r.json.d"
    masks = []
    for name in ("one", "other"):
        array = (np.random.default_rng(len(masks)).random(scan.shape) < 0.02).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
        masks.append(open_volume(tmp_path / f"{name}.tif"))

    def measure(mask: Volume | None, record: Path | None = record) -> Measurement:
        return measure_bone(subject, groups=["network"], lacunae=mask, memory=1e6, record=record)

    # a record of bone alone goes on with lacunae
    measure(None)
    first = measure(masks[0])
    files = sorted(folder.glob("lacunae *.npz"))
    assert len(files) == 3
    files[-1].unlink()
    again, plain = measure(masks[0]), measure(masks[0], None)
    for found in (again, plain):
        assert found.quantities == first.quantities
        assert found.lacunae is not None
        pd.testing.assert_frame_equal(found.lacunae, first.lacunae, check_exact=True)
    with pytest.raises(ResumeError, match=r"r\.json\.d: holds lacunae of another mask; delete it, or choose another"):
        measure(masks[1])
    # and without them
    assert measure(None).quantities == measure(None, None).quantities
    shutil.rmtree(folder)
    assert measure(masks[1]).quantities == measure(masks[1], None).quantities
    assert str(tmp_path) not in record.read_text()


def test_tables_are_written(scan: Volume, tmp_path: Path) -> None:
    lacunae = np.zeros(scan.shape, np.uint8)
    for plane in (5, 20, 40):
        lacunae[plane : plane + 3, 8:11, 9:12] = 1
    lacunae[67:, 20:23, 20:23] = 1  # cut by the last plane: not counted
    found = measure_bone(find_subject(scan, threshold=140), groups=[], lacunae=ArrayVolume(lacunae, None))
    value = numbers(found)
    assert value["Lc.N"] == 3
    assert value["Lc.N/BV"] == pytest.approx(3 / float(value["BV"]))
    assert value["Lc.V.median"] == pytest.approx(27e3)
    assert value["Lc.spacing.median"] == pytest.approx(150)
    found.write(slices=tmp_path / "slices.csv", lacunae=tmp_path / "lacunae.csv")
    slices, objects = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("slices", "lacunae"))
    assert list(slices) == ["plane", "ba_mm2", "ta_mm2", "ba_ta"]
    assert len(slices) == 70
    assert slices["ba_ta"].mean() == pytest.approx(float(value["BA/TA"]))
    assert list(objects)[:3] == ["lacuna", "volume_um3", "surface_um2"]
    assert len(objects) == 4


def test_refusals(scan: Volume) -> None:
    with pytest.raises(InputError, match=r"holds no bone \(grey > 255\) in the tissue \(whole volume\)"):
        measure_bone(find_subject(scan, threshold=255))
    with pytest.raises(InputError, match="several values besides 0"):
        measure_bone(find_subject(scan))
    lacunae = ArrayVolume(np.ones(scan.shape, np.uint8), None)
    with pytest.raises(InputError, match="is counted in whole volumes only; leave --tv out"):
        measure_bone(find_subject(scan, threshold=140, tissue="envelope"), groups=[], lacunae=lacunae)
    with pytest.raises(InputError, match="is no mask"):
        measure_bone(find_subject(scan, threshold=140), groups=[], lacunae=ArrayVolume(scan.read(), None))
    with pytest.raises(InputError, match=f"must be of {', '.join(GROUPS)}, got colour"):
        measure_bone(find_subject(scan, threshold=140), groups=["colour"])
