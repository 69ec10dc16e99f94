from __future__ import annotations

from typing import Literal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bonemonai.analysis.connected_pieces import Pieces, count_pieces


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.1, 0.9), st.integers(1, 9), st.sampled_from([6, 26]))
def test_slabs_give_what_scipy_gives(seed: int, share: float, planes: int, neighbours: Literal[6, 26]) -> None:
    mask = np.random.default_rng(seed).random((9, 8, 7)) < share
    slabs = [slice(start, min(start + planes, 9)) for start in range(0, 9, planes)]
    found = count_pieces(lambda start, stop: mask[start:stop], slabs, 9, neighbours=neighbours)
    labels, number = ndimage.label(mask, ndimage.generate_binary_structure(3, 1 if neighbours == 6 else 3))
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1, 1:-1] = True
    assert found == Pieces(number, number - len(set(labels[~inner].tolist()) - {0}))


def test_nothing_is_no_piece() -> None:
    assert count_pieces(lambda *_: np.zeros((2, 3, 4), bool), [slice(0, 2)], 2, neighbours=26) == Pieces(0, 0)
