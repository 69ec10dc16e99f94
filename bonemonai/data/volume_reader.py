"""MONAI's way in: ``LoadImaged(keys, reader=VolumeReader)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError


class VolumeReader(ImageReader):
    """Read a whole volume of any format :func:`bonemonai.data.open_volume` knows.

    MONAI's own readers return page one of a TIFF stack, take slices for channels, lose the voxel size, or do
    not know Zarr. The array comes as (plane, row, column), the affine to match, in RAS and mm as MONAI wants.
    The volume is held in memory; for scans larger than that see :class:`bonemonai.data.PlaneDataset`.

    Args:
        voxel_size_um: for files that do not state it, see :func:`bonemonai.data.open_volume`.
        units: of the values, likewise; they stand in the image's ``meta["units"]``.

    Raises:
        InputError: for what cannot be read, and where the voxel size is neither stated nor given: MONAI would
            go on with 1 mm.
    """

    def __init__(
        self, voxel_size_um: float | Sequence[float] | None = None, units: str | None = None, **_: Any
    ) -> None:
        super().__init__()
        self.voxel_size_um, self.units = voxel_size_um, units

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Accept anything; :meth:`read` says what is wrong better than a missing reader would."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Volume]:
        """Open one volume, or several of the same shape as channels."""
        return [
            open_volume(str(path), voxel_size_um=self.voxel_size_um, units=self.units) for path in ensure_tuple(data)
        ]

    def get_data(self, img: Sequence[Volume]) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Return the values and MONAI's metadata."""
        first = img[0]
        if first.affine_ras is None:
            raise InputError(first.path, "does not state its voxel size; give VolumeReader voxel_size_um.")
        for volume in img[1:]:
            if volume.units != first.units:
                raise InputError(volume.path, f"holds {volume.units} values, {first.path} {first.units}.")
            if volume.shape != first.shape or not np.array_equal(volume.affine_lps, first.affine_lps):  # type: ignore[arg-type]
                raise InputError(volume.path, f"differs from {first.path} in shape or affine; channels must not.")
        meta: dict[str, Any] = {
            MetaKeys.AFFINE: first.affine_ras,
            MetaKeys.ORIGINAL_AFFINE: first.affine_ras.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(first.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if len(img) == 1 else 0,
            "units": first.units,
        }
        arrays = [volume.read() for volume in img]
        return (arrays[0] if len(arrays) == 1 else np.stack(arrays)), meta
