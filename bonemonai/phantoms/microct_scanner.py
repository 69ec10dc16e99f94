"""Scans of a density at several resolutions: blur, voxels and noise, computed plane by plane."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr

from bonemonai.errors import InputError
from bonemonai.phantoms.fbp_noise import fbp_noise
from bonemonai.phantoms.microct_acquisition import MicroCTAcquisition
from bonemonai.phantoms.scan_grid import ScanGrid
from bonemonai.phantoms.specimen import Draw, random_numbers

Plane = NDArray[np.float32]

_REACH = 4.0  # standard deviations of the point spread that are kept
_SLAB = 16  # planes of the density that are computed together


class MicroCTScanner:
    """Scans of one field, at several resolutions at once: the density, which costs most, is computed once.

    The density is taken at points ``sample_um`` apart and as constant round each; a voxel's value is its integral
    weighted by the point spread and averaged over the voxel, exactly so, which makes shifts by parts of a voxel exact
    too. Left out, and so missing in scans: beam hardening, rings, scatter, streaks of too few projections, and noise
    that is stronger behind much bone.

    Args:
        density: of the points of a grid, mg HA/cm3, such as :meth:`bonemonai.phantoms.MurineBone.density`.
        corner_um: of the field, (z, y, x): the outer corner of its first voxel.
        field_um: lengths of its edges, whole numbers of every acquisition's voxels.
        sample_um: step of the density's points, of which voxels are whole numbers.

    Raises:
        InputError: on scanning, if lengths do not fit each other.
    """

    def __init__(
        self,
        density: Callable[[ScanGrid], Plane],
        *,
        corner_um: Sequence[float],
        field_um: Sequence[float],
        sample_um: float = 5.0,
    ) -> None:
        self.density = density
        self.corner_um, self.field_um = np.array(corner_um, dtype=float), np.array(field_um, dtype=float)
        self.sample_um = sample_um

    def shape(self, acquisition: MicroCTAcquisition) -> tuple[int, int, int]:
        """Of a scan: (planes, rows, columns).

        Args:
            acquisition: how it is taken.
        """
        voxels = [_whole("field_um", edge, acquisition.voxel_size_um) for edge in self.field_um]
        return voxels[0], voxels[1], voxels[2]

    def planes(self, acquisitions: Sequence[MicroCTAcquisition], *, seed: int) -> Iterator[tuple[int, int, Plane]]:
        """Scan, plane by plane, with little memory.

        Args:
            acquisitions: how.
            seed: of the noise; each acquisition and plane has its own.

        Yields:
            Number of the acquisition, of the plane, and the plane (rows, columns) in mg HA/cm3. An acquisition's planes
            come in order; which acquisition's is next is not said.
        """
        optics = {_optics(acquisition): acquisition for acquisition in acquisitions}
        for acquisition in acquisitions:
            _whole("voxel_size_um", acquisition.voxel_size_um, self.sample_um)
        halo = halo_points(acquisitions, self.sample_um)
        views = {key: _View(self, acquisition, halo) for key, acquisition in optics.items()}
        for fine in self._fine_planes(halo):
            for key, view in views.items():
                for number, plane in view.take(fine):
                    for index, acquisition in enumerate(acquisitions):
                        if _optics(acquisition) == key:
                            yield index, number, _with_noise(plane, acquisition, seed, number)

    def scan(self, acquisitions: Sequence[MicroCTAcquisition], *, seed: int) -> list[Plane]:
        """Scan what fits into memory.

        Args:
            acquisitions: how.
            seed: of the noise.

        Returns:
            (planes, rows, columns) of each, mg HA/cm3.
        """
        scans = [np.empty(self.shape(acquisition), dtype=np.float32) for acquisition in acquisitions]
        for index, number, plane in self.planes(acquisitions, seed=seed):
            scans[index][number] = plane
        return scans

    def _fine_planes(self, halo: int) -> Iterator[Plane]:
        planes, rows, columns = (_whole("field_um", edge, self.sample_um) + 2 * halo for edge in self.field_um)
        matrix = np.eye(3) * self.sample_um
        corner = self.corner_um - (halo - 0.5) * self.sample_um
        for start in range(0, planes, _SLAB):
            shape = (min(_SLAB, planes - start), rows, columns)
            offset = corner + np.array([start * self.sample_um, 0, 0])
            yield from self.density(ScanGrid(shape, self.sample_um, matrix, offset))


def halo_points(acquisitions: Sequence[MicroCTAcquisition], sample_um: float) -> int:
    """How many points of the density beyond a voxel, to any side, its value may depend on.

    Args:
        acquisitions: the farthest reaching one counts.
        sample_um: step of the points.
    """
    most = max(_REACH * a.psf_sigma_um + max(map(abs, a.offset_um)) for a in acquisitions)
    return math.ceil(most / sample_um) + 2


class _View:
    """One acquisition's image without noise: takes planes of the density, gives planes of the scan."""

    def __init__(self, scanner: MicroCTScanner, acquisition: MicroCTAcquisition, halo: int) -> None:
        shape = scanner.shape(acquisition)
        planes, self._rows, columns = (
            _sampling(count, acquisition, axis, scanner.sample_um, halo) for axis, count in enumerate(shape)
        )
        self._columns, self._of_plane = columns.T.tocsr(), planes.T.tocsr()
        self._last = planes.indices[planes.indptr[1:] - 1]  # plane of the density that completes one of the scan
        self._seen, self._given = 0, 0
        self._sums: dict[int, Plane] = {}

    def take(self, fine: Plane) -> Iterator[tuple[int, Plane]]:
        added = slice(*self._of_plane.indptr[self._seen : self._seen + 2])
        if added.start < added.stop:
            reduced = (self._rows @ fine) @ self._columns
            for number, weight in zip(self._of_plane.indices[added], self._of_plane.data[added], strict=True):
                self._sums[number] = self._sums.get(number, np.float32(0)) + weight * reduced
        while self._given < len(self._last) and self._last[self._given] <= self._seen:
            yield self._given, self._sums.pop(self._given)
            self._given += 1
        self._seen += 1


