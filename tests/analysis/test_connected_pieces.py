from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bonemonai.analysis.connected_pieces import Pieces, count_pieces
from bonemonai.analysis.labelled_slabs import Neighbours
from bonemonai.analysis.slab_arrays import SlabArrays
from bonemonai.analysis.slab_sums import SlabRecord
from tests.analysis.stopping_volume import StoppingVolume


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.1, 0.9), st.integers(1, 9), st.sampled_from([6, 26]))
def test_slabs_give_what_scipy_gives(seed: int, share: float, planes: int, neighbours: Neighbours) -> None:
    mask = np.random.default_rng(seed).random((9, 8, 7)) < share
    slabs = [slice(start, min(start + planes, 9)) for start in range(0, 9, planes)]
    found = count_pieces(lambda start, stop: mask[start:stop], slabs, 9, neighbours=neighbours)
    labels, number = ndimage.label(mask, ndimage.generate_binary_structure(3, 1 if neighbours == 6 else 3))
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1, 1:-1] = True
    assert found == Pieces(number, number - len(set(labels[~inner].tolist()) - {0}))


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.floats(0, 0.9), st.integers(1, 5), st.integers(0, 8), st.sampled_from([6, 26]))
def test_stopped_count_goes_on(seed: int, share: float, planes: int, stop: int, neighbours: Neighbours) -> None:
    mask = np.random.default_rng(seed).random((9, 8, 7)) < share
    slabs = [slice(start, min(start + planes, 9)) for start in range(0, 9, planes)]
    stop = min(stop, len(slabs) - 1)

    def count(volume: StoppingVolume, folder: str | None) -> Pieces:
        kept = None if folder is None else SlabArrays(SlabRecord(Path(folder) / "r.json", {}), "pieces")
        return count_pieces(volume.marked, slabs, 9, neighbours=neighbours, kept=kept)

    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(KeyboardInterrupt):
            count(StoppingVolume(mask, stop), folder)
        resumed = StoppingVolume(mask)
        found = count(resumed, folder)
        assert resumed.reads == [slab.start for slab in slabs][stop:]
        finished = StoppingVolume(mask, 0)
        assert count(finished, folder) == found
    assert found == count(StoppingVolume(mask), None)
    assert found == count_pieces(lambda start, stop: mask[start:stop], [slice(0, 9)], 9, neighbours=neighbours)


def test_nothing_is_no_piece() -> None:
    assert count_pieces(lambda *_: np.zeros((2, 3, 4), bool), [slice(0, 2)], 2, neighbours=26) == Pieces(0, 0)
