"""A switch for glibc's allocator, which on CPUs can cost a network more time than its arithmetic."""

from __future__ import annotations

import ctypes
import logging
import sys
from contextlib import suppress

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_tuned = False


def tune_allocator() -> bool:
    """Have glibc keep freed memory instead of giving it back to the system; for this process, for good.

    By default glibc maps every activation above 32 MB afresh and unmaps it when it is freed; the system then fills it
    with zeros page by page. Without that a forward pass takes half to two thirds of the time, and the process's peak
    memory grows by about a third, because what is freed is not given back.

    Nothing in this package calls it on import: the command line, a config or a script does, if its user says so.

    Returns:
        Whether it worked; elsewhere than on glibc it does nothing.
    """
    global _tuned
    if sys.platform != "linux":
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - only glibc has it
        largest = 2**31 - 1
        _tuned = bool(libc.mallopt(_M_MMAP_THRESHOLD, largest)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, largest))
    except (OSError, AttributeError):
        return False
    logger.info("glibc's allocator %s.", "keeps freed memory" if _tuned else "could not be tuned")
    return _tuned


def allocator_is_tuned() -> bool:
    """Whether :func:`tune_allocator` is in force."""
    return _tuned


def give_memory_back() -> None:
    """Return freed memory to the system now, on glibc and unless the allocator is tuned to keep it."""
    if sys.platform == "linux" and not _tuned:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
