"""Streaming against the network on the whole, and against MONAI."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer, sliding_window_inference
from monai.networks.nets import BasicUNet, UNet
from torch import nn

from bonemonai.data import OmeZarrWriter, PreparedVolume, open_volume
from bonemonai.errors import InputError
from bonemonai.inferers import ItemOutput, LabelOutput, ProbabilityOutput, ResultWriter, StreamingInferer
from bonemonai.networks import LacunaUNet
from tests.conftest import peak_resident_mb

SHAPE = (40, 72, 90)


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


@cache
def net2(channels: int = 1, classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return LacunaUNet(channels, classes, width=4).eval()


@cache
def net3(channels: int = 1, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return UNet(3, channels, classes, channels=(4, 8, 8), strides=(2, 2), norm="batch").eval()


def volume(folder: Path, array: np.ndarray) -> Any:
    with OmeZarrWriter(folder / "scan.zarr", shape=array.shape, dtype=array.dtype, voxel_size_um=(1, 1, 1)) as writer:
        writer.write(array)
    return open_volume(folder / "scan.zarr")


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def stream(source: Any, network: nn.Module, out: Path, outputs: Any = None, **options: Any) -> dict[str, Any]:
    outputs = outputs or [LabelOutput("label.ome.zarr"), ProbabilityOutput("p.ome.zarr", dtype="float16")]
    scan = source if isinstance(source, PreparedVolume) else PreparedVolume(source)
    return dict(StreamingInferer(**options)(scan, network, writer=ResultWriter(out, outputs)))


def read(path: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(path, path="0", mode="r"))


def check(out: Path, expected: torch.Tensor) -> None:
    """Labels and probabilities on disk are those of (C, planes, rows, columns)."""
    np.testing.assert_array_equal(read(out / "label.ome.zarr"), expected.argmax(0))
    probability = torch.softmax(expected, dim=0)[1].numpy()
    np.testing.assert_allclose(read(out / "p.ome.zarr").astype(np.float32), probability, atol=5e-4)


def difference(tiled: torch.Tensor, whole: torch.Tensor) -> float:
    """Largest difference, as a share of the largest output: random weights make numbers of any size."""
    return float((tiled - whole).abs().max() / whole.abs().max())


# tensors


@pytest.mark.parametrize("core", [24, (40, 8), None])
def test_exact_tensor_is_the_whole_plane(core: Any) -> None:
    image = torch.randn(2, 1, 131, 94)
    whole = net2()(image)
    tiled = StreamingInferer(roi_size=core)(image, net2())
    assert difference(tiled, whole) <= 1e-6


def test_exact_tensor_in_3d_with_channels_padded_to_the_stride() -> None:
    image = torch.randn(1, 2, 37, 50, 41)
    padded = nn.functional.pad(image, (0, 3, 0, 2, 0, 3))
    whole = net3(2)(padded)[..., :37, :50, :41]
    tiled = StreamingInferer(roi_size=(16, 20, 24))(image, net3(2))
    assert difference(tiled, whole) <= 1e-6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_exact_tensor_slice_by_slice_along_any_axis(axis: int) -> None:
    image = torch.randn(1, 1, 20, 24, 28)
    slices = [net2()(part)[0] for part in image.unbind(axis + 2)]
    tiled = StreamingInferer(spatial_dim=axis)(image, net2())[0]
    assert difference(tiled, torch.stack(slices, dim=axis + 1)) <= 1e-6


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
def test_windows_on_a_tensor_are_monais(mode: str) -> None:
    image = torch.randn(1, 1, 90, 110)
    network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=2, features=(4, 4, 8, 8, 8, 4)).eval()
    expected = SlidingWindowInferer((48, 32), 3, 0.5, mode)(image, network)
    assert torch.equal(StreamingInferer((48, 32), 3, 0.5, mode)(image, network), expected)


def test_meta_tensor_keeps_its_affine() -> None:
    image = MetaTensor(torch.randn(1, 1, 32, 32), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    output = StreamingInferer()(image, net2())
    assert torch.equal(output.affine, image.affine)


def test_budget_chooses_smaller_tiles_for_a_tensor() -> None:
    image = torch.randn(1, 1, 256, 256)
    sizes: list[int] = []
    network = LacunaUNet(width=4).eval()
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1] * inputs[0].shape[-2]))
    large = StreamingInferer(memory_budget=2e9)(image, network)
    largest = max(sizes)
    sizes.clear()
    small = StreamingInferer(memory_budget=72e6)(image, network)
    tiles = [size for size in sizes if size != 128 * 128]
    assert max(tiles) < largest / 2
    # four channels: the convolution library chooses another algorithm for another size
    assert difference(small, large) <= 5e-6


def test_normalising_network_is_refused_with_the_layers_name() -> None:
    network = UNet(2, 1, 2, channels=(4, 8), strides=(2,)).eval()
    with pytest.raises(InputError, match=r"layer model\.0.*InstanceNorm2d.*use mode gaussian or constant"):
        StreamingInferer()(torch.zeros(1, 1, 64, 64), network)


def test_given_halo_is_checked() -> None:
    image = torch.zeros(1, 1, 64, 64)
    StreamingInferer(halo=28, stride=4)(image, net2())
    with pytest.raises(InputError, match=r"halo \(8, 8\)"):
        StreamingInferer(halo=8, stride=4)(image, net2())


# scans


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_exact_scan_is_each_plane_as_a_whole(dtype: str, array: np.ndarray, tmp_path: Path) -> None:
    values = (array * 20 + 90).clip(0, 250).astype(dtype)
    whole = torch.stack([net2()(torch.from_numpy(plane.astype(np.float32))[None, None])[0] for plane in values], 1)
    stream(volume(tmp_path, values), net2(), tmp_path / "out", spatial_dim=0)
    check(tmp_path / "out", whole)


@pytest.mark.parametrize("axis", [1, 2])
def test_exact_scan_in_slices_across_rows_and_columns(axis: int, array: np.ndarray, tmp_path: Path) -> None:
    slices = [net2()(part)[0] for part in torch.from_numpy(array)[None, None].unbind(axis + 2)]
    stream(volume(tmp_path, array), net2(), tmp_path / "out", spatial_dim=axis, sw_batch_size=7)
    check(tmp_path / "out", torch.stack(slices, dim=axis + 1))


def test_exact_scan_in_3d_in_small_blocks(array: np.ndarray, tmp_path: Path) -> None:
    whole = net3()(nn.functional.pad(torch.from_numpy(array)[None, None], (0, 2)))[0, ..., :90]
    about = stream(volume(tmp_path, array), net3(), tmp_path / "out", memory_budget=151e6)
    assert about["block"][0] < SHAPE[0]
    check(tmp_path / "out", whole)


@pytest.mark.parametrize("roi", [(16, 32, 48), (64, 96, 32), (24, -1, 40)])
@pytest.mark.parametrize("batch", [1, 4])
def test_windows_over_a_scan_are_monais(roi: tuple[int, ...], batch: int, array: np.ndarray, tmp_path: Path) -> None:
    options: dict[str, Any] = {"roi_size": roi, "sw_batch_size": batch, "overlap": 0.5, "mode": "gaussian"}
    expected = sliding_window_inference(
        torch.from_numpy(array)[None, None], roi, batch, net3(), overlap=0.5, mode="gaussian"
    )
    stream(volume(tmp_path, array), net3(), tmp_path / "out", **options)
    check(tmp_path / "out", expected[0])


def test_windows_in_slices_are_those_of_monais_slice_inferer(array: np.ndarray, tmp_path: Path) -> None:
    inferer = SliceInferer(spatial_dim=1, roi_size=(32, 48), sw_batch_size=3, overlap=0.25)
    expected = inferer(torch.from_numpy(array)[None, None], net2())[0]
    stream(
        volume(tmp_path, array), net2(), tmp_path / "out", spatial_dim=1, roi_size=(32, 48), sw_batch_size=3,
        mode="constant",
    )  # fmt: skip
    check(tmp_path / "out", expected)


def test_bands_where_a_slab_does_not_fit(tmp_path: Path) -> None:
    """Rows beyond the budget are swept band by band; with recompute even the last bits are MONAI's."""
    array = np.random.default_rng(2).normal(size=(36, 600, 64)).astype(np.float32)
    roi, network = (24, 32, 32), net3()
    expected = sliding_window_inference(torch.from_numpy(array)[None, None], roi, 3, network, mode="gaussian")[0]
    for recompute in (False, True):
        out = tmp_path / str(recompute)
        about = stream(
            volume(tmp_path / f"scan{recompute}", array), network, out, roi_size=roi, sw_batch_size=3,
            mode="gaussian", memory_budget=178e6, recompute=recompute,
            outputs=[LabelOutput("label.ome.zarr"), ProbabilityOutput("p.ome.zarr", dtype="float16")],
        )  # fmt: skip
        assert about["bands"] > 1
        check(out, expected)


