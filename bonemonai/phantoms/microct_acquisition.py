"""How a microCT scan is taken: voxel, point spread, projections, and the noise that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bonemonai.errors import InputError

_NOISE = 90.0  # mg HA/cm3, of 1000 projections, one frame each, in voxels of 20 um; ours


@dataclass(frozen=True)
class MicroCTAcquisition:
    """How a scan is taken.

    Attributes:
        voxel_size_um: edge length of a voxel.
        psf_sigma_um: standard deviation of the scanner's point spread, a Gaussian; 0 for none. The voxel's own
            average comes on top.
        projections: over the turn.
        frames: averaged, of each projection.
        offset_um: where the field lies, compared with where its header says, (z, y, x): the stage's inaccuracy.
        noise: whether there is any.
    """

    voxel_size_um: float
    psf_sigma_um: float
    projections: int
    frames: int
    offset_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("voxel_size_um", "projections", "frames"):
            if not getattr(self, name) > 0:
                raise InputError(name, f"must be > 0, got {getattr(self, name)!r}.")
        if self.psf_sigma_um < 0:
            raise InputError("psf_sigma_um", f"must be >= 0, got {self.psf_sigma_um!r}.")

    @property
    def noise_mg_ha_cm3(self) -> float:
        """Standard deviation of the noise.

        It falls with the square root of projections times frames and, counts of a detector's bin being equal, with
        the voxel's edge: half the voxel, twice the noise. So 20 um from 1000 single projections is noisier than 10 um
        from 2000 times 3 by a factor of sqrt(1.5), though its voxels are larger.

        Source: Brooks and Di Chiro, "Statistical limitations in x-ray reconstructive tomography", Medical Physics,
            1976: variance ~ 1 / (width^3 x height x dose). The level itself is ours.

        Example:
            >>> one, three = (MicroCTAcquisition(20.0, 14.0, 1000, frames) for frames in (1, 3))
            >>> round(one.noise_mg_ha_cm3 / three.noise_mg_ha_cm3, 4)
            1.7321
        """
        return _NOISE * (20.0 / self.voxel_size_um) * math.sqrt(1000 / (self.projections * self.frames))


def hr_acquisition() -> MicroCTAcquisition:
    """The paper's higher resolution: 10 um, 2000 projections of 3 frames. The point spread is ours."""
    return MicroCTAcquisition(10.0, 7.0, 2000, 3)


def lr_acquisition(frames: int = 1, offset_um: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> MicroCTAcquisition:
    """The paper's lower resolution: 20 um, 1000 projections of 1 or 3 frames. The point spread is ours.

    Args:
        frames: averaged.
        offset_um: see :class:`MicroCTAcquisition`.
    """
    return MicroCTAcquisition(20.0, 14.0, 1000, frames, offset_um)
