from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bonemonai.analysis import check_acquisition, scan_acquisition, training_acquisitions
from bonemonai.data import lumbar_slices, read_lumbar_manifest
from bonemonai.data.lumbar_slices import open_axial
from bonemonai.errors import InputError
from tests import dicom_files, lumbar_files

TAGS = {"KVP": 120, "ConvolutionKernel": "B", "Manufacturer": "Philips", "ContrastBolusAgent": "Ultravist"}


def series(folder: Path, **tags: Any) -> Path:
    def edit(dataset: Any, index: int) -> None:
        for name, value in {**TAGS, **tags}.items():
            setattr(dataset, name, value)

    hounsfield = lumbar_files.scan_in_axial_order(lumbar_files.mask_in_axial_order())
    return dicom_files.write_series(folder, hounsfield, spacing=(0.8, 0.7), interval=2.5, edit=edit)


def row(image: Path | str, mask: Path | str = "", plane: int = 12) -> dict[str, Any]:
    return {"image": str(image), "mask": str(mask), "plane": plane, "units": "HU" if mask else ""}


def test_headers_and_grey_values(tmp_path: Path) -> None:
    volume = open_axial(series(tmp_path / "scan"))
    mask = lumbar_files.mask_in_axial_order() > 0
    found = scan_acquisition(volume, [3, 4], [mask[3], mask[4]])
    assert (found["KVP"], found["ConvolutionKernel"], found["Manufacturer"]) == (120.0, "B", "Philips")
    assert found["contrast"] == "yes"
    assert found["in_plane_spacing_mm"] == pytest.approx((0.8, 0.7))
    assert found["slice_interval_mm"] == pytest.approx(2.5)
    slices = volume.read()[3:5]
    assert found["hu_slice_mean"] == pytest.approx(slices.mean())
    assert found["hu_slice_p99"] == pytest.approx(np.percentile(slices, 99))
    assert found["hu_mark_mean"] == pytest.approx(slices[mask[3:5]].mean())
    assert found["hu_mark_mean"] > 180 > found["hu_slice_mean"]


def test_without_slices_there_are_no_grey_values(tmp_path: Path) -> None:
    found = scan_acquisition(open_axial(series(tmp_path / "scan")), [], [])
    assert not [name for name in found if name.startswith("hu_")]
    assert found["KVP"] == 120


def test_a_scan_that_trained_is_as_those_that_trained(tmp_path: Path) -> None:
    """Names of entries are the check's: what is described is compared, entry by entry."""
    image = series(tmp_path / "scan")
    known = json.loads(json.dumps(training_acquisitions([row(image, plane=plane) for plane in (3, 12)])))
    volume = open_axial(image)
    none = np.zeros(volume.shape[1:], dtype=bool)
    found = scan_acquisition(volume, [3, 12], [none, none])
    assert check_acquisition(found, known) == []
    odd = series(
        tmp_path / "odd",
        KVP=80,
        ConvolutionKernel="Y",
        Manufacturer="Other",
        ContrastBolusAgent="NONE",
        PixelSpacing=[1.6, 0.7],
    )
    warnings = check_acquisition(scan_acquisition(open_axial(odd), [3, 12], [none, none]), known)
    assert len(warnings) == 5
    for name, warning in zip(
        ("kVp is 80", "kernel", "manufacturer", "contrast agent", "spacing"), warnings, strict=True
    ):
        assert name in warning


def test_training_scans_by_their_slices(tmp_path: Path) -> None:
    """Every scan is described once, by the slices that are trained on, and its vertebrae by the mask."""
    manifest = read_lumbar_manifest(lumbar_files.write_manifest(tmp_path))
    rows = lumbar_slices(manifest, "train", levels=lumbar_files.LEVELS, per_level=2)
    known = training_acquisitions(rows, lumbar_files.LEVELS)
    assert known["scans"] == 3
    assert known["KVP"] == {"values": [], "not_stated": 3}
    assert known["slice_interval_mm"] == {"minimum": 3.0, "maximum": 3.0, "not_stated": 0}
    mask = lumbar_files.mask_in_axial_order() > 0
    planes = sorted({one["plane"] for one in rows})
    scans = [lumbar_files.scan_in_axial_order(mask, number)[planes] for number in range(3)]
    for name, values in (("hu_slice_mean", [scan.mean() for scan in scans]),
                         ("hu_mark_mean", [scan[mask[planes]].mean() for scan in scans])):  # fmt: skip
        assert known[name]["minimum"] == pytest.approx(min(values))
        assert known[name]["maximum"] == pytest.approx(max(values))
    # vertebrae that were not asked for are no marks
    assert training_acquisitions(rows, {"L2": 21})["hu_slice_mean"] == known["hu_slice_mean"]
    assert training_acquisitions(rows, {"T12": 19})["hu_mark_mean"]["minimum"] is None


def test_the_description_names_nobody(tmp_path: Path) -> None:
    image = series(tmp_path / "Smith_John", PatientName="Smith^John", PatientID="4711", AccessionNumber="ACC9")
    said = json.dumps(training_acquisitions([row(image)]))
    assert not [word for word in ("Smith", "John", "4711", "ACC9", str(tmp_path)) if word in said]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none"):
        training_acquisitions([])
    with pytest.raises(InputError):
        training_acquisitions([row(tmp_path / "no scan")])
