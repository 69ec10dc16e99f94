"""Agreement of two masks on disk, counted plane by plane."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bonemonai.data.volume import Volume
from bonemonai.errors import InputError


class Overlap(NamedTuple):
    """Voxel counts of a predicted mask against the truth.

    Attributes:
        true_positive: voxels marked in both.
        false_positive: marked in the prediction only.
        false_negative: marked in the truth only.
        true_negative: marked in neither.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def dsc(self) -> float:
        """Dice similarity coefficient of the marked voxels; nan where both masks are empty."""
        return _dice(self.true_positive, self.false_positive + self.false_negative)

    @property
    def background_dsc(self) -> float:
        """Dice similarity coefficient of the voxels that are not marked."""
        return _dice(self.true_negative, self.false_positive + self.false_negative)


def measure_overlap(predicted: Volume, truth: Volume, *, planes: int = 16) -> Overlap:
    """Count the agreement of two masks of the same scan; any non-zero voxel is marked.

    Args:
        predicted: mask, any size.
        truth: mask of the same shape.
        planes: how many to hold at once.

    Raises:
        InputError: if the shapes, or the voxel sizes where both are known, differ.
    """
    if predicted.shape != truth.shape:
        raise InputError(predicted.path, f"has shape {predicted.shape}, but {truth.path} has {truth.shape}.")
    found, wanted_size = predicted.voxel_size_um, truth.voxel_size_um
    if found is not None and wanted_size is not None and not np.allclose(found, wanted_size, rtol=1e-3):
        raise InputError(predicted.path, f"has voxels of {found} um, but {truth.path} of {wanted_size} um.")
    counts = np.zeros(4, dtype=np.int64)
    for start, block in predicted.blocks(planes):
        marked, wanted = block != 0, truth.read(start, start + len(block)) != 0
        counts += np.bincount(marked.ravel() * 2 + wanted.ravel(), minlength=4)
    negative, missed, false, positive = (int(count) for count in counts)
    return Overlap(positive, false, missed, negative)


def _dice(shared: int, unshared: int) -> float:
    return 2 * shared / (2 * shared + unshared) if shared + unshared else float("nan")