def test_reads_each_plane_once(array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = volume(tmp_path, array)
    reads = np.zeros(SHAPE[0], int)
    original = source.read

    def counted(start: int, stop: int) -> Any:
        reads[start:stop] += 1
        return original(start, stop)

    monkeypatch.setattr(source, "read", counted)
    stream(source, net3(), tmp_path / "out", memory_budget=170e6)
    # one plane is looked at beforehand
    assert reads.sum() <= 1.1 * SHAPE[0]
    assert reads.min() == 1


def test_skipped_tiles_are_empty_and_reported(array: np.ndarray, tmp_path: Path) -> None:
    mask = np.zeros(SHAPE[1:], np.uint8)
    mask[:20] = 1

    def mark(item: dict[str, Any]) -> dict[str, Any]:
        return {"image": torch.from_numpy(item["image"]), "mask": torch.from_numpy(mask)[None]}

    outputs = [LabelOutput("label.ome.zarr", mask_key="mask"), ItemOutput("mask.ome.zarr", "mask")]
    for name, mode in (("exact", {}), ("windows", {"mode": "constant", "overlap": 0.0})):
        options = {"spatial_dim": 0, "roi_size": 24, **mode}
        full, lean = tmp_path / name / "full", tmp_path / name / "lean"
        stream(PreparedVolume(volume(full, array), mark), net2(), full, outputs, **options)
        about = stream(PreparedVolume(volume(lean, array), mark), net2(), lean, outputs, skip_key="mask", **options)
        for output in outputs:
            np.testing.assert_array_equal(read(lean / output.name), read(full / output.name))
        if name == "exact":
            assert about["skipped_share"] == pytest.approx(48 / 72)
        assert about["forwards"] < 200


def test_missing_entry_of_an_output_is_refused_before_any_inference(array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gives no entry 'bone'; it gives image"):
        stream(volume(tmp_path, array), net2(), tmp_path / "out", [ItemOutput("b.ome.zarr", "bone")], spatial_dim=0)


def test_budget_that_is_too_small_is_refused(array: np.ndarray, tmp_path: Path) -> None:
    for mode in ({"mode": "exact"}, {"mode": "gaussian", "roi_size": (16, 32, 32)}):
        with pytest.raises(InputError, match="memory_budget"):
            stream(volume(tmp_path / str(mode["mode"]), array), net3(), tmp_path / "out", memory_budget=2e6, **mode)


def test_running_out_of_memory_halves_the_batch_and_is_recorded(array: np.ndarray, tmp_path: Path) -> None:
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net2()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if len(image) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.inner(image)

    whole = torch.stack([net2()(torch.from_numpy(plane)[None, None])[0] for plane in array], 1)
    about = stream(
        volume(tmp_path, array), Narrow().eval(), tmp_path / "out", spatial_dim=0, sw_batch_size=8, halo=28, stride=4
    )
    assert about["batches_halved"] == 2  # 8, 4, 2
    check(tmp_path / "out", whole)


def test_compiled_and_channels_last_give_the_same(array: np.ndarray, tmp_path: Path) -> None:
    network = LacunaUNet(width=4).eval()
    whole = torch.stack([network(torch.from_numpy(plane)[None, None])[0] for plane in array], 1)
    source = volume(tmp_path, array)
    stream(source, network, tmp_path / "out", spatial_dim=0, channels_last=True, compile_backend="eager")
    check(tmp_path / "out", whole)


@pytest.mark.parametrize(
    "wrong",
    [{"mode": "best"}, {"sw_batch_size": 0}, {"memory_budget": -1}, {"spatial_dim": 3}, {"halo": 4}, {"readers": 0}],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StreamingInferer(**wrong)


STREAM = """
import sys, torch
from functools import cache
from pathlib import Path
from bonemonai.data import PreparedVolume, open_volume
from bonemonai.inferers import LabelOutput, ResultWriter, StreamingInferer
from bonemonai.networks import LacunaUNet
from monai.networks.nets import UNet
kind, scan, out, budget = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
if kind == '2d':
    network, options = LacunaUNet(width=8).eval(), dict(spatial_dim=0)
elif kind == '3d':
    network, options = UNet(3, 1, 2, channels=(4, 8), strides=(2,), norm='batch').eval(), {}
else:
    network = UNet(3, 1, 2, channels=(4, 8), strides=(2,)).eval()
    options = dict(mode='gaussian', roi_size=(32, 96, 96))
volume = open_volume(scan, voxel_size_um=1)
inferer = StreamingInferer(memory_budget=budget or None, **options)
if budget > 1:
    inferer(PreparedVolume(volume), network, writer=ResultWriter(out, [LabelOutput('l.ome.zarr')]))
else:
    network(torch.zeros(1, 1, *([64] * (2 if kind == '2d' else 3))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["2d", "3d", "windows"])
def test_memory_is_flat_and_within_the_budget(kind: str, tmp_path: Path) -> None:
    """A process each: the libraries and the network alone, 192 planes, and four times as many."""
    budget = 300e6

    def peak(planes: int, budget: float) -> float:
        scan = tmp_path / f"{planes}.tif"
        stack = tifffile.memmap(scan, shape=(planes, 256, 256), dtype="float32", photometric="minisblack")
        for z in range(planes):
            stack[z] = np.random.default_rng(z).normal(size=(256, 256))
        stack.flush()
        return peak_resident_mb(STREAM, kind, str(scan), str(tmp_path / f"{planes}"), str(budget))

    alone, shallow, deep = peak(2, 0), peak(192, budget), peak(768, budget)
    logging.getLogger(__name__).info("%s: %d MB alone, %d at 192 planes, %d at 768", kind, alone, shallow, deep)
    assert (shallow - alone) * 2**20 < budget
    assert deep < 1.05 * shallow
