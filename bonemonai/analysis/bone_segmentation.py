"""Bone of a grey or density volume as a mask that is computed as it is read: Gaussian, then a threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

DENSITY_MG_CM3 = 500.0
SIGMA_VOXELS = 1.2
SUPPORT_VOXELS = 2
_DENSITY = "mg HA/cm3"
_BLOCK_BYTES = 2**26


class BoneSegmentation(DerivedVolume):
    """A bone mask, uint8 with 1 in bone, of which nothing is held.

    One of three ways, which :attr:`rule` names:

    - a density: the scan is smoothed by a 3-D Gaussian and compared with a density. The kernel is cut off after
      ``support`` voxels and normalised, as the scanner maker's "sigma 1.2, support 2"; beyond the faces of the volume
      the outermost voxels count again. Sigma is in voxels, so that it is another length at another voxel size.
    - a grey value: voxels above it, of any scan, as they are.
    - neither: the scan is a mask already, and has one value besides 0.

    Blocks are read with as many planes besides as the kernel needs; values do not depend on how the volume is read.

    Args:
        scan: grey values, densities, or a mask.
        density: mg HA/cm3; the scan must be calibrated.
        threshold: grey value; voxels above it are bone.
        sigma: of the Gaussian before a density, voxels; 0 leaves it out.
        support: where its kernel ends, voxels from its centre.

    Raises:
        InputError: if a density is asked of a scan that is not calibrated, both are given, a number is out of range;
            on reading, if values are not finite, or a mask has several values besides 0.

    Source:
        David et al. (NOTES 5): "Gaussian filter sigma 1.2, lower threshold 500 mg HA/cm3".

    Example:
        >>> from bonemonai.data import open_volume
        >>> bone = BoneSegmentation(open_volume("scan.aim"), density=500)  # doctest: +SKIP
        >>> bone.rule  # doctest: +SKIP
        '>= 500 mg HA/cm3 after Gaussian of sigma 1.2, support 2 voxels'
    """

    def __init__(
        self,
        scan: Volume,
        *,
        density: float | None = None,
        threshold: float | None = None,
        sigma: float = SIGMA_VOXELS,
        support: int = SUPPORT_VOXELS,
    ) -> None:
        super().__init__(scan, dtype=np.uint8)
        self.units = "raw"
        self.planes_at_once = scan.planes_at_once
        self._density, self._threshold, self._sigma, self._support = density, threshold, sigma, support
        self._value: float | None = None
        level = density if density is not None else threshold
        if density is not None and threshold is not None:
            raise InputError("threshold", "and density are two ways; give one.")
        if level is not None and not math.isfinite(level):
            raise InputError("threshold", f"must be finite, got {level}.")
        if not 0 <= sigma < math.inf or support < 0:
            raise InputError("sigma", f"and support must be 0 or more (voxels), got {sigma} and {support}.")
        if density is not None and scan.units != _DENSITY:
            raise InputError(
                scan.path, f"holds {scan.units} values, no densities; give a grey threshold (--threshold), or a "
                f"calibrated scan for {density:g} {_DENSITY}."
            )  # fmt: skip

    @property
    def rule(self) -> str:
        """What bone is, in words."""
        if self._density is not None:
            smooth = f" after Gaussian of sigma {self._sigma:g}, support {self._support} voxels" if self._sigma else ""
            return f">= {self._density:g} {_DENSITY}{smooth}"
        if self._threshold is not None:
            return f"{'density' if self.base.units == _DENSITY else 'grey'} > {self._threshold:g}"
        return "non-zero voxels"

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        if self._density is not None:
            return (self._smoothed(start, stop) >= self._density).astype(np.uint8)
        values = self._finite(start, stop)
        if self._threshold is not None:
            return np.asarray(values > self._threshold).astype(np.uint8)
        marked = np.asarray(values != 0)
        self._refuse_grey(values, marked)
        return marked.astype(np.uint8)

    def _smoothed(self, start: int, stop: int) -> NDArray[Any]:
        if not self._sigma:
            return self._finite(start, stop)
        first, last = max(0, start - self._support), min(self.shape[0], stop + self._support)
        values = self._finite(first, last).astype(np.float32, copy=False)
        # planes that were read besides are true neighbours; "nearest" sees the faces of the volume only
        smooth = ndimage.gaussian_filter(values, self._sigma, mode="nearest", radius=self._support)
        return np.asarray(smooth[start - first : stop - first])

    def _finite(self, start: int, stop: int) -> NDArray[Any]:
        values = self.base.read(start, stop)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(self.path, f"planes {start} to {stop - 1} hold NaN or infinite values.")
        return values

    def _first_value(self) -> float:
        for _, block in self.base.blocks(self.base.planes_within(_BLOCK_BYTES)):
            marked = block[block != 0]
            if marked.size:
                return float(marked[0])
        return 0.0

    def _refuse_grey(self, values: NDArray[Any], marked: NDArray[np.bool_]) -> None:
        if not marked.any():
            return
        if self._value is None:
            # of the first voxel in the scan, not in what is read: a run that goes on must refuse what it refused before
            self._value = self._first_value()
        if (values[marked] != self._value).any():
            raise InputError(self.path, "is no mask: it has several values besides 0; say --threshold or --density.")
