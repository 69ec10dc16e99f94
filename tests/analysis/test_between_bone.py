from __future__ import annotations

import numpy as np
import pytest

from bonemonai.analysis.between_bone import BetweenBone
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume, in_blocks


def test_space_is_what_is_not_bone_within_the_tissue() -> None:
    random = np.random.default_rng(0)
    bone, tissue = ((random.random((5, 6, 7)) < 0.5) * np.uint8(255) for _ in range(2))
    np.testing.assert_array_equal(in_blocks(BetweenBone(ArrayVolume(bone)), 2), bone == 0)
    within = BetweenBone(ArrayVolume(bone), ArrayVolume(tissue))
    np.testing.assert_array_equal(in_blocks(within, 2), (bone == 0) & (tissue > 0))


def test_other_grid_is_refused() -> None:
    with pytest.raises(InputError, match="has shape"):
        BetweenBone(ArrayVolume(np.zeros((2, 3, 4), np.uint8)), ArrayVolume(np.zeros((2, 3, 5), np.uint8)))
