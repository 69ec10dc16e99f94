"""Where a scan lies with respect to another one of the same specimen: a rigid transform, found by SimpleITK."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from bonemonai.data.cropped_volume import CroppedVolume, centre_box
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_SAMPLES = 100_000  # voxels that a comparison of two images looks at
_UNRELATED = 0.1  # correlation of scans that do not show one thing, at most: noise is brought to 0.05


@dataclass(frozen=True)
class Registration:
    """A rigid transform from points of the fixed scan to points of the moving one.

    Points are millimetres along (column, row, plane) from the centre of voxel (0, 0, 0), orientation left aside.

    Attributes:
        transform: SimpleITK's; ``SimpleITK.WriteTransform`` stores it.
        correlation: of grey values, 1 where they agree but for brightness and contrast.
        correlation_before: without the transform; NaN where the scans hardly overlap then.
    """

    transform: SimpleITK.Euler3DTransform
    correlation: float
    correlation_before: float

    def describe(self) -> dict[str, Any]:
        """JSON values: rotation in degrees, shift of the fixed scan's centre in micrometres, correlations."""
        centre = np.asarray(self.transform.GetCenter())
        shift = (np.asarray(self.transform.TransformPoint(centre.tolist())) - centre) * 1000
        angles = (self.transform.GetAngleX(), self.transform.GetAngleY(), self.transform.GetAngleZ())
        return {
            "rotation_deg": [round(math.degrees(angle), 6) for angle in angles],
            "shift_um": [round(float(step), 4) for step in shift],
            "correlation": round(self.correlation, 6),
            "correlation_before": None if math.isnan(self.correlation_before) else round(self.correlation_before, 6),
        }


