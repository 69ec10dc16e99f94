from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.derived_volume import DerivedVolume
from tests.array_volume import ArrayVolume


class Doubled(DerivedVolume):
    def _read(self, start: int, stop: int) -> NDArray[Any]:
        return self.base.read(start, stop).astype(self.dtype) * 2


def test_what_is_not_said_is_the_bases() -> None:
    base = ArrayVolume(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    base.units, base.part, base.costly_planes, base.oriented, base.warnings = "HU", "1.2", True, True, ["old"]
    view = Doubled(base, dtype=np.float32, warnings=["new"])
    assert (view.shape, view.dtype, view.voxel_size_um) == ((2, 3, 4), np.float32, (2.0, 1.5, 1.25))
    assert (view.units, view.part, view.costly_planes, view.oriented) == ("HU", "1.2", True, True)
    assert (view.format, view.path, view.source) == ("array", base.path, "array::1.2")
    assert view.warnings == ["old", "new"]
    view.warnings.append("newer")
    assert base.warnings == ["old"]


def test_views_stack_and_survive_pickling() -> None:
    base = ArrayVolume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), None)
    view = pickle.loads(pickle.dumps(Doubled(Doubled(base))))
    assert view.affine_lps is None
    np.testing.assert_array_equal(view.read(1), base.values[1:] * 4)
