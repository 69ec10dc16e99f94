from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.measure import regionprops

from bonemonai.analysis import measure_lacuna_objects
from bonemonai.analysis.slab_arrays import SlabArrays
from bonemonai.analysis.slab_sums import SlabRecord
from bonemonai.errors import InputError, ResumeError
from tests.analysis.stopping_volume import StoppingVolume
from tests.array_volume import ArrayVolume

SIZE = (2.0, 1.0, 1.5)


def ellipsoid(axes: tuple[float, float, float], turn: np.ndarray | None = None, edge: float = 1.0) -> np.ndarray:
    reach = int(max(axes) / edge) + 3
    points = (np.moveaxis(np.indices((2 * reach,) * 3), 0, -1) - reach + 0.3) * edge
    if turn is not None:
        points = points @ turn
    return np.asarray(((points / axes) ** 2).sum(axis=-1) < 1)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.02, 0.3), st.sampled_from([1, 2, 5, 11]))
def test_slabs_give_what_memory_gives(seed: int, share: float, planes: int) -> None:
    array = (np.random.default_rng(seed).random((11, 12, 13)) < share).astype(np.uint8)
    whole, slabs = (
        measure_lacuna_objects(ArrayVolume(array, SIZE), least_volume_um3=0, planes=n) for n in (11, planes)
    )
    pd.testing.assert_frame_equal(whole, slabs, check_exact=True)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.floats(0, 0.3), st.sampled_from([1, 2, 5]), st.integers(0, 10))
def test_stopped_measurement_goes_on(seed: int, share: float, planes: int, stop: int) -> None:
    array = np.random.default_rng(seed).random((11, 12, 13)) < share
    starts = list(range(0, 11, planes))
    stop = min(stop, len(starts) - 1)

    def measure(volume: StoppingVolume, folder: str | None, together: int = planes) -> pd.DataFrame:
        kept = None if folder is None else SlabArrays(SlabRecord(Path(folder) / "r.json", {}), "lacunae")
        return measure_lacuna_objects(volume, least_volume_um3=0, planes=together, kept=kept)

    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(KeyboardInterrupt):
            measure(StoppingVolume(array, stop), folder)
        resumed = StoppingVolume(array)
        found = measure(resumed, folder)
        assert resumed.reads == starts[stop:]
        again = measure(StoppingVolume(array, 0), folder)
    for other in (again, measure(StoppingVolume(array), None), measure(StoppingVolume(array), None, 11)):
        pd.testing.assert_frame_equal(found, other, check_exact=True)


def test_another_mask_is_refused(tmp_path: Path) -> None:
    def kept(digest: int) -> SlabArrays:
        return SlabArrays(SlabRecord(tmp_path / "r.json", {}), "lacunae", {"sha256": digest})

    array = np.random.default_rng(1).random((6, 7, 8)) < 0.2
    with pytest.raises(KeyboardInterrupt):
        measure_lacuna_objects(StoppingVolume(array, 2), planes=2, kept=kept(1))
    with pytest.raises(ResumeError, match=r"r\.json\.d: holds lacunae of another mask; delete it, or choose another"):
        measure_lacuna_objects(StoppingVolume(~array), planes=2, kept=kept(2))
    measure_lacuna_objects(StoppingVolume(array), planes=2, kept=kept(1))


@pytest.mark.parametrize("planes", [1, 4, 30])
def test_moments_are_scikit_images(planes: int) -> None:
    field = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(30, 32, 34)), 1.5)
    array = (field > np.quantile(field, 0.93)).astype(np.uint8)
    found = measure_lacuna_objects(ArrayVolume(array, (1.5,) * 3), least_volume_um3=0, planes=planes)
    labels = ndimage.label(array, structure=np.ones((3, 3, 3)))[0]
    regions = sorted(regionprops(labels), key=lambda region: tuple(region.centroid))
    assert len(found) == len(regions) > 20
    np.testing.assert_allclose(found["volume_um3"], [region.area * 1.5**3 for region in regions])
    np.testing.assert_allclose(
        found[["plane_um", "row_um", "column_um"]], [1.5 * np.array(region.centroid) for region in regions]
    )
    # theirs are of points, ours of boxes
    values = [[1.5 * np.sqrt(20 * (value + 1 / 12)) for value in _moments(region.coords)] for region in regions]
    np.testing.assert_allclose(found[["length_um", "width_um", "depth_um"]], values, rtol=1e-6)