def register_rigid(
    fixed: Volume, moving: Volume, *, size: int = 128, iterations: int = 100, seed: int = 0
) -> Registration:
    """Find the rigid motion between two scans of one specimen: first over all of it, coarsely, then in its middle.

    Both scans are read a few planes at a time and shrunk by block means; where that loses resolution, a box in the
    middle is compared at full resolution next. Correlation is insensitive to brightness and contrast. It is the middle
    that fits in the end: a loaded specimen is not rigid.

    Args:
        fixed: the scan to come to, of known voxel size.
        moving: the scan that has moved, of the same voxel size.
        size: largest edge of what is compared, in voxels; larger is slower and no better than sub-voxel.
        iterations: at most, on each of three resolutions.
        seed: of the voxels that are compared, from 0; on another number of cores sums are rounded otherwise (1e-10).

    Raises:
        InputError: if the seed is below 0, a voxel size is not known, they differ, a scan is too thin, or no motion
            makes the scans agree.

    Source:
        Shen et al., 2.1, "rigidly registered to the first scan for each sample".
    """
    if seed < 0:
        raise InputError("seed", f"must be >= 0, got {seed}.")
    for volume in (fixed, moving):
        if volume.voxel_size_um is None:
            raise InputError(volume.path, "states no voxel size, which registration needs; give it in the manifest.")
    if not np.allclose(fixed.voxel_size_um or 0, moving.voxel_size_um or 0, rtol=1e-6):
        raise InputError(
            moving.path,
            f"has voxels of {moving.voxel_size_um} um, the scan to register it to of {fixed.voxel_size_um}.",
        )
    edge = [size / 1000 for size in reversed(fixed.voxel_size_um or ())]
    transform = SimpleITK.Euler3DTransform()
    transform.SetCenter([(n - 1) / 2 * step for n, step in zip(reversed(fixed.shape), edge, strict=True)])
    factor = -(-max(max(fixed.shape), max(moving.shape)) // size)
    try:
        images = _shrunk(fixed, factor), _shrunk(moving, factor)
        _optimise(*images, transform, iterations, seed)
        if factor > 1:
            there = np.asarray(transform.TransformPoint(transform.GetCenter()))[::-1] / edge[::-1]
            images = _middle(fixed, size), _middle(moving, size + 2 * max(8, size // 8), there)
            _optimise(*images, transform, iterations, seed)
        before, after = (_correlation(*images, way) for way in (SimpleITK.Euler3DTransform(), transform))
    except RuntimeError as error:
        cause = str(error).rpartition("): ")[2]
        raise InputError(moving.path, f"cannot be registered to {fixed.path.name}: {cause}") from error
    if not after > _UNRELATED or after < before - 1e-3:
        raise InputError(
            moving.path, f"cannot be registered: grey values correlate by {after:.3f} after, by {before:.3f} before. "
            "If it lies right already, state that it is registered."
        )  # fmt: skip
    return Registration(transform, after, before)


def image_of(
    block: NDArray[Any], voxel_size_um: Sequence[float], start: Sequence[float] = (0, 0, 0)
) -> SimpleITK.Image:
    """A block of a scan as SimpleITK's image, in the coordinates of :class:`Registration`.

    Args:
        block: (planes, rows, columns).
        voxel_size_um: along (plane, row, column).
        start: place of its first voxel's centre in the scan, (plane, row, column).
    """
    edge = [float(size) / 1000 for size in voxel_size_um]
    image = SimpleITK.GetImageFromArray(block)
    image.SetSpacing(edge[::-1])
    image.SetOrigin([float(first) * step for first, step in zip(start, edge, strict=True)][::-1])
    return image


def _shrunk(volume: Volume, factor: int) -> SimpleITK.Image:
    """Means of blocks of ``factor`` voxels along each axis; what is left over at the end is left out."""
    size = [max(1, n // factor) for n in volume.shape]
    steps = [min(factor, n) for n in volume.shape]
    mean = np.empty(size, dtype=np.float32)
    for plane in range(size[0]):
        block = volume.read(plane * steps[0], (plane + 1) * steps[0])[:, : size[1] * steps[1], : size[2] * steps[2]]
        parts = block.reshape(steps[0], size[1], steps[1], size[2], steps[2])
        mean[plane] = parts.mean(axis=(0, 2, 4), dtype=np.float32)
    edges = [edge * step for edge, step in zip(volume.voxel_size_um or (), steps, strict=True)]
    return image_of(mean, edges, [(step - 1) / 2 / step for step in steps])


def _middle(volume: Volume, size: int, centre: NDArray[np.float64] | None = None) -> SimpleITK.Image:
    """A box at full resolution in the middle, or round another voxel as far as the scan goes."""
    start, extent = centre_box(volume, [min(n, size) for n in volume.shape])
    if centre is not None:
        wanted = np.rint(centre - (np.asarray(extent) - 1) / 2)
        start = tuple(int(first) for first in np.clip(wanted, 0, np.subtract(volume.shape, extent)))
    block = CroppedVolume(volume, start, extent).read().astype(np.float32, copy=False)
    return image_of(block, volume.voxel_size_um or (), start)


def _optimise(
    fixed: SimpleITK.Image, moving: SimpleITK.Image, transform: SimpleITK.Euler3DTransform, iterations: int, seed: int
) -> None:
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.RANDOM)
    # the coarser images of the pyramid are compared whole in effect
    share = min(1.0, _SAMPLES / fixed.GetNumberOfPixels())
    # from 1: a seed of 0 is the time of day to SimpleITK
    method.SetMetricSamplingPercentagePerLevel([min(1.0, share * 8), min(1.0, share * 4), share], seed + 1)
    method.SetInterpolator(SimpleITK.sitkLinear)
    # steps are lengths: with these scales a unit of each parameter moves the image by a millimetre
    voxel = min(fixed.GetSpacing())
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2 * voxel, minStep=voxel / 1000, numberOfIterations=iterations, gradientMagnitudeTolerance=1e-10
    )
    method.SetOptimizerScalesFromPhysicalShift()
    levels = [4, 2, 1] if min(fixed.GetSize()) >= 32 else [1, 1, 1]
    method.SetShrinkFactorsPerLevel(levels)
    method.SetSmoothingSigmasPerLevel([float(level) / 2 if level > 1 else 0.0 for level in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)


def _correlation(fixed: SimpleITK.Image, moving: SimpleITK.Image, transform: SimpleITK.Transform) -> float:
    """Of the grey values of voxels that both images show; NaN where they hardly overlap, or one shows nothing."""
    inside = _on_grid(_ones_like(moving), fixed, transform, SimpleITK.sitkNearestNeighbor)
    there = SimpleITK.GetArrayFromImage(inside) > 0
    if there.mean() < 0.1:
        return float("nan")
    ours = SimpleITK.GetArrayFromImage(fixed)[there]
    theirs = SimpleITK.GetArrayFromImage(_on_grid(moving, fixed, transform, SimpleITK.sitkLinear))[there]
    if not (np.ptp(ours) > 0 and np.ptp(theirs) > 0):
        return float("nan")
    return float(np.corrcoef(ours.astype(np.float64), theirs.astype(np.float64))[0, 1])


def _ones_like(image: SimpleITK.Image) -> SimpleITK.Image:
    ones: SimpleITK.Image = SimpleITK.Image(image.GetSize(), SimpleITK.sitkUInt8) + 1
    ones.CopyInformation(image)
    return ones


def _on_grid(
    image: SimpleITK.Image, grid: SimpleITK.Image, transform: SimpleITK.Transform, interpolator: int
) -> SimpleITK.Image:
    placed: SimpleITK.Image = SimpleITK.Resample(image, grid, transform, interpolator, 0.0)
    return placed