def _sampling(count: int, acquisition: MicroCTAcquisition, axis: int, sample_um: float, halo: int) -> Any:
    """Weights of the density's points (columns) in a scan's voxels (rows) along an axis; rows sum to 1."""
    size, sigma = acquisition.voxel_size_um, acquisition.psf_sigma_um
    points, reach = round(count * size / sample_um) + 2 * halo, _REACH * sigma
    low = (np.arange(count) * size + acquisition.offset_um[axis])[:, None]
    near = np.arange(math.ceil((size + 2 * reach) / sample_um) + 2)
    index = np.floor((low - reach) / sample_um).astype(np.intp) + near[None]
    first = index * sample_um
    weights = (
        _ramp(low + size - first, sigma)
        - _ramp(low - first, sigma)
        - _ramp(low + size - first - sample_um, sigma)
        + _ramp(low - first - sample_um, sigma)
    )
    weights[weights < 1e-7 * sample_um] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    row, column = np.nonzero(weights)
    found = csr_array((weights[row, column].astype(np.float32), (row, index[row, column] + halo)), (count, points))
    found.sort_indices()
    return found


def _ramp(t: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """A Gaussian, integrated twice."""
    if sigma == 0:
        return np.maximum(t, 0)
    u = t / sigma
    return np.asarray(t * ndtr(u) + sigma * np.exp(-0.5 * u * u) / math.sqrt(2 * math.pi))


def _optics(acquisition: MicroCTAcquisition) -> tuple[Any, ...]:
    """What the image without noise depends on."""
    return acquisition.voxel_size_um, acquisition.psf_sigma_um, acquisition.offset_um


def _with_noise(plane: Plane, acquisition: MicroCTAcquisition, seed: int, number: int) -> Plane:
    if not acquisition.noise:
        return plane
    how = (round(acquisition.voxel_size_um * 1000), acquisition.projections, acquisition.frames)
    rng = random_numbers(seed, Draw.NOISE, *how, number)
    rows, columns = plane.shape
    return plane + np.float32(acquisition.noise_mg_ha_cm3) * fbp_noise((rows, columns), rng)


def _whole(name: str, length_um: float, part_um: float) -> int:
    count = round(length_um / part_um)
    if count < 1 or abs(count * part_um - length_um) > 1e-6 * length_um:
        raise InputError(name, f"must be a whole number of {part_um:g} um, got {length_um:g} um.")
    return count
