from __future__ import annotations

import pickle

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
