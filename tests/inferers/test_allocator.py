from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from bonemonai.inferers import allocator

# how much of 128 MB stays with the process after they are freed
LEFT = """
import ctypes, sys
from bonemonai.inferers.allocator import allocator_is_tuned, tune_allocator
def resident():
    return int(next(line for line in open("/proc/self/status") if "VmRSS" in line).split()[1]) / 1024
tuned = tune_allocator() if sys.argv[1] == "tuned" else False
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before = resident()
place = libc.malloc(128 << 20)
ctypes.memset(place, 1, 128 << 20)
held = resident() - before
libc.free(place)
print(tuned is True, allocator_is_tuned() is True, held > 100, resident() - before > 100)
"""

IMPORTED = """
import importlib
import bonemonai.inferers as package
for name in package.__all__:
    getattr(package, name)
print(package.allocator_is_tuned())
"""


def run(code: str, *arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.split()


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is not here")


@needs_glibc
def test_freed_memory_is_kept_once_tuned() -> None:
    assert run(LEFT, "tuned") == ["True", "True", "True", "True"]


@needs_glibc
def test_freed_memory_is_given_back_otherwise() -> None:
    assert run(LEFT, "as it is") == ["False", "False", "True", "False"]


def test_importing_the_package_does_not_switch_it() -> None:
    assert run(IMPORTED) == ["False"]


def test_elsewhere_it_does_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_tuned", False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("no library is to be opened"))
    monkeypatch.setattr(sys, "platform", "win32")
    assert allocator.tune_allocator() is False
    assert allocator.allocator_is_tuned() is False


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_a_libc_that_is_not_glibc_is_left_alone(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    class Musl:
        def __init__(self, name: str | None) -> None:
            if error is OSError:
                raise OSError("cannot be opened")

    monkeypatch.setattr(allocator, "_tuned", False)
    monkeypatch.setattr(ctypes, "CDLL", Musl)
    monkeypatch.setattr(sys, "platform", "linux")
    assert allocator.tune_allocator() is False
    assert allocator.allocator_is_tuned() is False


@pytest.mark.parametrize(("answers", "worked"), [((1, 1), True), ((1, 0), False), ((0, 1), False)])
def test_it_is_tuned_if_glibc_takes_both_thresholds(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[int, int], worked: bool
) -> None:
    left = list(answers)

    class Glibc:
        gnu_get_libc_version = None

        def __init__(self, name: str | None) -> None: ...

        def mallopt(self, parameter: int, value: int) -> int:
            assert parameter in (-1, -3)
            assert 0 < value < 2**31
            return left.pop(0)

    monkeypatch.setattr(allocator, "_tuned", False)
    monkeypatch.setattr(ctypes, "CDLL", Glibc)
    monkeypatch.setattr(sys, "platform", "linux")
    assert allocator.tune_allocator() is worked
    assert allocator.allocator_is_tuned() is worked
