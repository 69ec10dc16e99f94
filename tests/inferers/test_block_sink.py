from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bonemonai.data import OmeZarrWriter, PreparedVolume, open_volume
from bonemonai.errors import NumericalError, OutputError
from bonemonai.inferers import LabelOutput
from bonemonai.inferers.block_sink import BlockSink
from bonemonai.inferers.plane_stream import PlaneStream

SHAPE = (20, 6, 8)
BLOCKS = [tuple(map(slice, (z, 0, 0), (min(z + 8, 20), 6, 8))) for z in (0, 8, 16)]


class Committed:
    """Stands for a run: keeps what is committed."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, np.ndarray]] = []

    def commit(self, box: Any, values: dict[str, np.ndarray]) -> None:
        self.blocks.append((box[0].start, values["label.ome.zarr"]))


@pytest.fixture
def scan(tmp_path: Path) -> PreparedVolume:
    with OmeZarrWriter(tmp_path / "s.zarr", shape=SHAPE, dtype="uint8", voxel_size_um=(1, 1, 1)) as writer:
        writer.write(np.zeros(SHAPE, np.uint8))
    return PreparedVolume(open_volume(tmp_path / "s.zarr"))


def feed(scan: PreparedVolume, run: Any, parts: list[tuple[int, int]], prediction: torch.Tensor) -> None:
    outputs = [LabelOutput("label.ome.zarr")]
    stream = PlaneStream(scan, slice(0, 20), slice(0, 6))
    with ThreadPoolExecutor(1) as pool, stream, BlockSink(BLOCKS, outputs, stream, run, pool, scan) as sink:
        for start, stop in parts:
            sink.put((slice(start, stop), slice(0, 6), slice(0, 8)), prediction[:, start:stop])


@pytest.mark.parametrize("parts", [[(0, 20)], [(0, 3), (3, 11), (11, 20)], [(z, z + 1) for z in range(20)]])
def test_parts_of_any_depth_fill_the_same_blocks(parts: list[tuple[int, int]], scan: PreparedVolume) -> None:
    prediction, run = torch.randn(2, *SHAPE), Committed()
    feed(scan, run, parts, prediction)
    assert [start for start, _ in run.blocks] == [0, 8, 16]
    np.testing.assert_array_equal(np.concatenate([block for _, block in run.blocks]), prediction.argmax(0))


def test_nan_names_its_block_and_is_not_committed(scan: PreparedVolume) -> None:
    prediction, run = torch.randn(2, *SHAPE), Committed()
    prediction[1, 9, 2, 3] = torch.nan
    with pytest.raises(NumericalError, match="block at plane 8, row 0"):
        feed(scan, run, [(0, 8), (8, 20)], prediction)
    assert [start for start, _ in run.blocks] == [0]


def test_large_values_whose_sum_overflows_are_finite(scan: PreparedVolume) -> None:
    prediction, run = torch.full((2, *SHAPE), 3e38), Committed()
    feed(scan, run, [(0, 20)], prediction)
    assert len(run.blocks) == 3


def test_failure_to_write_comes_out(scan: PreparedVolume) -> None:
    class Full(Committed):
        def commit(self, box: Any, values: Any) -> None:
            raise OutputError("out", "cannot be written")

    with pytest.raises(OutputError, match="out: cannot be written"):
        feed(scan, Full(), [(0, 20)], torch.randn(2, *SHAPE))
