from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bonemonai.errors import InputError
from bonemonai.transforms import LoadAxialPaird
from tests import lumbar_files


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    mask = lumbar_files.mask_in_axial_order()
    return {
        "image": lumbar_files.write_nifti(tmp_path / "scan.nii", lumbar_files.scan_in_axial_order(mask)),
        "mask": lumbar_files.write_nifti(tmp_path / "mask.nii", mask),
        "units": "HU", "planes": (13, 5), "values": (21, 22), "subject": "subject_00", "plane": "",
    }  # fmt: skip


def test_two_slices_and_what_the_mask_says_of_each(item: dict[str, Any]) -> None:
    mask = lumbar_files.mask_in_axial_order()
    scan = lumbar_files.scan_in_axial_order(mask)
    found = LoadAxialPaird(["image", "mask"])(item)
    np.testing.assert_array_equal(found["image"], scan[[13, 5]])
    np.testing.assert_array_equal(found["mask"], np.stack([mask[13] == 21, mask[5] == 22]))
    assert found["mask"].dtype == torch.float32
    assert found["spacing"] == (1.0, 1.0)
    assert "plane" not in found
    assert found["planes"] == (13, 5)


def test_another_vertebra_in_the_slice_is_none(item: dict[str, Any]) -> None:
    found = LoadAxialPaird(["image", "mask"])({**item, "planes": (5, 13)})
    assert not found["mask"].any()


@pytest.mark.parametrize(("planes", "missing"), [((-1, 5), 0), ((13, -1), 1)])
def test_a_missing_vertebra_is_air_and_has_no_mask(item: dict[str, Any], planes: tuple[int, int], missing: int) -> None:
    found = LoadAxialPaird(["image", "mask"])({**item, "planes": planes})
    assert (found["image"][missing] == -1024).all()
    assert (found["image"][1 - missing] > -100).all()
    assert not found["mask"][missing].any()
    assert found["mask"][1 - missing].any()


def test_refusals(item: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="planes must name a slice or two"):
        LoadAxialPaird(["image", "mask"])({**item, "planes": (-1, -1)})
    with pytest.raises(InputError, match="has no axial slice 24"):
        LoadAxialPaird(["image", "mask"])({**item, "planes": (24, 3)})
    with pytest.raises(InputError, match="raw"):
        LoadAxialPaird(["image", "mask"])({**item, "units": "raw"})
