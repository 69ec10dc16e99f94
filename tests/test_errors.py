from __future__ import annotations

import pickle

import pytest
import torch

from bonemonai.errors import BonemonaiError, InputError, OutputError, find_bonemonai_error


def test_a_refusal_is_one_line() -> None:
    error = InputError("scan.tif", "cannot be read:\n  first\n\tsecond")
    assert str(error) == "scan.tif: cannot be read: first second"


def test_exit_codes() -> None:
    assert [kind.exit_code for kind in (InputError, OutputError, BonemonaiError)] == [2, 4, 1]


def test_survives_pickling_as_from_a_worker() -> None:
    copy = pickle.loads(pickle.dumps(OutputError("a", "b")))
    assert (type(copy), str(copy)) == (OutputError, "a: b")


def test_is_found_behind_other_errors() -> None:
    refusal = InputError("a", "b")
    outer = RuntimeError("outer")
    outer.__cause__ = middle = ValueError("middle")
    middle.__context__ = refusal
    assert find_bonemonai_error(outer) is refusal
    assert find_bonemonai_error(ValueError()) is None
    circle = ValueError()
    circle.__context__ = circle
    assert find_bonemonai_error(circle) is None


class Refusing(torch.utils.data.Dataset[None]):
    def __init__(self, wrapped: bool) -> None:
        self.wrapped = wrapped

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> None:
        refusal = OutputError("a: b.tif", "holds 3: not\n one.")
        if self.wrapped:
            raise RuntimeError("applying a transform") from refusal
        raise refusal


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_refusal_in_a_data_loaders_worker_is_found(wrapped: bool) -> None:
    with pytest.raises(RuntimeError) as caught:
        next(iter(torch.utils.data.DataLoader(Refusing(wrapped), num_workers=1)))
    found = find_bonemonai_error(caught.value)
    assert isinstance(found, OutputError)
    assert str(found) == "a: b.tif: holds 3: not one."


def test_what_only_looks_like_one_is_none() -> None:
    assert find_bonemonai_error(ValueError("bonemonai.errors.InputError: a: b")) is None
    assert find_bonemonai_error(RuntimeError("bonemonai.errors: a: b")) is None
