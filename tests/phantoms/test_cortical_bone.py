from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bonemonai.phantoms import CompressionPhantom
from bonemonai.phantoms.cortical_bone import POROSITY_RANGE, CorticalBone
from bonemonai.phantoms.specimen import Specimen


@pytest.mark.parametrize(("seed", "size"), [(0, 64), (1, 64), (2, 64), (3, 64), (4, 64), (0, 128)])
def test_porosity_of_cortical_bone_is_the_papers(seed: int, size: int) -> None:
    sample = CompressionPhantom("cortical", (size,) * 3, seed)
    porosity = 1 - sample.state(1).bone.mean()
    assert porosity == pytest.approx(1 - sample.bone_volume_fraction, abs=1e-4)
    assert POROSITY_RANGE[0] - 1e-4 <= porosity <= POROSITY_RANGE[1] + 1e-4


def test_porosity_comes_from_canals_along_the_load() -> None:
    pores = CompressionPhantom("cortical", (96, 96, 96), 3).state(1).bone == 0
    labels, count = ndimage.label(pores)
    heights = [box[0].stop - box[0].start for box in ndimage.find_objects(labels)]
    assert max(heights) == 96
    # pores continue along z further than across it
    along, across = (np.mean(pores & np.roll(pores, 12, axis)) / pores.mean() for axis in (0, 1))
    assert along > 0.5 > 0.25 > across
    assert count >= 2


def test_the_cortical_crack_is_one_longitudinal_surface_that_pierces_the_volume() -> None:
    crack = CompressionPhantom("cortical", (64, 64, 64), 2).state(4).crack
    labels, _ = ndimage.label(crack, np.ones((3, 3, 3)))
    assert np.bincount(labels.ravel())[1:].max() > 0.95 * crack.sum()
    assert crack.any(axis=(1, 2)).all()  # in every plane along the load
    points = np.argwhere(crack)
    variances, axes = np.linalg.eigh(np.cov(points.T))
    assert variances[0] < 0.1 * variances[1]
    assert abs(axes[0, 0]) < np.sin(np.radians(12))  # its normal is across the load


def test_a_straight_canal_is_a_cylinder_of_its_radius() -> None:
    bone = CorticalBone(Specimen((16, 40, 40), 3, 6.5, 0.97, 0.0, 4, 3))
    canal = bone._canals[0][0]._replace(origin=np.array([130.0, 130.0]), slope=np.zeros(2), amplitude=np.zeros(2))
    boxes = list(bone._near_canal(canal, bone.specimen.grid()))
    assert [box[0] for box, _ in boxes] == [slice(0, 16)]
    for box, distance in boxes:
        _, y, x = np.mgrid[box]
        np.testing.assert_allclose(distance, np.hypot(6.5 * y - 130, 6.5 * x - 130), atol=1e-3)


def test_a_crack_is_as_wide_as_it_is_asked_to_be_along_its_normal() -> None:
    bone = CorticalBone(Specimen((32, 64, 64), 1, 6.5, 0.97, 0.0, 4, 3))
    asked: list[int] = []

    def opening(onset: int) -> float:
        asked.append(onset)
        return 3.0

    crack = bone.crack(bone.specimen.grid(), opening)
    assert asked == [3]
    assert crack.min() == 0
    assert crack.max() == pytest.approx(1)
    # open volume over the surface's area, which is that of the volume's section or more
    area = max(64 * 32, np.count_nonzero(crack.any(axis=1)), np.count_nonzero(crack.any(axis=2)))
    assert 0.8 * 3 < crack.sum() / area < 1.5 * 3
