"""A preprocessed item as it lies in a cache on disk: numbers only, no word that could name a patient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils.enums import MetaKeys, SpaceKeys

from bonemonai.errors import InputError

# of what MONAI's transforms look at in a MetaTensor; names of files and headers stay out
_META = (MetaKeys.ORIGINAL_AFFINE, MetaKeys.SPATIAL_SHAPE, MetaKeys.ORIGINAL_CHANNEL_DIM, MetaKeys.PIXDIM, "spacing")
_NOTHING = object()


def to_plain(value: Any, given: Any, name: str = "item") -> Any:
    """Take an item apart into what ``torch.load`` reads with ``weights_only``.

    Tensors, arrays, numbers and containers of them are kept. Text is not: it is taken from the item as it was given,
    where it must stand unchanged in the same place. Of a MetaTensor's metadata the affine, the space and what else
    says where its voxels lie are kept; operations that were traced are not, so that what came before the cache cannot
    be inverted.

    Args:
        value: the item after its transforms.
        given: the item before them.
        name: of the entry, for the error.

    Raises:
        InputError: if the transforms leave text that the item did not hold, or an object of another kind.
    """
    if value is None or type(value) in (bool, int, float):
        return "plain", value
    if isinstance(value, MetaTensor) and not value.pending_operations:
        meta = {str(key): to_plain(value.meta[key], _NOTHING, str(key)) for key in _META if key in value.meta}
        space = str(value.meta.get(MetaKeys.SPACE, SpaceKeys.RAS)) == SpaceKeys.LPS
        return "meta", _owned(value.as_tensor()), _owned(torch.as_tensor(value.affine)), meta, space, value.is_batch
    if type(value) is torch.Tensor:
        return "tensor", _owned(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return kind, torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
    if type(value) in (list, tuple):
        alike = given if type(given) in (list, tuple) and len(given) == len(value) else [_NOTHING] * len(value)
        parts = [to_plain(each, there, name) for each, there in zip(value, alike, strict=True)]
        return "list" if isinstance(value, list) else "tuple", parts
    if isinstance(value, Mapping) and all(isinstance(key, str | int) for key in value):
        there = given if isinstance(given, Mapping) else {}
        names = {key: str(key) if isinstance(key, str) else key for key in value}  # no members of an enumeration
        return "mapping", {names[key]: to_plain(value[key], there.get(key, _NOTHING), str(key)) for key in value}
    if isinstance(value, str | Path) and type(value) is type(given) and value == given:
        return ("given",)
    raise InputError(
        "cache_dir", f"{name!r} of a preprocessed item is {type(value).__name__} that was not in the item, and only "
        "numbers are kept on disk; leave it out by SelectItemsd, or cache in memory, without cache_dir."
    )  # fmt: skip


def from_plain(plain: Any, given: Any) -> Any:
    """Put an item together again; the inverse of :func:`to_plain`.

    Args:
        plain: what it returned.
        given: the item before its transforms.
    """
    kind, *content = plain
    if kind == "given":
        return given
    if kind in ("plain", "tensor"):
        return content[0]
    if kind == "meta":
        return _meta_tensor(*content)
    if kind in ("array", "scalar"):
        return content[0].numpy() if kind == "array" else content[0].numpy()[()]
    if kind == "mapping":
        there = given if isinstance(given, Mapping) else {}
        return {key: from_plain(each, there.get(key)) for key, each in content[0].items()}
    alike = given if type(given) in (list, tuple) and len(given) == len(content[0]) else [None] * len(content[0])
    parts = [from_plain(each, there) for each, there in zip(content[0], alike, strict=True)]
    return parts if kind == "list" else tuple(parts)


def _meta_tensor(
    tensor: torch.Tensor, affine: torch.Tensor, meta: Mapping[str, Any], is_lps: bool, is_batch: bool
) -> MetaTensor:
    known = {key: from_plain(each, None) for key, each in meta.items()}
    space = SpaceKeys.LPS if is_lps else SpaceKeys.RAS
    image = MetaTensor(tensor, affine=affine, meta={**known, MetaKeys.SPACE: space})
    image.is_batch = is_batch
    return image


def _owned(tensor: torch.Tensor) -> torch.Tensor:
    """A view would be saved with all that it is a view of."""
    return tensor.detach().clone()
