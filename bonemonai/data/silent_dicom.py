"""Reading DICOM without repeating on the terminal or in a log what headers say."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# pydicom quotes values that are not as the standard wants them, highdicom UIDs of the source
_TALKATIVE = ("pydicom", "highdicom")


@contextmanager
def silent_dicom() -> Iterator[None]:
    """Keep the libraries that read and write DICOM from warning and logging; what is wrong is judged by the caller.

    Their messages quote headers, where names, numbers and dates of patients stand, and logs are kept and handed on.

    Example:
        >>> with silent_dicom():
        ...     logging.getLogger("pydicom").warning("Invalid value for VR DA: 'a date'")
    """
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
