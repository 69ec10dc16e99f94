from __future__ import annotations

import pytest

from bonemonai.data import CachedPatchDataset
from bonemonai.errors import InputError


def test_flattens_lists_of_different_length_and_runs_the_sampler_once() -> None:
    calls = []

    def sampler(item: int) -> list[dict]:
        calls.append(item)
        return [{"value": 10 * item + i} for i in range(item)]

    dataset = CachedPatchDataset([1, 0, 2], sampler, lambda patch: patch["value"], progress=False)
    assert [dataset[i] for i in range(len(dataset))] == [10, 20, 21]
    assert calls == [1, 0, 2]


def test_a_transform_cannot_spoil_the_cache() -> None:
    def spoil(patch: dict) -> dict:
        patch["value"] = 0
        return patch

    dataset = CachedPatchDataset([3], lambda item: [{"value": item}], spoil, progress=False)
    assert dataset[0] == {"value": 0}
    assert dataset.patches == [{"value": 3}]


def test_no_patch_is_refused() -> None:
    with pytest.raises(InputError, match="no patch was cut"):
        CachedPatchDataset([1], lambda item: [], progress=False)
