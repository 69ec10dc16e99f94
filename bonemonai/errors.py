"""The errors a user meets: one line, the file and the cause, and an exit code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


class BonemonaiError(Exception):
    """A refusal that names what was refused and why.

    The command line prints it as one line, ``bonemonai: error: <subject>: <cause>``, and exits with
    :attr:`exit_code`.

    Args:
        subject: the file, option or value that is at fault.
        cause: what is wrong with it and, where one is known, the cure.

    Example:
        >>> str(InputError("scan.tif", "holds no pages"))
        'scan.tif: holds no pages'
    """

    exit_code = 1

    def __init__(self, subject: str | Path, cause: str) -> None:
        super().__init__(subject, cause)
        self.subject = str(subject)
        self.cause = cause

    def __str__(self) -> str:
        # A cause taken from another library may run over several lines; a refusal is one.
        return " ".join(f"{self.subject}: {self.cause}".split())


class InputError(BonemonaiError):
    """What was given cannot be used as it is."""

    exit_code = 2


class SeveralVolumesError(InputError):
    """What was given holds several volumes, and none is chosen.

    Args:
        subject: file or folder.
        how: to choose one.
        choices: one line each.
    """

    def __init__(self, subject: str | Path, how: str, choices: Sequence[str]) -> None:
        super().__init__(subject, f"holds {len(choices)} volumes; {how}: {'; '.join(choices)}.")
        self.choices = list(choices)


class ResumeError(BonemonaiError):
    """An unfinished result cannot be continued, because something it depends on has changed since."""

    exit_code = 3


class NumericalError(BonemonaiError):
    """A computation gave NaN or infinite values."""

    exit_code = 5


class BatchError(BonemonaiError):
    """Some scans of a batch failed; the others are done.

    Args:
        subject: which.
        cause: why.
        exit_code: of the first failure.
    """

    def __init__(self, subject: str | Path, cause: str, exit_code: int = 1) -> None:
        super().__init__(subject, cause)
        self.exit_code = exit_code


class OutputError(BonemonaiError):
    """A result cannot be written: disk full, no permission, or the place is taken."""

    exit_code = 4


def find_bonemonai_error(error: BaseException | None) -> BonemonaiError | None:
    """Return the refusal behind an exception, following its causes.

    MONAI wraps what a config raises in a ``RuntimeError``, so the refusal is often not the outermost one.

    Args:
        error: the exception that was caught, or None.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BonemonaiError):
            return error
        if refusal := _of_worker(error):
            return refusal
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _of_worker(error: BaseException) -> BonemonaiError | None:
    """A refusal that ended a worker of a data loader: PyTorch raises its traceback's text in this process."""
    told = re.search(rf"\b{__name__}\.(\w+): (.+?): (.+)$", str(error), re.MULTILINE)
    if not isinstance(error, RuntimeError) or told is None:
        return None
    kinds = {kind.__name__: kind for kind in (InputError, OutputError, ResumeError, NumericalError)}
    return kinds.get(told[1], InputError)(told[2], told[3])


def as_refusal(error: Exception, subject: str | Path) -> BonemonaiError:
    """Return the refusal behind an error, or one made of it: what a network or a transform raises is about the scan.

    Args:
        error: the exception that was caught.
        subject: the scan, for errors that are no refusals.
    """
    refusal = find_bonemonai_error(error)
    if refusal is None:
        refusal = InputError(subject, f"cannot be inferred: {type(error).__name__}: {error}")
        refusal.__cause__ = error
    return refusal
