"""Where the bundle of the running workflow lies, whatever the working directory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from monai.bundle import ConfigWorkflow
from monai.utils import ensure_tuple

from bonemonai.errors import InputError


def find_bundle_root() -> str:
    """Return the absolute folder of the bundle whose config is being evaluated.

    MONAI offers no id for it, and its templates write ``"."``, which holds only in the bundle's own folder. The
    workflow that evaluates this expression stands further up the call stack and knows its config's folder;
    MONAI's export and verify commands hold their config files there as well. ``--bundle_root PATH`` replaces the
    expression in the config and so needs no support here.

    Name the id in ``initialize``, so that it is resolved while the workflow stands on the stack; whoever asks the
    workflow's parser for it later is given the resolved value.

    Raises:
        InputError: if no workflow is running.
    """
    for frame in _frames():
        workflow = frame.f_locals.get("self")
        if isinstance(workflow, ConfigWorkflow):
            return _root(Path(workflow.config_root_path))
    for frame in _frames():
        if frame.f_globals.get("__name__") == "monai.bundle.scripts":
            files = frame.f_locals.get("config_file_", frame.f_locals.get("config_file"))
            if files:
                return _root(Path(ensure_tuple(files)[0]).parent)
    raise InputError("bundle_root", "no bundle workflow is running; say --bundle_root PATH.")


def _root(config_folder: Path) -> str:
    folder = config_folder.resolve()
    return str(folder.parent if folder.name == "configs" else folder)


def _frames() -> Iterator[FrameType]:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        yield frame
