"""One file that says what a run was: what it was given, what it ran with, and how it ended."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bonemonai
from bonemonai.data.fingerprint import fingerprint
from bonemonai.data.json_file import read_json, write_json
from bonemonai.engines.provenance import PACKAGES, names_a_path, without_paths
from bonemonai.errors import BonemonaiError, OutputError
from bonemonai.sharing.bundle_checks import installed_version
from bonemonai.sharing.bundle_files import RUN_RECORD

_OUTPUTS = ("output_dir", "learning_curve", "bundle_root", "tensorboard")  # named like files, and no inputs
_PLAIN = (bool, int, float, str, type(None))


class RunRecord:
    """Describe a run of a bundle as JSON, first when it has begun, last when it has ended.

    Names of files and folders, which may be those of patients, are left out; digests stand for them.

    Args:
        bundle: name and version, from the metadata.
        workflow: name of its config.
        overlays: names of its overlays, or "a file of the user's".
        config: overlays and options merged, as it was given to MONAI, but for paths.
        options: that the user set.
        older: packages that are older here than those the bundle was made with.
    """

    def __init__(
        self,
        bundle: Mapping[str, str],
        workflow: str,
        overlays: Sequence[str],
        config: Mapping[str, Any],
        options: Mapping[str, Any],
        older: Sequence[str] = (),
    ) -> None:
        self.path: Path | None = None
        self._begun = time.monotonic()
        self._about: dict[str, Any] = {
            "bundle": dict(bundle),
            "workflow": workflow,
            "overlays": list(overlays),
            "options": without_paths(options),
            "config": dict(config),
            "versions": {
                "bonemonai": bonemonai.__version__,
                "python": platform.python_version(),
                **{name: installed_version(name) for name in PACKAGES},
            },
            "older_than_the_bundles": list(older),
        }

    def begin(self, values: Mapping[str, Any], path: Path | None) -> None:
        """Write down with what the run begins.

        Args:
            values: ids of the config and what they have become, as far as that is known.
            path: of the record; None takes ``<workflow>.run.json`` in the folder of results, or beside the weights.

        Raises:
            OutputError: if it cannot be written.
        """
        self.path = path or _place(values, self._about["workflow"])
        self._about |= {"seed": values.get("seed"), "values": _plain(values), "inputs": _inputs(values)}
        self._write({"outcome": "running"})

    def end(self, error: BaseException | None, values: Mapping[str, Any]) -> None:
        """Write down how the run ended.

        Args:
            error: that ended it, or None.
            values: see :meth:`begin`; by now more is known.

        Raises:
            OutputError: if it cannot be written.
        """
        weights = values.get("checkpoint")
        here = isinstance(weights, str) and Path(weights).is_file()
        self._about |= {"values": _plain(values)} if values else {}
        self._write(
            {
                **_outcome(error),
                "seconds": round(time.monotonic() - self._begun, 1),
                "weights": fingerprint(str(weights)) if here else None,
            }
        )

    def _write(self, ending: Mapping[str, Any]) -> None:
        # of several processes the first writes
        if self.path is not None and os.environ.get("RANK", "0") == "0":
            write_json(self.path, {**self._about, **ending})


def refuse_other_file(path: Path) -> None:
    """Refuse to write a record where something else stands.

    Args:
        path: of the record.

    Raises:
        OutputError: if there is a file, and it is no record of a run.
    """
    try:
        known = read_json(path)
    except BonemonaiError:
        known = {}
    if path.exists() and not (isinstance(known, dict) and "outcome" in known):
        raise OutputError(path, "exists already, and is no record of a run; choose another --record.")


def _place(values: Mapping[str, Any], workflow: str) -> Path | None:
    folder, weights = values.get("output_dir"), values.get("checkpoint")
    if isinstance(folder, str):
        return Path(folder) / f"{workflow}{RUN_RECORD}"
    return Path(weights).with_suffix(f".{workflow}{RUN_RECORD}") if isinstance(weights, str) else None


def _outcome(error: BaseException | None) -> dict[str, Any]:
    if error is None:
        return {"outcome": "done", "exit_code": 0}
    if isinstance(error, BonemonaiError):
        # not its words, which may be about a patient or a path
        return {"outcome": "refused", "exit_code": error.exit_code, "kind": type(error).__name__}
    if isinstance(error, SystemExit | KeyboardInterrupt):
        code = error.code if isinstance(error, SystemExit) else 130
        return {"outcome": "stopped", "exit_code": code}
    return {"outcome": "failed", "exit_code": 1, "kind": type(error).__name__}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are numbers, texts, or lists and dictionaries of them."""
    return {name: without_paths({name: value})[name] for name, value in values.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(inner) for inner in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    return isinstance(value, _PLAIN)


def _inputs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Files and folders that are there when the run begins."""
    paths = {
        name: value
        for name, value in values.items()
        if isinstance(value, str) and name not in _OUTPUTS and names_a_path(name) and Path(value).exists()
    }
    return {name: fingerprint(path) for name, path in sorted(paths.items())}
