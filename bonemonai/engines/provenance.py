"""How a result came about: versions, configs, options, inputs, weights."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bonemonai
from bonemonai.data.fingerprint import fingerprint
from bonemonai.data.volume import split_part
from bonemonai.engines.run_check import passed_to_create_workflow
from bonemonai.engines.weights import sha256, weights_card

PACKAGES = ("monai", "torch", "pytorch-ignite", "numpy", "scikit-image", "scikit-learn", "zarr", "tifffile")
# ends of the names of options that are files or folders, whose names may be those of patients
_PATH_NAMES = (
    "path", "paths", "dir", "file", "files", "folder", "root", "checkpoint", "weights", "pretrained", "segmentation",
    "manifest", "image", "output", "results", "readers", "curve", "curves", "sweep", "gradcam",
    "tensorboard",
)  # fmt: skip
# name of the record of the run, where bonemonai run writes one beside the results
run_record: ContextVar[str | None] = ContextVar("run_record", default=None)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def provenance(
    inputs: Mapping[str, str | Path], *, weights: str | Path | None = None, seed: int | None = None
) -> dict[str, Any]:
    """Describe the running workflow; evaluate it in ``initialize``, where MONAI still knows what was passed.

    A result says which scan it belongs to by the scan's digest; names of files and folders, which may be those of
    patients, are left out: any text of an option that by its name is a path, and of others what looks like one.

    Args:
        inputs: option name to file or folder.
        weights: the file of weights that is used.
        seed: of the run.

    Returns:
        JSON values.
    """
    files, options = passed_to_create_workflow()
    return {
        "bonemonai": bonemonai.__version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "configs": config_digests(files),
        "options": without_paths(options),
        "seed": seed,
        "inputs": {name: fingerprint(path) for name, path in inputs.items()},
        "weights": None if weights is None else weights_card(weights),
        **({"run_record": run_record.get()} if run_record.get() else {}),
    }


def config_digests(files: Iterable[str | Path]) -> dict[str, str]:
    """Digests of config files, by name where they are a bundle's; others are numbered, for a user's may name somebody.

    Args:
        files: in the order in which they are merged.
    """
    paths = [Path(file) for file in files]
    names = [path.name if (path.parent / "metadata.json").is_file() else "" for path in paths]
    return {
        name or f"config {number}": sha256(path)
        for number, (name, path) in enumerate(zip(names, paths, strict=True), 1)
    }


def without_paths(value: Any, is_path: bool = False) -> Any:
    """A value without names of files.

    Args:
        value: JSON values, or paths.
        is_path: whether it is one by the name of its option.
    """
    if isinstance(value, Mapping):
        return {name: without_paths(inner, is_path or names_a_path(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(inner, is_path) for inner in value]
    if isinstance(value, os.PathLike):
        return "<path>"
    if not isinstance(value, str):
        return value
    return "<path>" if is_path or _looks_like_a_path(value) else value


def _looks_like_a_path(value: str) -> bool:
    if value.startswith(("$", "@")):  # outside of quotes / divides
        return any("/" in text or "\\" in text for text in _QUOTED.findall(value))
    return "/" in value or "\\" in value or os.path.exists(split_part(value)[0])


def names_a_path(option: Any) -> bool:
    """Whether an id, or what it lies in, has the name of a path.

    Args:
        option: its id.
    """
    return any(part.lower().endswith(_PATH_NAMES) for part in re.split("#|::", str(option)))
