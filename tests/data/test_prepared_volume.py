from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bonemonai.data import OmeZarrWriter, PreparedVolume, open_volume
from bonemonai.errors import InputError
from bonemonai.transforms import BoneMaskd, SaturateIntensityd


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 20, 24)).astype(np.float32)


@pytest.fixture
def volume(tmp_path: Path, array: np.ndarray) -> Any:
    with OmeZarrWriter(tmp_path / "s.zarr", shape=array.shape, dtype="float32", voxel_size_um=(1, 1, 1)) as writer:
        writer.write(array)
    return open_volume(tmp_path / "s.zarr")


def test_planes_are_scaled_by_the_whole_volume(volume: Any, array: np.ndarray) -> None:
    planes = PreparedVolume(volume, SaturateIntensityd("image", 1, 99)).planes(2, 4)
    low, high = np.percentile(array, [1, 99])
    expected = np.clip((array[2:4] - low) / (high - low), 0, 1)
    assert [plane["image"].shape for plane in planes] == [(1, 20, 24)] * 2
    np.testing.assert_allclose(np.stack([plane["image"][0] for plane in planes]), expected, atol=1e-2)


def test_entries_of_the_planes_size_are_kept_as_tensors(volume: Any) -> None:
    item = PreparedVolume(volume, BoneMaskd("image")).planes(0, 1)[0]
    assert set(item) == {"image", "mask"}
    assert (item["image"].dtype, item["mask"].dtype) == (torch.float32, torch.uint8)
    assert type(item["image"]) is torch.Tensor


def test_no_transform_hands_the_plane_on(volume: Any, array: np.ndarray) -> None:
    np.testing.assert_array_equal(PreparedVolume(volume).planes(5, 6)[0]["image"][0], array[5])


def test_preprocessing_without_an_image_is_refused(volume: Any) -> None:
    with pytest.raises(InputError, match="preprocessing returns no 'image'"):
        PreparedVolume(volume, lambda item: {"other": item["image"]}).planes(0, 1)


def test_grey_values_are_counted_once_and_cached_for_this_scan_only(
    volume: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "grey_values.npz"
    transform = SaturateIntensityd("image")
    PreparedVolume(volume, transform).count_grey_values(cache)
    passes = []
    monkeypatch.setattr(
        "bonemonai.data.prepared_volume.volume_histogram",
        lambda v, **_: passes.append(v) or pytest.fail("the scan was read again"),
    )
    again = PreparedVolume(volume, transform)
    again.count_grey_values(cache)
    again.planes(0, 1)
    # another scan, or this one changed, is counted anew
    chunk = next(path for path in volume.path.rglob("c/*/*/*") if path.is_file())
    chunk.touch()
    with pytest.raises(pytest.fail.Exception, match="read again"):
        PreparedVolume(volume, transform).count_grey_values(cache)


def test_damaged_cache_is_no_cache(volume: Any, tmp_path: Path) -> None:
    cache = tmp_path / "grey_values.npz"
    cache.write_bytes(b"PK\x03\x04 torn")
    source = PreparedVolume(volume, SaturateIntensityd("image"))
    source.count_grey_values(cache)
    assert source.planes(0, 1)[0]["image"].max() <= 1
