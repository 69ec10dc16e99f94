"""What a bundle must say about itself before anybody else gets it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bonemonai.errors import InputError
from bonemonai.sharing.bundle_files import LICENCE, METADATA, README, read_text

LARGEST = 25_000_000  # bytes of one file, unless a larger one is allowed
_TO_BE_WRITTEN = "FILL IN:"  # what bonemonai bundle new leaves to the author
_REQUIRED = (
    "schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
    "task", "description", "authors", "copyright", "network_data_format", "intended_use", "references",
)  # fmt: skip
_README_WORDS = ("not a medical device", "Deviations", "Citation", "Performance")
_OTHER_NAMES = {"pytorch_version": "torch", "monai_version": "monai", "numpy_version": "numpy"}


def check_metadata(configs: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata, if it says what MONAI's schema and this project ask for.

    Args:
        configs: parsed JSON files of a bundle.

    Raises:
        InputError: naming what is missing.
    """
    metadata = configs.get(METADATA)
    if not isinstance(metadata, dict):
        raise InputError(METADATA, "is missing from the bundle, or is no JSON object.")
    missing = [key for key in _REQUIRED if key not in metadata]
    if missing:
        raise InputError(METADATA, f"lacks {', '.join(missing)}; MONAI's schema says what they mean.")
    packages = metadata["required_packages_version"]
    texts = [metadata[key] for key in ("version", "task", "description", "intended_use", *_OTHER_NAMES)]
    if not isinstance(packages, dict) or not all(isinstance(text, str) for text in [*texts, *packages.values()]):
        raise InputError(METADATA, "states something that is to be a text by something that is none.")
    if not isinstance(metadata["changelog"], dict) or metadata["version"] not in metadata["changelog"]:
        raise InputError(METADATA, f"is of version {metadata['version']}, which its changelog does not hold; add it.")
    if "not a medical device" not in metadata["intended_use"].lower():
        raise InputError(METADATA, "must say in intended_use that this is not a medical device.")
    return metadata


def check_layout(files: dict[str, Path]) -> None:
    """Refuse a bundle that lacks a file, or a section of its README.

    Args:
        files: of the bundle.

    Raises:
        InputError: naming it.
    """
    for name in ("LICENSE", "configs/logging.conf", README, LICENCE):
        if not read_text(files, name).strip():
            raise InputError(name, "is empty; write it.")
    readme = read_text(files, README).decode("utf-8", errors="replace")
    missing = [word for word in _README_WORDS if word not in readme]
    if missing:
        raise InputError(README, f"does not say {missing[0]!r}; write it.")


def check_written(texts: Mapping[str, str]) -> None:
    """Refuse a bundle whose author has not yet written what only they can know.

    Args:
        texts: name to content.

    Raises:
        InputError: naming every place.
    """
    places = [
        (name, number, line.partition(_TO_BE_WRITTEN)[2].strip(' ",'))
        for name, text in sorted(texts.items())
        for number, line in enumerate(text.splitlines(), start=1)
        if _TO_BE_WRITTEN in line
    ]
    if places:
        (name, number, what), *others = places
        also = f" Also to be written: {', '.join(f'{file} line {line}' for file, line, _ in others)}." if others else ""
        raise InputError(name, f"line {number} is still to be written: {what.removesuffix('.')}.{also}")


def check_sizes(contents: Mapping[str, bytes]) -> None:
    """Refuse files that are too large to be handed over unasked.

    Args:
        contents: name to bytes.

    Raises:
        InputError: naming the first.
    """
    for name, content in contents.items():
        if len(content) > LARGEST:
            raise InputError(
                name, f"has {len(content) / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}; say --allow-large if it must."
            )


def stated_needs(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Package to the version that a bundle was made with, as its metadata says.

    Args:
        metadata: checked.
    """
    own = {name: metadata[key] for key, name in _OTHER_NAMES.items()}
    return {**own, **metadata["required_packages_version"]}


def older_here(needs: Mapping[str, str]) -> list[str]:
    """Packages that are missing here, or older than what a bundle was made with; compared as versions.

    Args:
        needs: package to version.

    Example:
        >>> older_here({"numpy": "1.0", "no-such-package": "1.0"})
        ['no-such-package 1.0 (not here)']
    """
    found = []
    for name, wanted in needs.items():
        here = installed_version(name)
        if here is None or _numbers(here) < _numbers(wanted):
            found.append(f"{name} {wanted} ({'not here' if here is None else f'here {here}'})")
    return found


def installed_version(name: str) -> str | None:
    """Version of an installed package, without importing it; None if it is not installed."""
    try:
        return version(name)
    except (PackageNotFoundError, ValueError):
        return None


def _numbers(text: str) -> tuple[int, ...]:
    release = re.match(r"\d+(?:\.\d+)*", text)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
