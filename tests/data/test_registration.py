from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from bonemonai.data import open_volume
from bonemonai.data.registration import Registration, image_of, register_rigid
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume

EDGE_UM = 19.5


@pytest.fixture(scope="module")
def bone(lhdl: Path) -> NDArray[np.float32]:
    """Real trabecular bone, 108 voxels along each axis."""
    return open_volume(lhdl).read(40, 148)[:, 40:148, 40:148].astype(np.float32)


def move(
    bone: NDArray[np.float32], angles_deg: tuple[float, ...], shift: tuple[float, ...], edge_um: tuple[float, ...]
) -> tuple[SimpleITK.Euler3DTransform, NDArray[np.float32]]:
    """A rigid transform in millimetres, and what a scan shows after it: points of the bone lie where it takes them."""
    mm = [edge / 1000 for edge in reversed(edge_um)]
    transform = SimpleITK.Euler3DTransform()
    transform.SetCenter([(n - 1) / 2 * step for n, step in zip(reversed(bone.shape), mm, strict=True)])
    transform.SetRotation(*np.deg2rad(angles_deg).tolist())
    transform.SetTranslation([voxels * step for voxels, step in zip(shift, mm, strict=True)])
    image = image_of(bone, edge_um)
    moved = SimpleITK.Resample(
        image, image, transform.GetInverse(), SimpleITK.sitkBSpline, 0.0, image.GetPixelID(), True
    )
    return transform, SimpleITK.GetArrayFromImage(moved)


def worst_corner(
    found: Registration, truth: SimpleITK.Transform, size: tuple[int, ...], start: int, edge_um: tuple[float, ...]
) -> float:
    """Distance at the corners of a box, in voxels; the scans were cut off the bone at ``start``."""
    edge = np.asarray(edge_um)[::-1] / 1000
    distances = []
    for corner in itertools.product(*[(0, n - 1) for n in reversed(size)]):
        expected = np.asarray(truth.TransformPoint(((np.asarray(corner) + start) * edge).tolist())) - start * edge
        there = np.asarray(found.transform.TransformPoint((np.asarray(corner) * edge).tolist()))
        distances.append(float(np.linalg.norm((there - expected) / edge)))
    return max(distances)


def cut(values: NDArray[Any], start: int = 14, edge_um: tuple[float, ...] = (EDGE_UM,) * 3) -> ArrayVolume:
    inner = tuple(slice(start, n - start) for n in values.shape)
    return ArrayVolume(np.ascontiguousarray(values[inner]), edge_um)


@pytest.mark.parametrize(
    ("size", "angles", "shift"),
    [(128, (1.0, -2.0, 1.5), (2.3, -1.7, 3.1)), (40, (-1.2, 0.8, 2.0), (-3.4, 2.6, 1.9))],
    ids=["whole", "coarse, then the middle"],
)
def test_known_motion_of_real_bone_is_found(
    bone: NDArray[np.float32], size: int, angles: tuple[float, ...], shift: tuple[float, ...]
) -> None:
    edges = (EDGE_UM,) * 3
    truth, moved = move(bone, angles, shift, edges)
    # other brightness and contrast, another shape, another type
    moving = cut(np.clip(moved * 150 - 4000, -32768, 32767)).values[:, :, :-3].astype(np.int16)
    fixed = cut(bone)
    found = register_rigid(fixed, ArrayVolume(moving, edges), size=size)
    assert worst_corner(found, truth, fixed.shape, 14, edges) < 0.1
    assert found.correlation > 0.99 > found.correlation_before
    described = found.describe()
    assert described["rotation_deg"] == pytest.approx(list(angles), abs=0.05)
    centre = np.asarray(found.transform.GetCenter())
    moves = (np.asarray(found.transform.TransformPoint(centre.tolist())) - centre) * 1000
    assert described["shift_um"] == pytest.approx(moves.tolist(), abs=1e-3)


def test_voxels_that_are_no_cubes(bone: NDArray[np.float32]) -> None:
    edges = (2 * EDGE_UM, EDGE_UM, EDGE_UM)
    thinned = bone.reshape(54, 2, 108, 108).mean(axis=1)[:, 20:-20, 20:-20]
    truth, moved = move(thinned, (1.5, -1.0, 2.0), (1.2, -1.6, 0.8), edges)
    fixed, moving = cut(thinned, 8, edges), cut(moved, 8, edges)
    assert worst_corner(register_rigid(fixed, moving), truth, fixed.shape, 8, edges) < 0.1


def test_same_seed_same_bits(bone: NDArray[np.float32]) -> None:
    _, moved = move(bone[:60, :60, :60], (1.0, 0.5, -0.7), (0.6, -0.4, 0.8), (EDGE_UM,) * 3)
    fixed, moving = cut(bone[:60, :60, :60]), cut(moved)
    # 0 as well, which SimpleITK takes for "the time of day"
    runs = [register_rigid(fixed, moving, size=24, iterations=8, seed=seed) for seed in (0, 0, 5)]
    first, again, other = (run.transform.GetParameters() for run in runs)
    assert first == again
    assert (runs[0].correlation, runs[0].describe()) == (runs[1].correlation, runs[1].describe())
    assert other != first
    assert other == pytest.approx(first, abs=0.01)
    with pytest.raises(InputError, match="seed: must be >= 0, got -1"):
        register_rigid(fixed, moving, seed=-1)


def test_a_scan_that_lies_right_stays(bone: NDArray[np.float32]) -> None:
    fixed = cut(bone, 34)
    found = register_rigid(fixed, fixed, iterations=20)
    assert worst_corner(found, SimpleITK.Transform(3, SimpleITK.sitkIdentity), fixed.shape, 0, (EDGE_UM,) * 3) < 0.01
    assert found.describe()["correlation_before"] == 1.0


def refusal(fixed: ArrayVolume, moving: ArrayVolume) -> str:
    moving.path = Path("moving")
    with pytest.raises(InputError) as refused:
        register_rigid(fixed, moving, iterations=20)
    return str(refused.value)


NOISE = np.random.default_rng(0).normal(100, 10, (2, 20, 22, 24)).astype(np.float32)


def test_voxel_sizes_must_be_known_and_alike() -> None:
    known, unknown, other = (ArrayVolume(NOISE[0], edge) for edge in ((5, 5, 5), None, (5, 5, 5.01)))
    assert "moving: states no voxel size" in refusal(known, unknown)
    assert "states no voxel size" in refusal(unknown, known)
    assert "moving: has voxels of (5.0, 5.0, 5.01) um, the scan to register it to of (5.0, 5.0, 5.0)" in refusal(
        known, other
    )


def test_what_shows_not_the_same_is_refused() -> None:
    fixed, moving = (ArrayVolume(values) for values in NOISE)
    assert "moving: cannot be registered: grey values correlate by" in refusal(fixed, moving)
    # brightness and contrast may differ, black may not be white
    assert "correlate by -1.000 after" in refusal(fixed, ArrayVolume(200 - NOISE[0]))


def test_what_shows_nothing_is_refused() -> None:
    fixed = ArrayVolume(NOISE[0])
    assert "correlate by nan" in refusal(fixed, ArrayVolume(np.full_like(NOISE[0], 7)))
    assert "correlate by nan" in refusal(ArrayVolume(np.full_like(NOISE[0], 7)), fixed)
    assert "four pixels along the dimension" in refusal(fixed, ArrayVolume(NOISE[1, :3]))


def test_hardly_any_overlap_is_no_number_in_json() -> None:
    found = Registration(SimpleITK.Euler3DTransform(), 0.9, float("nan"))
    assert found.describe()["correlation_before"] is None
