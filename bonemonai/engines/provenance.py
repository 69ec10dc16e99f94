"""How a result came about: versions, configs, options, inputs, weights."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bonemonai
from bonemonai.data.fingerprint import fingerprint
from bonemonai.engines.run_check import passed_to_create_workflow
from bonemonai.engines.weights import sha256, weights_card

_PACKAGES = ("monai", "torch", "pytorch-ignite", "numpy", "scikit-image", "scikit-learn", "zarr", "tifffile")


def provenance(
    inputs: Mapping[str, str | Path], *, weights: str | Path | None = None, seed: int | None = None
) -> dict[str, Any]:
    """Describe the running workflow; evaluate it in ``initialize``, where MONAI still knows what was passed.

    A result says which scan it belongs to by the scan's digest; names of files and folders, which may be those of
    patients, are left out.

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
        "packages": {name: version(name) for name in _PACKAGES},
        "configs": {Path(file).name: sha256(file) for file in files},
        "options": {name: _without_paths(value) for name, value in options.items()},
        "seed": seed,
        "inputs": {name: fingerprint(path) for name, path in inputs.items()},
        "weights": None if weights is None else weights_card(weights),
    }


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(inner) for inner in value]
    is_path = (
        isinstance(value, str)
        and not value.startswith(("$", "@"))
        and ("/" in value or "\\" in value or os.path.exists(value))
    )
    return "<path>" if is_path else value
