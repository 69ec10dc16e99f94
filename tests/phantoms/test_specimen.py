from __future__ import annotations

import numpy as np

from bonemonai.phantoms.specimen import Draw, Specimen, random_numbers

SPECIMEN = Specimen((16, 20, 24), 7, 6.5, 0.97, 0.0, 4, 3)


def test_draws_are_apart_and_depend_on_seed_and_key_alone() -> None:
    def first(seed: int, *key: int) -> int:
        return int(random_numbers(seed, *key).integers(2**62))

    keys = [(draw, *more) for draw in Draw for more in ((), (1,), (2,))]
    found = {(seed, key): first(seed, *key) for seed in (0, 1) for key in keys}
    assert len(set(found.values())) == 2 * 3 * len(Draw)
    assert all(first(seed, *key) == value for (seed, key), value in found.items())
    assert SPECIMEN.rng(Draw.NOISE, 3).integers(2**62) == first(7, Draw.NOISE, 3)
    # numbers of phantoms that were written before must stay what they were
    assert int(Draw.RINGS) == 9
    assert random_numbers(0, Draw.NOISE, 1).integers(1000) == np.random.default_rng([0, 7, 1]).integers(1000)


def test_grid_is_where_the_voxels_were_at_first() -> None:
    assert SPECIMEN.extent_um.tolist() == [104, 130, 156]
    corner = np.array([[15.0, 19, 23]])
    np.testing.assert_allclose(SPECIMEN.grid().indices(corner * 6.5), corner)
    shifted = np.eye(4)
    shifted[:3, 3] = 1, 2, 3
    z, y, x = SPECIMEN.grid(shifted).points((slice(5, 6), slice(0, 1), slice(2, 3)))
    assert [float(axis.item()) for axis in (z, y, x)] == [6 * 6.5, 2 * 6.5, 5 * 6.5]
