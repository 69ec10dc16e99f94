"""The command line, called in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from bonemonai.__main__ import main


def call(*arguments: str | Path) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)
