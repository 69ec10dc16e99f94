"""Preprocessed items kept in memory or, for the next start to reuse, on disk."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, PersistentDataset
from monai.transforms import convert_to_contiguous
from tqdm import tqdm

from bonemonai.engines.cache_key import CacheKeys
from bonemonai.engines.cached_item import from_plain, to_plain
from bonemonai.errors import OutputError

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 32
_LEFT_BEHIND = 24 * 3600  # seconds: no entry takes so long to write
_first_damage = threading.Lock()  # taken with the warning, and never released


def cached_dataset(
    data: Sequence[Any],
    transform: Sequence[Callable[..., Any]] | Callable[..., Any],
    cache_dir: str | Path | None = None,
    num_workers: int = 1,
    progress: bool = True,
) -> CacheDataset | DiskCachedDataset:
    """Compute the transforms before the first random one once, not each epoch.

    Args:
        data: items.
        transform: of each.
        cache_dir: folder that keeps what was computed, see :class:`DiskCachedDataset`; None holds it in memory, to be
            computed again at the next start.
        num_workers: threads that compute.
        progress: show a bar meanwhile.
    """
    if cache_dir is None:
        return CacheDataset(data, transform, num_workers=num_workers, progress=progress)
    return DiskCachedDataset(data, transform, cache_dir, num_workers, progress)


class DiskCachedDataset(PersistentDataset):
    """MONAI's PersistentDataset, whose entries are those of this very preprocessing, whole, and of nobody's name.

    An entry's name is the item's key, see :class:`bonemonai.engines.cache_key.CacheKeys`; what it holds is
    described in :mod:`bonemonai.engines.cached_item`, with a digest of both. One that is damaged, cut short or another
    item's is computed and written again; the log says so once a process. Items that are not kept yet are computed when
    the data set is made. The folder may serve several trainings and processes at once. Entries of earlier settings
    stay; delete the folder when it is large.

    Args:
        data: items.
        transform: of each.
        cache_dir: folder of the entries, made if it is not there. They are images: keep them as you keep the scans.
        num_workers: threads that compute.
        progress: show a bar meanwhile.

    Raises:
        InputError: if an item is left with text of its own, see :func:`bonemonai.engines.cached_item.to_plain`.
        OutputError: if an entry cannot be written.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Sequence[Callable[..., Any]] | Callable[..., Any],
        cache_dir: str | Path,
        num_workers: int = 1,
        progress: bool = True,
    ) -> None:
        self.folder, self.num_workers, self.progress = Path(cache_dir), num_workers, progress
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refusal(error) from error
        super().__init__(data, transform, self.folder, track_meta=True)
        self.set_data(data)

    def set_data(self, data: Sequence[Any]) -> None:
        """Take other items; unlike MONAI's, this deletes nothing of the folder.

        Args:
            data: the items.
        """
        self.data = data
        keys = CacheKeys(self.transform)
        self.keys = [keys.of(item) for item in data]
        self._sweep()
        # one that waits for its threads: after a refusal none is still writing
        with ThreadPoolExecutor(max(1, self.num_workers)) as pool:
            numbers = pool.map(self._fill, range(len(data)))
            for _ in tqdm(numbers, total=len(data), desc="Loading dataset", disable=not self.progress):
                pass

    def _transform(self, index: int) -> Any:
        payload = self._read(self.keys[index])
        if payload is None:
            payload = self._compute(index)
        plain = torch.load(io.BytesIO(payload), weights_only=True)
        return self._post_transform(from_plain(plain, self.data[index]))  # type: ignore[no-untyped-call]

    def _fill(self, index: int) -> None:
        if self._read(self.keys[index]) is None:
            self._compute(index)

    def _compute(self, index: int) -> bytes:
        given = self.data[index]
        # a transform may write into what it is given
        item = self._pre_transform(deepcopy(given))  # type: ignore[no-untyped-call]
        item = convert_to_contiguous(item, memory_format=torch.contiguous_format)
        buffer = io.BytesIO()
        torch.save(to_plain(item, given), buffer)
        self._write(self.keys[index], buffer.getvalue())
        return buffer.getvalue()

    def _read(self, key: str) -> bytes | None:
        """What an entry holds; None where there is none, or none that is as it was written."""
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            content = b""
        payload, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        if _digest(key, payload) == digest:
            return payload
        if _first_damage.acquire(blocking=False):
            logger.warning("an entry of the cache cannot be read and is computed again; so are others, if there are.")
        return None

    def _write(self, key: str, payload: bytes) -> None:
        # the name is this writer's own: others may be at the same entry. No fsync: the digest tells what was lost
        partial = self.folder / f".{key}.{uuid.uuid4().hex}.partial"
        try:
            with open(partial, "xb") as stream:
                stream.write(payload)
                stream.write(_digest(key, payload))
            os.replace(partial, self._path(key))
        except OSError as error:
            raise self._refusal(error) from error
        finally:
            partial.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what killed writers left behind, but not what another one is writing."""
        for partial in self.folder.glob(".*.partial"):
            try:
                if time.time() - partial.stat().st_mtime > _LEFT_BEHIND:
                    partial.unlink()
            except OSError:  # gone, or not ours to remove
                continue

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.cache"

    def _refusal(self, error: OSError) -> OutputError:
        return OutputError(
            self.folder, f"cannot be written: {error.strerror}; name another cache_dir, or none to cache in memory."
        )


def _digest(key: str, payload: bytes) -> bytes:
    digest = hashlib.blake2b(key.encode(), digest_size=_DIGEST_BYTES)
    digest.update(payload)
    return digest.digest()