def _moments(coordinates: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh(np.atleast_2d(np.cov(coordinates.T, bias=True)))[::-1]


@pytest.mark.parametrize("planes", [1, 6, 100])
def test_ellipsoid_of_a_lacuna(planes: int) -> None:
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    array = ellipsoid((9, 4.5, 3), turn, edge=0.5)
    row = measure_lacuna_objects(ArrayVolume(array.astype(np.uint8), (0.5,) * 3), planes=planes).iloc[0]
    assert row["volume_um3"] == pytest.approx(4 / 3 * np.pi * 9 * 4.5 * 3, rel=0.01)
    assert row[["length_um", "width_um", "depth_um"]].tolist() == pytest.approx([18, 9, 6], rel=0.02)
    assert row["elongation"] == pytest.approx(0.5, abs=0.01)
    assert row["flatness"] == pytest.approx(1 / 3, abs=0.01)
    along = row[["axis_plane", "axis_row", "axis_column"]].to_numpy(float)
    assert abs(along @ turn[:, 0]) == pytest.approx(1, abs=1e-3)
    assert along[np.flatnonzero(along)[0]] > 0
    # Thomsen's formula for the surface of an ellipsoid, good to 1.1 %
    p = 1.6075
    products = ((9 * 4.5) ** p + (9 * 3) ** p + (4.5 * 3) ** p) / 3
    assert row["surface_um2"] == pytest.approx(4 * np.pi * products ** (1 / p), rel=0.03)
    assert not row["touches_first"]
    assert not row["touches_last"]
    assert np.isnan(row["spacing_um"])


def test_ball_has_sphericity_one_whatever_the_voxels() -> None:
    points = np.moveaxis(np.indices((24, 44, 44)), 0, -1) * (2.0, 1.0, 1.0) - 21.7
    array = (points**2).sum(axis=-1) < 18**2
    row = measure_lacuna_objects(ArrayVolume(array.astype(np.uint8), (2.0, 1.0, 1.0))).iloc[0]
    assert row["sphericity"] == pytest.approx(1, abs=0.02)
    assert row["elongation"] == pytest.approx(0, abs=0.02)


def test_spacing_and_least_volume() -> None:
    array = np.zeros((20, 40, 30), np.uint8)
    for place in ((5, 5, 5), (5, 25, 5), (12, 5, 20)):
        array[tuple(slice(p, p + 3) for p in place)] = 1
    array[5, 9, 5] = 1  # noise near the first
    table = measure_lacuna_objects(ArrayVolume(array, SIZE))
    assert len(table) == 3
    places = table[["plane_um", "row_um", "column_um"]].to_numpy()
    np.testing.assert_allclose(places[0], [12, 6, 9])
    apart = cdist(places, places) + np.diag([np.inf] * 3)
    np.testing.assert_allclose(table["spacing_um"], apart.min(axis=1))


def test_borders_are_told() -> None:
    array = np.zeros((9, 12, 12), np.uint8)
    array[:3, 4:7, 4:7] = 1
    array[6:, 4:7, 9:] = 1
    array[4, 9:11, 1:3] = 1
    table = measure_lacuna_objects(ArrayVolume(array, SIZE), least_volume_um3=0, planes=2)
    assert table["touches_first"].tolist() == [True, False, False]
    assert table["touches_last"].tolist() == [False, False, True]


def test_empty_mask_and_unknown_voxel_size() -> None:
    empty = measure_lacuna_objects(ArrayVolume(np.zeros((5, 6, 7), np.uint8), SIZE), planes=2)
    assert empty.empty
    assert "sphericity" in empty
    with pytest.raises(InputError, match="does not state its voxel size"):
        measure_lacuna_objects(ArrayVolume(np.zeros((5, 6, 7), np.uint8), None))
