from __future__ import annotations

import numpy as np
import torch
from monai.transforms import Compose, RandFlipd, RandGaussianNoised

from bonemonai.data.held_objects import held_generators, held_objects


class Holder:
    def __init__(self, *held: object) -> None:
        self.held = list(held)


def test_generators_are_found_once_and_in_order() -> None:
    first, second, third = torch.Generator(), np.random.RandomState(0), np.random.default_rng(0)
    held = Holder(first, {"deep": (second, Holder(third, first))})
    assert held_generators(held, second) == [first, second, third]


def test_a_ring_ends() -> None:
    one, other = Holder(), Holder()
    one.held, other.held = [other], [one]
    assert [each for each in held_objects(one) if isinstance(each, Holder)] == [one, other]


def test_random_transforms_hold_one_each() -> None:
    transform = Compose([RandFlipd("x"), RandGaussianNoised("x")])
    assert len(held_generators(transform)) == len({id(each) for each in held_generators(transform)}) >= 3


def test_data_is_not_looked_into() -> None:
    generator = np.random.RandomState(0)
    assert held_generators(Holder(*[generator] * 65), torch.nn.Linear(1, 1), np.zeros(3)) == []
    assert held_generators(Holder(*[generator] * 64)) == [generator]
