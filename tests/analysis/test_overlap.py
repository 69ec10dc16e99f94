from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.metrics import compute_dice

from bonemonai.analysis import Overlap, measure_overlap
from bonemonai.data import open_volume
from bonemonai.errors import InputError


def save(path: Path, array: np.ndarray) -> Path:
    tifffile.imwrite(path, array, photometric="minisblack")
    return path


def test_agrees_with_monai(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    predicted, truth = ((rng.random((37, 20, 21)) < share).astype(np.uint8) for share in (0.3, 0.2))
    volumes = open_volume(save(tmp_path / "p.tif", predicted)), open_volume(save(tmp_path / "t.tif", truth * 255))
    overlap = measure_overlap(*volumes, planes=8)
    p, t = (torch.from_numpy(a)[None, None] for a in (predicted, truth))
    assert overlap.dsc == pytest.approx(compute_dice(p, t).item(), abs=1e-6)
    assert overlap.background_dsc == pytest.approx(compute_dice(1 - p, 1 - t).item(), abs=1e-6)
    assert sum(overlap) == predicted.size


def test_empty_masks_have_no_dice() -> None:
    assert math.isnan(Overlap(0, 0, 0, 10).dsc)
    assert Overlap(0, 0, 0, 10).background_dsc == 1.0


def test_voxel_sizes_must_agree(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.zeros((6, 8, 8), np.uint8))
    with pytest.raises(InputError, match=r"has voxels of \(3.2, 3.2, 3.2\) um, but"):
        measure_overlap(open_volume(path, voxel_size_um=3.2), open_volume(path, voxel_size_um=1.6))


def test_shapes_must_agree(tmp_path: Path) -> None:
    a = open_volume(save(tmp_path / "a.tif", np.zeros((6, 8, 8), np.uint8)))
    b = open_volume(save(tmp_path / "b.tif", np.zeros((6, 8, 9), np.uint8)))
    with pytest.raises(InputError, match=r"a\.tif: has shape \(6, 8, 8\), but"):
        measure_overlap(a, b)
