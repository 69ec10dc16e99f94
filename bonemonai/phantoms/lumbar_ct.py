"""A CT scan of the lumbar phantom: Hounsfield units with noise, blur and errors of scale, and the truth beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from bonemonai.errors import InputError
from bonemonai.phantoms.lumbar_acquisition import BEAMS, KERNELS, REFERENCE_NOISE_HU, CTAcquisition
from bonemonai.phantoms.lumbar_anatomy import LumbarAnatomy
from bonemonai.phantoms.lumbar_spine import LABELS
from bonemonai.phantoms.lumbar_subject import LEVELS, LumbarLevel
from bonemonai.phantoms.tissue_slice import TissuePlane

_KEY, _PLACE_KEY = 25, 26
_HIGHEST_HU = 3071
_REFERENCE_TRUNK_MM, _HALVING_MM = 280.0, 90.0


class LumbarScan(NamedTuple):
    """A scan, each array of shape (planes, rows, columns), planes from the feet upwards.

    Attributes:
        hu: int16 Hounsfield units.
        mask: uint8, 20 to 24 in the vertebral bodies of L1 to L5.
        vertebrae: uint8, 20 to 24 in the whole vertebrae.
        affine_lps: 4 x 4, (plane, row, column) to mm.
        truth: what is known of subject and scan; JSON values, nothing that identifies.
    """

    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    vertebrae: NDArray[np.uint8]
    affine_lps: NDArray[np.float64]
    truth: dict[str, Any]


class LumbarCT:
    """Scans a :class:`LumbarAnatomy`.

    Each slice is the anatomy averaged over the slice's thickness, in HU at the tube's voltage, with beam hardening,
    blurred by the kernel, with noise of the dose, the trunk's size and the kernel, whose power falls towards low
    frequencies as that of filtered back projection does.

    What it is not: no projections are made. Beam hardening is a smooth cup, without streaks; noise is the same
    throughout a slice, and that of overlapping slices is correlated by a first-order recursion.

    Args:
        anatomy: what is scanned.
        acquisition: how.
        matrix: rows and columns, at least 32.
        levels: what must be seen whole; the slices between the first and the last of them.
        field_of_view_mm: edge length of the image; None makes it hold the trunk and most of the table.

    Raises:
        InputError: if an argument is out of its range.
    """

    def __init__(
        self,
        anatomy: LumbarAnatomy,
        acquisition: CTAcquisition,
        *,
        matrix: int = 512,
        levels: Sequence[LumbarLevel] = LEVELS,
        field_of_view_mm: float | None = None,
    ) -> None:
        if matrix < 32:
            raise InputError("matrix", f"must be >= 32 pixels, got {matrix!r}.")
        if not levels or any(level not in LEVELS for level in levels):
            raise InputError("levels", f"must be some of {', '.join(LEVELS)}, got {', '.join(levels) or 'none'}.")
        if field_of_view_mm is not None and not 80 <= field_of_view_mm <= 700:
            raise InputError("field_of_view_mm", f"must be within 80 and 700 mm, got {field_of_view_mm!r}.")
        self.anatomy, self.acquisition, self.matrix = anatomy, acquisition, matrix
        self.levels = [level for level in LEVELS if level in levels]
        rng = np.random.default_rng([anatomy.subject.seed, _PLACE_KEY])
        needed = 2.12 * anatomy.subject.half_width_mm + rng.uniform(0, 35)
        field = max(330.0, float(needed)) if field_of_view_mm is None else field_of_view_mm
        self.pixel_mm = round(field / matrix, 6)
        spine = anatomy.vertebra("L3").centre
        middle = (0.0, 18.0) if field >= 300 else (spine[0], spine[1] + 12)
        jitter = rng.normal(0, 4, 2)
        self._from_middle = np.asarray((np.arange(matrix) - (matrix - 1) / 2) * self.pixel_mm, dtype=np.float64)
        self._columns: NDArray[np.float64] = self._from_middle + round(float(middle[0] + jitter[0]), 4)
        self._rows: NDArray[np.float64] = self._from_middle + round(float(middle[1] + jitter[1]), 4)
        # scanners count from where the table was when they were started
        self._shift = np.round([rng.normal(0, 8), rng.uniform(-190, -140), rng.uniform(-900, 1400)], 2)

    @cached_property
    def heights_mm(self) -> NDArray[np.float64]:
        """Where every slice lies in the anatomy's coordinates, z, upwards."""
        first, last = (self.anatomy.vertebra(self.levels[i]) for i in (0, -1))
        top = first.centre[2] + first.height / 2 + abs(math.sin(first.tilt)) * first.half_depth
        bottom = last.centre[2] - last.height / 2 - abs(math.sin(last.tilt)) * last.half_depth
        margin = 18.0 if self.levels[0] == "L1" else 8.0
        count = math.ceil((top + margin - bottom + 8) / self.acquisition.interval_mm) + 1
        return np.asarray(round(bottom - 8, 2) + np.arange(count) * self.acquisition.interval_mm)

    @cached_property
    def affine_lps(self) -> NDArray[np.float64]:
        """From (plane, row, column) to mm."""
        affine = np.eye(4)
        affine[:3, :3] = 0
        affine[2, 0], affine[1, 1], affine[0, 2] = self.acquisition.interval_mm, self.pixel_mm, self.pixel_mm
        place = np.array([self._columns[0], self._rows[0], self.heights_mm[0]]) + self._shift
        affine[:3, 3] = np.round(place, 6)
        return affine

    @property
    def noise_hu(self) -> float:
        """Standard deviation of the noise."""
        subject, how = self.anatomy.subject, self.acquisition
        trunk = 2 * math.sqrt(subject.half_width_mm * subject.half_depth_mm)
        size = math.exp((trunk - _REFERENCE_TRUNK_MM) / _HALVING_MM * math.log(2) / 2)
        quanta = math.sqrt(3.0 / how.thickness_mm / how.dose)
        return REFERENCE_NOISE_HU * KERNELS[how.kernel].noise * BEAMS[how.kvp].noise * size * quanta

    def scan(self) -> LumbarScan:
        """Make the scan; the same call gives the same values."""
        shape = len(self.heights_mm), self.matrix, self.matrix
        hu = np.empty(shape, dtype=np.int16)
        mask, vertebrae = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
        inner: dict[int, list[NDArray[np.int16]]] = {label: [] for label in LABELS.values()}
        noise, before = np.random.default_rng([self.anatomy.subject.seed, _KEY]), None
        how = self.acquisition
        overlap = max(0.0, 1 - how.interval_mm / how.thickness_mm)
        outside = np.hypot(self._from_middle[:, None], self._from_middle) > (self.matrix / 2 + 0.5) * self.pixel_mm
        for index, z in enumerate(self.heights_mm):
            tissue = self.anatomy.plane(float(z), how.thickness_mm, self._rows, self._columns)
            values = self._noise(noise)
            if before is not None and overlap:
                values = np.float32(overlap) * before + np.float32(math.sqrt(1 - overlap**2)) * values
            before = values
            plane = self.expected(tissue) + values
            hu[index] = np.rint(np.clip(plane, -1024, _HIGHEST_HU)).astype(np.int16)
            hu[index][outside] = how.outside_hu
            mask[index], vertebrae[index] = tissue.body, tissue.vertebrae
            for label in np.unique(tissue.trabecular):
                if label:
                    inner[int(label)].append(hu[index][tissue.trabecular == label])
        return LumbarScan(hu, mask, vertebrae, self.affine_lps, self._truth(inner))

    def expected(self, tissue: TissuePlane) -> NDArray[np.float32]:
        """HU of a slice without noise.

        Args:
            tissue: on this scanner's grid.
        """
        how, beam, kernel = self.acquisition, BEAMS[self.acquisition.kvp], KERNELS[self.acquisition.kernel]
        hu = tissue.water + np.float32(beam.fat) * tissue.fat
        cup = np.float32(how.cupping_hu) * self._cup * np.minimum(hu, 1)
        hu = (hu - 1) * 1000 + np.float32(beam.mineral) * tissue.mineral
        hu += np.float32(beam.iodine * how.contrast) * tissue.iodine
        hu = np.where(hu > 0, hu * np.float32(how.density_scale), hu) + np.float32(how.offset_hu) - cup
        sigma = kernel.sigma_mm / self.pixel_mm
        if sigma > 0.2:
            hu = gaussian_filter(hu, sigma, mode="nearest", truncate=3.0)
        if kernel.enhancement:
            hu += np.float32(kernel.enhancement) * (hu - gaussian_filter(hu, 0.9 / self.pixel_mm, truncate=3.0))
        return np.asarray(hu, dtype=np.float32)

    @cached_property
    def _cup(self) -> NDArray[np.float32]:
        subject = self.anatomy.subject
        across, deep = self._columns / subject.half_width_mm, self._rows / subject.half_depth_mm
        share = 1 - np.square(across)[None, :] - np.square(deep)[:, None]
        return np.asarray(np.maximum(share, 0), dtype=np.float32)

    @cached_property
    def _noise_filter(self) -> NDArray[np.float32]:
        """Amplitude of noise by frequency: a ramp, cut by the kernel, of the standard deviation that is due."""
        down, across = fft.fftfreq(self.matrix), fft.rfftfreq(self.matrix)
        cycles = np.hypot(down[:, None], across[None, :]) / self.pixel_mm
        sigma = KERNELS[self.acquisition.kernel].sigma_mm
        amplitude = np.sqrt(cycles + 0.03) * np.exp(-2 * np.square(np.pi * sigma * cycles))
        twice = np.full(across.size, 2.0)
        twice[0] = 1.0
        if self.matrix % 2 == 0:
            twice[-1] = 1.0
        power = float((np.square(amplitude) * twice).mean() * across.size / self.matrix)
        return np.asarray(amplitude * (self.noise_hu / math.sqrt(power)), dtype=np.float32)

    def _noise(self, rng: np.random.Generator) -> NDArray[np.float32]:
        white = rng.standard_normal((self.matrix, self.matrix), dtype=np.float32)
        return np.asarray(fft.irfft2(fft.rfft2(white) * self._noise_filter, s=white.shape), dtype=np.float32)

    def _truth(self, inner: dict[int, list[NDArray[np.int16]]]) -> dict[str, Any]:
        subject, how = self.anatomy.subject, self.acquisition
        found = {name: np.concatenate(inner[label]) for name, label in LABELS.items() if inner[label]}
        return {
            "label": subject.label,
            "vbmd_mg_cm3": round(subject.vbmd_mg_cm3, 2),
            "vbmd_mg_cm3_by_level": {level: round(self.anatomy.vertebra(level).vbmd, 2) for level in LEVELS},
            "trabecular_hu_by_level": {name: round(float(values.mean()), 2) for name, values in found.items()},
            "levels": self.levels,
            "age_years": subject.age_years,
            "sex": subject.sex,
            "marrow_fat": round(subject.marrow_fat, 4),
            "osteophytes": [round(value, 3) for value in subject.osteophytes],
            "sclerosis_mg_cm3": [round(value, 1) for value in subject.sclerosis_mg_cm3],
            "collapse": [round(value, 3) for value in subject.collapse],
            "vendor": how.vendor,
            "kvp": how.kvp,
            "kernel": how.kernel,
            "kernel_name": how.kernel_name,
            "dose": round(how.dose, 4),
            "contrast": round(how.contrast, 4),
            "thickness_mm": how.thickness_mm,
            "interval_mm": how.interval_mm,
            "pixel_mm": self.pixel_mm,
            "noise_hu": round(self.noise_hu, 3),
            "density_scale": round(how.density_scale, 4),
            "offset_hu": round(how.offset_hu, 3),
            "cupping_hu": round(how.cupping_hu, 3),
        }
