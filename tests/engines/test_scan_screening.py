from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bonemonai.data import list_screening_scans
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.engines.scan_screening import count_overlap
from bonemonai.errors import BatchError, InputError, NumericalError
from tests import lumbar_files
from tests.engines.test_lumbar_screening import Collect, engine


def test_one_scan_of_several_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path)
    scans = list_screening_scans(path, levels=lumbar_files.LEVELS, per_level=1)[:3]
    (tmp_path / "scan1.nii").write_bytes(b"no NIfTI")
    outputs: list[Any] = []
    screening = engine(scans, val_handlers=[Collect(outputs)])
    with pytest.raises(BatchError, match=r"1 of 3 scans.*scan_0001"):
        screening.run()
    assert [None if found is None else found.scan.name for found in outputs] == ["scan_0000", None, "scan_0002"]


def test_what_one_scan_alone_is_refused_for_is_the_refusal(tmp_path: Path) -> None:
    mask = lumbar_files.mask_in_axial_order()
    path = lumbar_files.write_nifti(tmp_path / "scan.nii", lumbar_files.scan_in_axial_order(mask))
    with pytest.raises(InputError, match="raw values"):
        engine([ScreeningScan("scan_0000", "s", path)]).run()
    with pytest.raises(InputError, match="no axial slice 24"):
        engine([ScreeningScan("scan_0000", "s", path, slices=((24, ""),), units="HU")]).run()
    other = lumbar_files.write_nifti(tmp_path / "other.nii", mask[:-1])
    with pytest.raises(InputError, match="has shape"):
        engine([ScreeningScan("scan_0000", "s", path, mask=other, units="HU")]).run()


def test_no_number_is_no_result(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.full((len(image), 3), torch.nan)

    mask = lumbar_files.mask_in_axial_order()
    path = lumbar_files.write_nifti(tmp_path / "scan.nii", lumbar_files.scan_in_axial_order(mask))
    with pytest.raises(NumericalError, match="slices 0 to 4: a network gave NaN"):
        engine([ScreeningScan("scan_0000", "s", path, units="HU")], classifier=Broken()).run()


def test_values_that_are_no_hounsfield_units_are_refused(tmp_path: Path) -> None:
    values = lumbar_files.scan_in_axial_order(lumbar_files.mask_in_axial_order())
    path = lumbar_files.write_nifti(tmp_path / "offset.nii", values + 1024)
    with pytest.raises(InputError, match="is an offset, such as 1024, still to be subtracted"):
        engine([ScreeningScan("scan_0000", "s", path, units="HU")]).run()


def test_a_slice_that_is_not_finite_is_named(tmp_path: Path) -> None:
    values = lumbar_files.scan_in_axial_order(lumbar_files.mask_in_axial_order()).astype(np.float32)
    values[7, 3, 3] = np.nan
    path = lumbar_files.write_nifti(tmp_path / "nan.nii", values)
    with pytest.raises(InputError, match="infinite values in axial slice 7"):
        engine([ScreeningScan("scan_0000", "s", path, units="HU")]).run()


def test_what_comes_after_comes_though_a_scan_failed(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path)
    scans = list_screening_scans(path, levels=lumbar_files.LEVELS, per_level=1)[:2]
    (tmp_path / "scan1.nii").write_bytes(b"no NIfTI")
    done: list[int] = []
    with pytest.raises(BatchError):
        engine(scans, after=lambda: done.append(1)).run()
    assert done == [1]


def test_pixels_are_counted() -> None:
    true, found = np.zeros((2, 4, 4), dtype=bool)
    true[:2], found[1:3] = True, True
    assert count_overlap(true, found) == {"tp": 4, "fp": 4, "fn": 4}
