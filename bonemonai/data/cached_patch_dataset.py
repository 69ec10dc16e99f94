"""Patches cut once from many planes, kept in memory, and shuffled as single items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import Dataset
from tqdm import tqdm

from bonemonai.errors import InputError


class CachedPatchDataset(Dataset[Any]):
    """All patches of all planes, one an item, so that a batch mixes patches of many planes and patients.

    MONAI's CacheDataset with a transform that returns a list gives the whole list of one plane as an item, and
    its PatchDataset needs the same number of patches of each; planes differ in how much bone they show.

    Args:
        data: planes, for instance a :class:`bonemonai.data.PlaneDataset`.
        sampler: from a plane's item to a list of items; runs once a plane.
        transform: applied to a patch each time it is asked for, such as random augmentation.
        progress: show a bar while patches are cut.

    Raises:
        InputError: if no patch comes out.
    """

    def __init__(
        self,
        data: Sequence[Any] | Dataset[Any],
        sampler: Callable[[Any], list[Any]],
        transform: Callable[[Any], Any] | None = None,
        *,
        progress: bool = True,
    ) -> None:
        count = len(data)  # type: ignore[arg-type]  # torch's Dataset has no __len__, its map-style children do
        planes = tqdm(range(count), desc="cutting patches", disable=not progress)
        self.patches = [patch for index in planes for patch in sampler(data[index])]
        self.transform = transform
        if not self.patches:
            raise InputError("data", "the data set is empty: no patch was cut.")

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> Any:
        # a copy: a transform may write into the dictionary
        patch = dict(self.patches[index])
        return patch if self.transform is None else self.transform(patch)
