from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonemonai.data import PreparedVolume, SelectedPlanes, open_volume
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError


@pytest.fixture(scope="module")
def scan(study: Path) -> Volume:
    return open_volume(study / "H01" / "image")


@settings(max_examples=30, deadline=None)
@given(planes=st.sets(st.integers(0, 5), min_size=1), start=st.integers(0, 5))
def test_reads_what_the_scan_holds_there(scan: Volume, planes: set[int], start: int) -> None:
    view = SelectedPlanes(scan, sorted(planes))
    np.testing.assert_array_equal(view.read(), scan.read()[sorted(planes)])
    start %= len(planes)
    np.testing.assert_array_equal(view.read(start), scan.read()[sorted(planes)][start:])


def test_planes_that_are_evenly_spaced_keep_their_places(scan: Volume) -> None:
    view = SelectedPlanes(scan, [1, 3, 5])
    assert scan.affine_lps is not None
    assert view.affine_lps is not None
    for index, plane in enumerate((1, 3, 5)):
        at = np.array([index, 2, 3, 1]), np.array([plane, 2, 3, 1])
        np.testing.assert_allclose(view.affine_lps @ at[0], scan.affine_lps @ at[1])
    assert view.voxel_size_um == (3.2, 1.6, 1.6)
    assert not view.warnings
    assert "not evenly spaced" in SelectedPlanes(scan, [0, 1, 5]).warnings[-1]


def test_grey_values_are_those_of_the_whole_scan(scan: Volume) -> None:
    items = []
    prepared = PreparedVolume(SelectedPlanes(scan, [4]), lambda item: items.append(item) or item)
    prepared.planes(0, 1)
    assert items[0]["histogram"].total == scan.read().size
    assert items[0]["plane"] == 4


def test_can_be_pickled(scan: Volume) -> None:
    view = pickle.loads(pickle.dumps(SelectedPlanes(scan, [0, 2])))
    assert (view.plane_numbers, view.shape[0], view.source) == ((0, 2), 2, scan.source)


@pytest.mark.parametrize("planes", [[], [2, 2], [3, 1], [-1], [6]])
def test_what_is_no_choice_is_refused(scan: Volume, planes: list[int]) -> None:
    with pytest.raises(InputError, match=r"planes must be numbers that increase|has no plane"):
        SelectedPlanes(scan, planes)
