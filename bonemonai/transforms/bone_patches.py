"""Square patches of a plane that lie in bone (paper 1, II.B)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_numpy

from bonemonai.errors import InputError

# where a patch was cut, as items say it, and as tables of patches do
PATCH_PLACE = {"plane": "plane", "patch_row": "row", "patch_column": "column"}


def bone_patch_corners(
    mask: Any, *, patch_size: int = 55, stride: int = 55, bone_fraction: float = 0.99
) -> list[tuple[int, int]]:
    """Upper left corners (row, column) of the patches to take.

    Patches lie on a grid of (floor((W - k) / s) + 1) x (floor((H - k) / s) + 1) places, the paper's printed
    count put right. One is taken where at least ``bone_fraction`` of it is bone; where none is, the one with
    most bone.

    Args:
        mask: (H, W) or (1, H, W); non-zero is bone.
        patch_size: k, pixels.
        stride: s, pixels.
        bone_fraction: 0 to 1.

    Raises:
        InputError: if the plane is smaller than a patch.

    Source:
        Poles et al., II.B.
    """
    plane = convert_to_numpy(mask)
    plane = plane.reshape(plane.shape[-2:]) != 0
    if min(plane.shape) < patch_size:
        raise InputError("image", f"a plane of {plane.shape} pixels is smaller than patch_size {patch_size}.")
    integral = np.pad(plane.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
    rows = np.arange(0, plane.shape[0] - patch_size + 1, stride)[:, None]
    columns = np.arange(0, plane.shape[1] - patch_size + 1, stride)
    bone = (
        integral[rows + patch_size, columns + patch_size]
        - integral[rows, columns + patch_size]
        - integral[rows + patch_size, columns]
        + integral[rows, columns]
    )
    chosen = np.argwhere(bone >= bone_fraction * patch_size**2)
    if not len(chosen):
        chosen = np.argwhere(bone == bone.max())[:1]
    return [(int(row) * stride, int(column) * stride) for row, column in chosen]


class SampleBonePatches(Transform):
    """Cut the patches of a plane that lie in bone; at least one a plane.

    Args:
        patch_size: k, pixels.
        stride: s, pixels.
        bone_fraction: least share of bone, 0 to 1.

    Shape:
        image: (C, H, W); mask: (H, W) or (1, H, W). Returns a list of (C, k, k), copies.

    Source:
        Poles et al., II.B.

    Example:
        >>> plane = np.ones((1, 110, 55))
        >>> len(SampleBonePatches()(plane, plane))
        2
    """

    def __init__(self, patch_size: int = 55, stride: int = 55, bone_fraction: float = 0.99) -> None:
        if patch_size < 1 or stride < 1:
            raise ValueError(f"patch_size and stride must be >= 1 (pixels), got {patch_size} and {stride}.")
        if not 0 <= bone_fraction <= 1:
            raise ValueError(f"bone_fraction must be within [0, 1], got {bone_fraction}.")
        self.patch_size, self.stride, self.bone_fraction = patch_size, stride, bone_fraction

    def corners(self, mask: Any) -> list[tuple[int, int]]:
        """Upper left corners of the patches, see :func:`bone_patch_corners`."""
        return bone_patch_corners(
            mask, patch_size=self.patch_size, stride=self.stride, bone_fraction=self.bone_fraction
        )

    def crop(self, image: Any, corner: tuple[int, int]) -> Any:
        """Cut one patch."""
        row, column = corner
        patch = image[..., row : row + self.patch_size, column : column + self.patch_size]
        return patch.copy() if isinstance(patch, np.ndarray) else patch.clone()

    def __call__(self, image: Any, mask: Any) -> list[Any]:  # type: ignore[override]
        """Cut all patches of a plane."""
        return [self.crop(image, corner) for corner in self.corners(mask)]


class SampleBonePatchesd(MapTransform):
    """Dictionary version of :class:`SampleBonePatches`: one item in, a list of items out.

    Each item says where it was cut, as ``patch_row`` and ``patch_column``, pixels.

    Args:
        keys: images to cut, the mask among them if it is to be kept.
        mask_key: the bone mask.
        patch_size: see :class:`SampleBonePatches`.
        stride: see :class:`SampleBonePatches`.
        bone_fraction: see :class:`SampleBonePatches`.
        number: of patches a plane; of more, so many are taken at equal distances in their order. None takes all.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "mask",
        patch_size: int = 55,
        stride: int = 55,
        bone_fraction: float = 0.99,
        number: int | None = None,
        *,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if number is not None and number < 1:
            raise ValueError(f"number must be >= 1 (patches a plane), got {number}.")
        self.sample, self.number = SampleBonePatches(patch_size, stride, bone_fraction), number
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Cut the patches of an item; what is not cut is shared between them."""
        corners = self.sample.corners(data[self.mask_key])
        if self.number is not None and len(corners) > self.number:
            corners = [corners[index * len(corners) // self.number] for index in range(self.number)]
        return [
            {
                **data,
                **{key: self.sample.crop(data[key], corner) for key in self.key_iterator(dict(data))},
                "patch_row": corner[0],
                "patch_column": corner[1],
            }
            for corner in corners
        ]
