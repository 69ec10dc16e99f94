from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer
from monai.networks.nets import UNet

from bonemonai.data import OmeZarrWriter, PreparedVolume, open_volume
from bonemonai.errors import ResumeError
from bonemonai.inferers import LabelOutput, ResultWriter, StreamingInferer
from bonemonai.inferers.whole_volume import infer_whole_volume, network_dims
from bonemonai.networks import LacunaUNet

SHAPE = (20, 40, 48)


@pytest.fixture
def scan(tmp_path: Path) -> PreparedVolume:
    with OmeZarrWriter(tmp_path / "s.zarr", shape=SHAPE, dtype="float32", voxel_size_um=(1, 1, 1)) as writer:
        writer.write(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    return PreparedVolume(open_volume(tmp_path / "s.zarr"))


def writer(out: Path) -> ResultWriter:
    return ResultWriter(out, [LabelOutput("l.ome.zarr")])


def label(out: Path) -> np.ndarray:
    return open_volume(out / "l.ome.zarr").read()


@pytest.mark.parametrize(
    "inferer",
    [
        SimpleInferer(),
        SlidingWindowInferer((-1, -1)),
        SliceInferer(spatial_dim=0, roi_size=(-1, -1), sw_batch_size=2),
        StreamingInferer(),
    ],
)
def test_whole_planes_by_monais_inferers_are_those_of_streaming(
    inferer: Any, scan: PreparedVolume, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = LacunaUNet(width=4).eval()
    infer_whole_volume(inferer, scan, network, writer(tmp_path / "a"))
    StreamingInferer(spatial_dim=0)(scan, network, writer=writer(tmp_path / "b"))
    np.testing.assert_array_equal(label(tmp_path / "a"), label(tmp_path / "b"))
    assert len(np.unique(label(tmp_path / "a"))) == 2


def test_windows_of_a_3d_network(scan: PreparedVolume, tmp_path: Path) -> None:
    network = UNet(3, 1, 2, channels=(4, 8), strides=(2,)).eval()
    windows: dict[str, Any] = {"roi_size": (16, 24, 24), "sw_batch_size": 2, "overlap": 0.5, "mode": "gaussian"}
    infer_whole_volume(SlidingWindowInferer(**windows), scan, network, writer(tmp_path / "a"))
    StreamingInferer(**windows)(scan, network, writer=writer(tmp_path / "b"))
    np.testing.assert_array_equal(label(tmp_path / "a"), label(tmp_path / "b"))


def test_another_inferer_does_not_continue_the_result(scan: PreparedVolume, tmp_path: Path) -> None:
    network = LacunaUNet(width=4).eval()
    infer_whole_volume(SlidingWindowInferer((24, 24)), scan, network, writer(tmp_path))
    assert infer_whole_volume(SlidingWindowInferer((24, 24)), scan, network, writer(tmp_path))["complete_before"]
    with pytest.raises(ResumeError, match=r"inferer\.roi_size"):
        infer_whole_volume(SlidingWindowInferer((32, 32)), scan, network, writer(tmp_path))


def test_network_dims() -> None:
    assert network_dims(torch.nn.Sequential(torch.nn.PReLU(), torch.nn.Conv2d(1, 1, 1))) == 2
    assert network_dims(torch.nn.Conv3d(1, 1, 1)) == 3
    assert network_dims(lambda x: x) == 3
