from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bonemonai.data import PreparedVolume, open_volume
from bonemonai.inferers import LabelOutput, ResultWriter, StreamingInferer
from bonemonai.inferers.forward import Forward
from bonemonai.inferers.scan_sweep import ScanSweep, _segments
from bonemonai.inferers.tiling import Box
from tests import drill


def box(plane: int, row: int) -> tuple[slice, slice, slice]:
    return slice(plane, plane + 16), slice(row, row + 64), slice(0, 9)


def test_blocks_that_follow_each_other_in_a_band_are_one_segment() -> None:
    blocks = [box(0, 0), box(16, 0), box(48, 0), box(0, 64), box(16, 64)]
    assert _segments(blocks) == [[box(0, 0), box(16, 0)], [box(48, 0)], [box(0, 64), box(16, 64)]]
    assert _segments([]) == []


@pytest.mark.parametrize("left", [slice(0, 5), slice(1, 2), slice(3, 5)])
def test_blocks_that_are_left_are_inferred_and_no_others(left: slice, tmp_path: Path) -> None:
    """Each block needs planes around it, whatever came before it."""
    scan = PreparedVolume(open_volume(drill.write_scan(tmp_path)))
    inferer = StreamingInferer(spatial_dim=0)
    network, outputs = drill.network(), [LabelOutput("label.ome.zarr")]
    plan, how = inferer._prepare(scan, network, outputs)
    writer = ResultWriter(tmp_path / "out", outputs)
    written = {}
    with (
        writer.lock(scan.volume) as folder,
        torch.no_grad(),
        folder.run({}, plan.blocks(scan.shape), plan.chunk) as run,
    ):
        commit = run.commit

        def keep(block: Box, values: dict[str, np.ndarray]) -> None:
            written[block[0].start] = values["label.ome.zarr"]
            commit(block, values)

        run.commit = keep  # type: ignore[method-assign,assignment]
        run.remaining = plan.blocks(scan.shape)[left]
        sweep = ScanSweep(scan, plan, how, Forward(inferer._sliced(network, 3)))
        sweep.run(run, outputs)
        before = dict(written)
        # the rest, so that the run may end
        run.remaining = [block for block in plan.blocks(scan.shape) if block[0].start not in before]
        sweep.run(run, outputs)
    planes = torch.from_numpy(scan.volume.read())[:, None]
    with torch.no_grad():
        output = network(planes)
    expected = (output[:, 1] > output[:, 0]).numpy()
    assert sorted(before) == [block[0].start for block in plan.blocks(scan.shape)[left]]
    for start, values in before.items():
        np.testing.assert_array_equal(values, expected[start : start + len(values)])
