"""A scan on a grid several times as fine: what a super-resolution network starts from (paper 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

Kind = Literal["linear", "cubic"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SAME_SIZE = 0.05
_KEYS = -0.75  # the kernel's parameter, as torch has it within planes


class UpsampledVolume(DerivedVolume):
    """A scan interpolated along all three axes; planes are made as they are read.

    A voxel becomes ``factor`` cubed voxels that fill the same space, so that voxel i of the fine grid has its centre at
    (i + 1/2) / factor - 1/2 of the coarse one; beyond the outermost centres values stay as they are there. In a plane
    this is the paper's bilinear up-sampling; between planes, of which it does not speak, the same is done.

    Args:
        base: the coarse scan.
        factor: voxels that a voxel's edge is cut into, 2 or more; 2 in the paper.
        expects_voxel_size_um: (plane, row, column) of the coarse scan, to within 5 %; None takes any.

    Shape:
        read() returns float32, (planes, rows, columns) times ``factor``.

    Raises:
        InputError: if the coarse scan's voxels are of another size than expected, or of none that is known.
        ValueError: if the factor is below 2, or the kind is none.

    Source:
        David et al., 2.3; the rule is that of ``torch.nn.functional.interpolate`` with ``align_corners=False``. Cubic:
        Keys, IEEE Trans Acoust Speech Signal Process 29:1153 (1981), with a = -0.75 as torch has it.
    """

    def __init__(
        self,
        base: Volume,
        factor: int = 2,
        *,
        kind: Kind = "linear",
        expects_voxel_size_um: Sequence[float] | None = None,
    ) -> None:
        if factor < 2:
            raise ValueError(f"factor must be >= 2 (voxels that an edge is cut into), got {factor}.")
        if kind not in KINDS:
            raise ValueError(f"kind must be {' or '.join(KINDS)}, got {kind!r}.")
        if expects_voxel_size_um is not None:
            _refuse_other_size(base, expects_voxel_size_um)
        self.factor, self.kind = factor, kind
        planes, rows, columns = (factor * size for size in base.shape)
        affine = None
        if base.affine_lps is not None:
            finer = np.diag([1 / factor, 1 / factor, 1 / factor, 1.0])
            finer[:3, 3] = 0.5 / factor - 0.5
            affine = base.affine_lps @ finer
        super().__init__(base, shape=(planes, rows, columns), dtype=np.float32, affine_lps=affine)

    @property
    def whole(self) -> Volume:
        """The coarse scan: interpolation adds no grey values that counting them would need."""
        return self.base.whole

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        # where the centres of the planes lie between those of the coarse scan
        places = (np.arange(start, stop) + 0.5) / self.factor - 0.5
        below = np.floor(places).astype(np.int64)
        weights = (_linear if self.kind == "linear" else _cubic)((places - below).astype(np.float32))
        # beyond the outermost planes these count again
        taps = {step: np.clip(below + step, 0, self.base.shape[0] - 1) for step in weights}
        used = np.concatenate(list(taps.values()))
        first, last = int(used.min()), int(used.max())
        coarse = torch.from_numpy(self.base.read(first, last + 1).astype(np.float32))
        mode = "bilinear" if self.kind == "linear" else "bicubic"
        fine = F.interpolate(coarse[:, None], size=self.shape[1:], mode=mode, align_corners=False)[:, 0].numpy()
        blended = np.zeros((stop - start, *self.shape[1:]), np.float32)
        for step, tap in taps.items():
            blended += fine[tap - first] * weights[step][:, None, None]
        return blended


def _linear(t: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
    """Weights of the planes below and above, for parts of a plane above the one below."""
    return {0: 1 - t, 1: t}


def _cubic(t: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
    """The same of the two below and the two above."""
    near = {step: ((_KEYS + 2) * d - (_KEYS + 3)) * d * d + 1 for step, d in ((0, t), (1, 1 - t))}
    far = {step: (((d - 5) * d + 8) * d - 4) * _KEYS for step, d in ((-1, 1 + t), (2, 2 - t))}
    return near | far


def _refuse_other_size(volume: Volume, expected: Sequence[float]) -> None:
    own = volume.voxel_size_um
    if own is None or any(abs(one - wanted) > _SAME_SIZE * wanted for one, wanted in zip(own, expected, strict=True)):
        found = "no voxel size that is stated" if own is None else f"voxels of {' x '.join(f'{n:g}' for n in own)} um"
        wanted = " x ".join(f"{n:g}" for n in expected)
        raise InputError(volume.path, f"has {found}; this was made for {wanted} um.")
