"""The folder of a run that is locked: what is done already, what is left, and when everything is there."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numpy.typing import NDArray

from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.prepared_volume import PreparedVolume
from bonemonai.data.volume import Volume
from bonemonai.errors import BonemonaiError, OutputError, ResumeError, as_refusal
from bonemonai.inferers.block_store import BlockStore
from bonemonai.inferers.journal import Block, Journal, read_journals, rewrite_journals
from bonemonai.inferers.outputs import Output
from bonemonai.inferers.publication import Publication, copied_name
from bonemonai.inferers.ranks import agree, meet, rank, share, world_size
from bonemonai.inferers.tiling import Box

logger = logging.getLogger(__name__)


class ResultRun:
    """A run that is open: which blocks are left, and where they go.

    Attributes:
        remaining: blocks that this process has to do.
        complete: whether the results were there before.
        resumed: how many blocks an earlier run had done.
        about: what ``run.json`` will say about the run; rank 0's counts.
    """

    def __init__(self, store: BlockStore, blocks: Sequence[Box], done: set[Block] | None) -> None:
        self._store = store
        left = [] if done is None else [block for block in blocks if _key(block) not in done]
        self.remaining = share(left, rank(), world_size())
        self.complete, self.resumed = done is None, len(done or ())
        self.about: dict[str, Any] = {}
        self.journal: Journal | None = None

    def commit(self, box: Box, values: Mapping[str, NDArray[Any]]) -> None:
        """Write a block, and then say in the journal that it is there."""
        if self.journal is None:
            raise RuntimeError("the run is complete; there is nothing to commit.")
        self.journal.append(_key(box), self._store.write(box, values))


class RunFolder:
    """The hidden folder beside the results: fingerprint, journals, and arrays that are not complete.

    :meth:`bonemonai.inferers.ResultWriter.lock` makes it, and holds its lock as long as it is used.

    Args:
        output_dir: folder of the results.
        work_dir: the hidden folder.
        volume: the scan; gives shape, voxel size and place.
        outputs: what is kept of the predictions.
        also: "tiff" or "nifti" copies of the results, or None.
        overwrite: replace the results of another run.
        attributes: provenance; JSON values.
    """

    def __init__(
        self,
        output_dir: Path,
        work_dir: Path,
        volume: Volume,
        outputs: Sequence[Output],
        *,
        also: str | None,
        overwrite: bool,
        attributes: Mapping[str, Any],
    ) -> None:
        self.output_dir, self.work_dir = output_dir, work_dir
        self._volume, self._outputs, self._also, self._overwrite = volume, outputs, also, overwrite
        self._attributes = dict(attributes)
        self._publication = Publication(output_dir, work_dir)
        self._fingerprint = work_dir / "fingerprint.json"

    def count_grey_values(self, scan: PreparedVolume, *, memory: float = 256e6, progress: bool = False) -> None:
        """Count the grey values that a scan's transforms need, or find them where an earlier run has left them.

        One process counts; the others then find the result.

        Args:
            scan: the scan.
            memory: bytes of it that may be held at once.
            progress: show a bar on standard error.
        """

        def count() -> None:
            scan.count_grey_values(self.work_dir / "grey_values.npz", memory=memory, progress=progress)

        agree(count)
        if rank() > 0:
            count()

    @contextmanager
    def run(
        self, fingerprint: Mapping[str, Any], blocks: Sequence[Box], chunks: tuple[int, int, int]
    ) -> Iterator[ResultRun]:
        """Begin or continue a run; on leaving without an error, complete it and give the results their names.

        Args:
            fingerprint: everything the bytes depend on; JSON values.
            blocks: all blocks of the volume, whole chunks each.
            chunks: (planes, rows, columns) of a chunk.

        Raises:
            ResumeError: if there is a run of another fingerprint.
            OutputError: if results not made by such a run are in the way, or a disk is full.
        """
        volume = self._volume
        store = BlockStore(self.work_dir, self._outputs, volume.shape, volume.voxel_size_um or (), chunks)
        expected = json.loads(json.dumps(fingerprint))
        first = agree(lambda: expected)
        differing = ", ".join(_differences(first, expected))
        unlike = ResumeError("run", f"process {rank()} differs from the first in {differing}; all must be alike.")
        meet(unlike if differing else None)
        run = ResultRun(store, blocks, agree(lambda: self._begin(store, expected, blocks)))
        if run.complete:
            logger.info("complete already, nothing to do.")
            yield run
            return
        failure: BonemonaiError | None = None
        try:
            with write_errors(self.output_dir), Journal(self.work_dir / f"journal-{rank()}.jsonl") as journal:
                run.journal = journal
                yield run
        except Exception as error:
            failure = as_refusal(error, volume.path)
        meet(failure)
        agree(lambda: self._publish(store, blocks, run.about))

    def _begin(self, store: BlockStore, expected: dict[str, Any], blocks: Sequence[Box]) -> set[Block] | None:
        """Find the blocks that are done; None if everything is there and whole."""
        with write_errors(self.output_dir):
            known = read_json(self._fingerprint)
            unfinished = any(array.path.exists() for array in store.stores.values())
            finished = known is not None and self._publication.record() is not None and not unfinished
            if known is None or (self._overwrite and (finished or known != expected)):
                self._start_anew(store, expected)
                return set()
            if known != expected:
                raise ResumeError(
                    self.output_dir,
                    f"holds a run that differs in {', '.join(_differences(known, expected))}; say --overwrite True to "
                    "start anew, or choose another --output_dir.",
                )
            if finished:
                done = self._verified(store.at(self.output_dir), blocks)
                if len(done) == len(blocks) and self._publication.is_whole():
                    return None
                self._publication.take_back([output.name for output in self._outputs])
            store.sweep()
            store.create()
            done = self._verified(store, blocks)
            # one journal of what was found to be true: a stale line of another process must not win later
            rewrite_journals(self.work_dir, done)
            logger.info("%d of %d blocks are done already.", len(done), len(blocks))
            return set(done)

    def _start_anew(self, store: BlockStore, expected: dict[str, Any]) -> None:
        for name in self._names():
            if (self.output_dir / name).exists() and not self._overwrite:
                raise OutputError(
                    self.output_dir / name, "exists already; say --overwrite True, or choose another --output_dir."
                )
        # first the fingerprint: without it nothing of the rest counts
        self._fingerprint.unlink(missing_ok=True)
        rewrite_journals(self.work_dir, {})
        for left in self.work_dir.glob("*.ome.zarr"):
            shutil.rmtree(left, ignore_errors=True)
        self._publication.drop_copies()
        store.create()
        write_json(self._fingerprint, expected)

    def _verified(self, store: BlockStore, blocks: Sequence[Box]) -> dict[Block, str]:
        """Blocks whose files are what the journal says, and their digests."""
        journal = read_journals(self.work_dir)
        done = {}
        for block in blocks:
            key = _key(block)
            if key in journal:
                if store.digest(block) == journal[key]:
                    done[key] = journal[key]
                else:
                    logger.warning("block at plane %d, row %d is damaged or lost; it is made again.", *key)
        return done

    def _publish(self, store: BlockStore, blocks: Sequence[Box], about: Mapping[str, Any]) -> None:
        journal = read_journals(self.work_dir)
        missing = [block for block in blocks if _key(block) not in journal]
        if missing:
            raise BonemonaiError(self.output_dir, f"{len(missing)} blocks are missing; start the run again to resume.")
        with write_errors(self.output_dir):
            for output in self._outputs:
                array = store.stores[output.name]
                array.finish({**self._attributes, **self._of_scan(output)})
                if self._also:
                    self._publication.copy(array, self._also, self._volume)
            self._publication.announce({**self._attributes, "inference": dict(about)}, self._names())

    def _of_scan(self, output: Output) -> dict[str, Any]:
        """What values that are the scan's own kind take over from it: units and place."""
        if not output.has_scan_units:
            return {}
        affine = self._volume.affine_lps
        return {"units": self._volume.units, "affine_lps": None if affine is None else affine.tolist()}

    def _names(self) -> list[str]:
        """Of everything that is published."""
        names = [output.name for output in self._outputs]
        return names + ([copied_name(name, self._also) for name in names] if self._also else [])


@contextmanager
def locked(path: Path, results: Path) -> Iterator[None]:
    """Hold a lock that the system drops with the process.

    Args:
        path: its file.
        results: what it protects, for the message.

    Raises:
        OutputError: if another process holds it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(results, "another run is working on these results.") from error
    except OSError as error:
        raise OutputError(path, f"cannot be locked: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Make of a full or failing disk a refusal that says how to go on.

    Args:
        folder: of the results.

    Raises:
        OutputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        raise OutputError(folder, f"cannot be written: {cause}; once that is mended, the same call resumes.") from error


def _key(box: Box) -> Block:
    return box[0].start, box[1].start


def _differences(known: Any, expected: Any, name: str = "") -> list[str]:
    """Names of the entries in which two nested dictionaries differ."""
    if not (isinstance(known, dict) and isinstance(expected, dict)):
        return [name] if known != expected else []
    found = []
    for key in sorted({*known, *expected}):
        found += _differences(known.get(key), expected.get(key), f"{name}.{key}" if name else str(key))
    return found
