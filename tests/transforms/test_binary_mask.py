from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import AsDiscrete

from bonemonai.errors import InputError
from bonemonai.transforms import BinaryMask, BinaryMaskd
from tests.contracts import TransformContract


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_agrees_with_monais_threshold(high: int, dtype: type) -> None:
    mask = (np.random.default_rng(0).random((1, 20, 30)) > 0.5).astype(dtype) * dtype(high)
    found = BinaryMask()(mask)
    torch.testing.assert_close(found, AsDiscrete(threshold=0.5)(mask), check_dtype=False)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("mask", [np.zeros((1, 2, 2), bool), np.ones((1, 2, 2), bool), np.full((1, 2), 255)])
def test_one_value_is_enough(mask: Any) -> None:
    assert BinaryMask()(mask).unique().tolist() == [float(mask.any())]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 1, 2], "holds 0, 1, 2; a mask"),
        ([0, 1, 255], "holds 0, 1, 255;"),
        ([0, 0.5], "holds 0, 0.5;"),
        ([-1, 0], "holds -1, 0;"),
        ([0.0, np.nan], "holds 0, nan;"),
        (range(300), "holds 0, 1, 2, 3, 4, 5, ...; a mask"),
    ],
)
def test_other_values_are_refused(values: Any, words: str) -> None:
    with pytest.raises(InputError, match="one kind of object") as caught:
        BinaryMask()(np.asarray(list(values))[None])
    assert words in str(caught.value)


class TestContract(TransformContract):
    def make(self) -> BinaryMaskd:
        return BinaryMaskd("image")

    def item(self) -> dict[str, Any]:
        item = super().item()
        return {**item, "image": (item["image"] > 100).to(torch.uint8) * 255}
