from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError
from tests import lumbar_files


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    return open_volume(lumbar_files.write_nifti(tmp_path / "scan.nii", lumbar_files.mask_in_axial_order()))


def test_the_same_grid_passes(scan: Volume) -> None:
    refuse_other_grid(open_volume(scan.path), scan)
    moved = open_volume(scan.path)
    assert moved.affine_lps is not None
    moved.affine_lps = moved.affine_lps + np.array([[0, 0, 0, 0.05]] * 3 + [[0] * 4])
    refuse_other_grid(moved, scan)


def test_another_place_is_refused(scan: Volume) -> None:
    moved = open_volume(scan.path)
    assert moved.affine_lps is not None
    moved.affine_lps = moved.affine_lps + np.array([[0, 0, 0, 0.2], [0] * 4, [0] * 4, [0] * 4])
    with pytest.raises(InputError, match=r"corners are 0\.2 mm apart"):
        refuse_other_grid(moved, scan)


def test_another_spacing_is_refused_though_the_corner_is_the_same(scan: Volume) -> None:
    other = open_volume(scan.path)
    assert other.affine_lps is not None
    other.affine_lps = other.affine_lps @ np.diag([1.05, 1, 1, 1])
    with pytest.raises(InputError, match="does not lie on its scan"):
        refuse_other_grid(other, scan)


def test_another_shape_is_refused(scan: Volume, tmp_path: Path) -> None:
    small = open_volume(lumbar_files.write_nifti(tmp_path / "small.nii", lumbar_files.mask_in_axial_order()[1:]))
    with pytest.raises(InputError, match="has shape"):
        refuse_other_grid(small, scan)
