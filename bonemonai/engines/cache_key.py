"""What a preprocessed item depends on, as the name that it is kept under."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai.data.meta_obj import get_track_meta
from monai.transforms import Compose, Transform
from monai.transforms.traits import RandomizableTrait
from torch import nn

import bonemonai
from bonemonai.data.fingerprint import Snapshot, fingerprint
from bonemonai.data.held_objects import held_objects
from bonemonai.data.itk_header import read_meta_header, read_nrrd_header
from bonemonai.data.volume import Volume, split_part
from bonemonai.errors import InputError
from bonemonai.inferers.code_digest import code_digest
from bonemonai.inferers.run_fingerprint import weights_sha256

# what reads, resamples and computes
_PACKAGES = ("bonemonai", "monai", "torch", "numpy", "scipy", "pydicom", "nibabel", "SimpleITK")
_HEADERS = {".mhd": read_meta_header, ".nhdr": read_nrrd_header}  # of files whose values lie in another one


class CacheKeys:
    """Keys of preprocessed items: another item, scan, transform or version gives another key.

    A key is a digest of

    * the item: its values, and of each file or folder that one names the path, all sizes and modification times, and
      samples of the content. What was changed keeping all of these is not noticed.
    * the transforms before the first random one, with all their settings, the text of functions, and the weights of
      networks.
    * the versions of what computes, and the text of what this package reads and transforms with.

    Files are looked at once, when the first item names them.

    Args:
        transform: of the items.
    """

    def __init__(self, transform: Compose) -> None:
        first_random = transform.get_index_of_first(
            lambda step: isinstance(step, RandomizableTrait) or not isinstance(step, Transform)
        )
        steps = list(transform.transforms[:first_random])
        networks = [weights_sha256(each) for each in held_objects(*steps) if isinstance(each, nn.Module)]
        how = (transform.map_items, transform.unpack_items, transform.lazy, transform.overrides, get_track_meta())
        versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
        self._common = code_digest([steps, networks, how, versions, _own_text()])
        self._files: dict[str, str] = {}

    def of(self, item: Any) -> str:
        """Key of an item: 64 hexadecimal digits, which tell nothing about it.

        Args:
            item: before it is transformed.

        Raises:
            InputError: if a file that it names cannot be read.
        """
        return _digest(f"{self._common} {self._text(item)}")

    def _text(self, value: Any) -> str:
        if isinstance(value, str | Path):
            # a word of a manifest may happen to be a name in this folder; that costs a look, and no more
            there = bool(str(value)) and os.path.exists(str(value).partition("::")[0])
            return self._file(str(value)) if there else f"{type(value).__name__} {str(value)!r}"
        if isinstance(value, Mapping):
            return f"mapping {sorted((repr(key), self._text(each)) for key, each in value.items())}"
        if isinstance(value, list | tuple):
            return f"{type(value).__name__} {[self._text(each) for each in value]}"
        if isinstance(value, Volume):
            return f"{type(value).__qualname__} {self._text(value.__getstate__())}"
        return code_digest(value)

    def _file(self, name: str) -> str:
        if name not in self._files:
            path, part = split_part(name)
            header = _HEADERS.get(path.suffix.lower()) if path.is_file() else None
            try:
                states = [Snapshot(each).digest for each in (path, *([header(path).data] if header else []))]
                self._files[name] = _digest(f"{path.absolute()} {part} {states} {fingerprint(name)}")
            except OSError as error:
                raise InputError(path, f"cannot be read: {error.strerror}.") from error
        return self._files[name]


def _own_text() -> str:
    """Digest of the modules that read scans and transform them: a version stays the same while code is worked on."""
    digest = hashlib.sha256()
    package = Path(bonemonai.__file__).parent
    for path in sorted([*package.glob("data/*.py"), *package.glob("transforms/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
