from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from ignite.engine import Engine

from bonemonai.data import Volume, open_volume
from bonemonai.engines import VolumeWriter
from bonemonai.errors import InputError, OutputError


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    array = np.random.default_rng(0).integers(0, 2, (5, 7, 9), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "scan.tif", array)
    return open_volume(tmp_path / "scan.tif", voxel_size_um=(3, 2, 1))


def engine(volume: Volume, order: list[int], fail_at: int | None = None) -> Engine:
    def step(engine: Engine, planes: list[int]) -> list[dict]:
        if fail_at in planes:
            raise RuntimeError("network fell over")
        engine.state.batch = [{"plane": torch.tensor(plane)} for plane in planes]
        return [{"pred": torch.from_numpy(volume.read(plane, plane + 1)).float()} for plane in planes]

    result = Engine(step)
    result.test_data = [order[start : start + 2] for start in range(0, len(order), 2)]
    return result


def run(volume: Volume, writer: VolumeWriter, order: list[int], fail_at: int | None = None) -> None:
    stepper = engine(volume, order, fail_at)
    writer.attach(stepper)
    stepper.run(stepper.test_data)


def test_planes_become_volumes(volume: Volume, tmp_path: Path) -> None:
    writer = VolumeWriter(volume, tmp_path / "out", {"pred": "a.ome.zarr"}, attributes={"seed": 3})
    run(volume, writer, [0, 1, 2, 3, 4])
    result = open_volume(tmp_path / "out" / "a.ome.zarr")
    np.testing.assert_array_equal(result.read(), volume.read())
    assert result.voxel_size_um == (3, 2, 1)
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == {
        "seed": 3,
        "voxel_size_um": [3.0, 2.0, 1.0],
        "input_warnings": [],
    }


def test_a_name_without_suffix_makes_a_tiff_stack(volume: Volume, tmp_path: Path) -> None:
    run(volume, VolumeWriter(volume, tmp_path / "out", {"pred": "mask"}), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(open_volume(tmp_path / "out" / "mask").read(), volume.read())
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("order", "fail_at", "error"),
    [
        ([0, 1, 2, 3, 4], 3, "network fell over"),
        ([0, 2, 1, 3, 4], None, "planes must come in order: 1 was due, 2 came"),
        ([0, 1, 2, 3], None, "takes 5 planes; 4 came"),
    ],
)
def test_failure_leaves_no_result(
    volume: Volume, tmp_path: Path, order: list[int], fail_at: int | None, error: str
) -> None:
    writer = VolumeWriter(volume, tmp_path / "out", {"pred": "a.ome.zarr"})
    with pytest.raises((RuntimeError, ValueError), match=error):
        run(volume, writer, order, fail_at)
    assert list((tmp_path / "out").iterdir()) == []


def test_refusals_come_before_any_inference(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "out" / "a.ome.zarr").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"exists already; say --overwrite True"):
        VolumeWriter(volume, tmp_path / "out", {"pred": "a.ome.zarr"})
    with pytest.raises(InputError, match="say --voxel_size_um"):
        VolumeWriter(open_volume(volume.path), tmp_path, {"pred": "b.ome.zarr"})
