"""A bundle of a few lines, whole, for tests to make wrong in one place each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bonemonai

METADATA: dict[str, Any] = {
    "schema": "https://example.org/schema.json",
    "version": "0.2.0",
    "changelog": {"0.2.0": "second", "0.1.0": "first"},
    "monai_version": "1.0.0",
    "pytorch_version": "1.0.0",
    "numpy_version": "1.0.0",
    "required_packages_version": {"bonemonai": bonemonai.__version__},
    "name": "A small bundle",
    "task": "Nothing",
    "description": "One linear layer.",
    "authors": "Nobody",
    "copyright": "Copyright (c) nobody",
    "intended_use": "Tests. Not a medical device.",
    "references": ["A paper."],
    "network_data_format": {
        "inputs": {"image": {"type": "image", "dtype": "float32", "channel_def": {"0": "grey value"}}},
        "outputs": {"pred": {"type": "image", "channel_def": {"0": "anything"}}},
    },
}
INFERENCE: dict[str, Any] = {
    "imports": ["$import pathlib", "$import bonemonai"],
    "bundle_root": "$bonemonai.engines.find_bundle_root()",
    "checkpoint": "$str(pathlib.Path(@bundle_root) / 'models' / 'model.pt')",
    "width": 3,
    "network_def": {"_target_": "torch.nn.Linear", "in_features": "@width", "out_features": 2},
    "initialize": ["$monai.utils.set_determinism(seed=0)"],
    "run": ["$@network_def.parameters()"],
}
LOGGING = """[loggers]
keys=root
[handlers]
keys=console
[formatters]
keys=full
[logger_root]
level=INFO
handlers=console
[handler_console]
class=StreamHandler
formatter=full
args=(sys.stdout,)
[formatter_full]
format=%(asctime)s %(message)s
"""
README = """# A small bundle

**Research software, not a medical device.**

## Deviations

None.

## Performance

It was 0.5.

### On phantoms

It was 0.6.

## Citation

A paper.
"""
CARD: dict[str, Any] = {
    "note": "Research software, not a medical device: not for diagnosis, not for clinical use.",
    "epoch": 3,
    "score": 0.512345678,
    "trained_on": {
        "data": "a phantom",
        "kind": "synthetic",
        "licence": "Apache-2.0",
        "scans": [f"{n}" for n in range(9)],
    },
    "options": {},
}


def write_bundle(folder: Path, files: Mapping[str, Any] | None = None) -> Path:
    """Write it.

    Args:
        folder: to make.
        files: name to what stands there instead: JSON values, text or bytes; None leaves the file out.
    """
    contents: dict[str, Any] = {
        "LICENSE": "Apache License\n",
        "configs/metadata.json": METADATA,
        "configs/inference.json": INFERENCE,
        "configs/logging.conf": LOGGING,
        "docs/README.md": README,
        "docs/data_license.txt": "No data are shipped.\n\nWeights are of phantoms.\n",
        **(files or {}),
    }
    for name, content in contents.items():
        if content is None:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
    return folder


def names_in(folder: Path) -> list[str]:
    """Everything below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
