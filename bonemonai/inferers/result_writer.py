"""Where streaming inference puts its results: safely, so that a run can be killed and continued at any moment."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from bonemonai.data.atomic import atomic_path
from bonemonai.data.nifti_writer import LONGEST_AXIS, NiftiWriter
from bonemonai.data.ome_zarr_store import OmeZarrStore
from bonemonai.data.stack_writer import StackWriter
from bonemonai.data.tiff_stack_writer import TiffStackWriter
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import BonemonaiError, InputError, OutputError, ResumeError, find_bonemonai_error
from bonemonai.inferers.block_store import BlockStore
from bonemonai.inferers.journal import Block, Journal, read_journals, rewrite_journals
from bonemonai.inferers.outputs import Output
from bonemonai.inferers.ranks import agree, meet, rank, share, world_size
from bonemonai.inferers.tiling import Box

logger = logging.getLogger(__name__)

WORK = ".bonemonai"  # folder beside the results: fingerprint, journals, and arrays that are not complete


class ResultWriter:
    """Takes the results of one scan.

    Until everything is there, arrays lie in a hidden folder of ``output_dir``, with a journal of finished blocks and a
    fingerprint of all that the bytes depend on. The same call continues an unfinished run, and finds a finished one
    done; if anything in the fingerprint has changed it refuses, unless told to overwrite. Earlier results stay where
    they are until new ones are complete.

    Args:
        output_dir: folder of the results.
        outputs: what is kept of the predictions.
        also: "tiff" or "nifti", to have each result as a folder of TIFF files or a .nii besides.
        overwrite: replace the results of another run; an unfinished run of the same fingerprint is still continued.
        attributes: provenance, put into the results and into ``run.json`` beside them; JSON values.

    Raises:
        OutputError: if the folder cannot be written to; at construction, before anything is loaded.
    """

    def __init__(
        self,
        output_dir: str | Path,
        outputs: Sequence[Output],
        *,
        also: Literal["tiff", "nifti"] | None = None,
        overwrite: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        if also not in (None, "tiff", "nifti"):
            raise InputError("also", f"must be tiff or nifti, got {also!r}.")
        if not outputs or len({output.name for output in outputs}) < len(outputs):
            raise InputError("outputs", "must be at least one, with different names.")
        self.output_dir, self.outputs = Path(output_dir), list(outputs)
        self.also, self.overwrite, self.attributes = also, overwrite, dict(attributes or {})
        self._check_writable()

    @property
    def work_dir(self) -> Path:
        """Folder of what is not complete."""
        return self.output_dir / WORK

    @property
    def grey_values(self) -> Path:
        """Cache of the scan's grey values, which another run on the same scan finds."""
        return self.work_dir / "grey_values.npz"

    @property
    def record(self) -> Path:
        """File that says how the results came about; it is written last."""
        return self.output_dir / "run.json"

    def subfolder(self, name: str) -> ResultWriter:
        """A writer like this one for another scan, into a folder of this one's folder."""
        return ResultWriter(
            self.output_dir / name, self.outputs, also=self.also, overwrite=self.overwrite, attributes=self.attributes
        )

    def _check_writable(self) -> None:
        existing = next(folder for folder in (self.work_dir, *self.work_dir.absolute().parents) if folder.exists())
        try:
            # a file that is made and deleted: permissions do not tell of a read-only or full disk
            with tempfile.TemporaryFile(dir=existing) as probe:
                probe.write(b"0")
        except OSError as error:
            raise OutputError(self.output_dir, f"cannot be written to: {error.strerror}.") from error

    @contextmanager
    def open(
        self,
        volume: Volume,
        fingerprint: Mapping[str, Any],
        blocks: Sequence[Box],
        chunks: tuple[int, int, int],
    ) -> Iterator[ResultRun]:
        """Begin or continue a run; on leaving without an error, complete it and give the results their names.

        Args:
            volume: the scan; gives shape and voxel size.
            fingerprint: everything the bytes depend on; JSON values.
            blocks: all blocks of the volume, whole chunks each.
            chunks: (planes, rows, columns) of a chunk.

        Raises:
            ResumeError: if there is a run of another fingerprint.
            OutputError: if another process works on these results, or results not made by such a run are in the way.
        """
        self.check_scan(volume)
        store = BlockStore(self.work_dir, self.outputs, volume.shape, volume.voxel_size_um or (), chunks)
        expected = json.loads(json.dumps(fingerprint))
        first = agree(lambda: expected)
        if first != expected:
            differing = ", ".join(_differences(first, expected))
            meet(ResumeError("run", f"process {rank()} differs from the first in {differing}; all must be alike."))
        meet(None)
        with ExitStack() as stack:
            done = agree(lambda: self._begin(stack, store, expected, blocks))
            if rank() > 0:
                # a process that outlives its run must not write into the next one
                stack.enter_context(_locked(self.work_dir / f"lock-{rank()}", self.output_dir))
            run = ResultRun(store, self.work_dir, [] if done is None else [b for b in blocks if _key(b) not in done])
            run.complete, run.resumed = done is None, len(done or ())
            if run.complete:
                logger.info("%s: complete already, nothing to do.", self.output_dir)
                yield run
                return
            failure: BonemonaiError | None = None
            try:
                with _as_output_error(self.output_dir), Journal(self.work_dir / f"journal-{rank()}.jsonl") as journal:
                    run.journal = journal
                    yield run
            except Exception as error:
                failure = as_refusal(error, volume.path)
            meet(failure)
            agree(lambda: self._publish(store, blocks, run.about, volume))

    def check_scan(self, volume: Volume) -> None:
        """Refuse a scan whose results could not be written, before anything is computed.

        Raises:
            InputError: if its voxel size is unknown, the results would lie within it or have no room in a copy's
                format, or the attributes are no JSON values.
        """
        if volume.voxel_size_um is None:
            raise InputError(volume.path, "does not state its voxel size; say --voxel_size_um.")
        if volume.path.is_dir() and self.output_dir.resolve().is_relative_to(volume.path.resolve()):
            raise InputError(self.output_dir, "lies within the scan's own folder; choose another --output_dir.")
        if self.also == "nifti" and max(volume.shape) > LONGEST_AXIS:
            raise InputError(volume.path, f"has an axis longer than NIfTI's {LONGEST_AXIS}; leave --also out.")
        try:
            json.dumps(self.attributes)
        except TypeError as error:
            raise InputError("attributes", f"must be JSON values: {error}.") from error

    def _begin(
        self, stack: ExitStack, store: BlockStore, expected: dict[str, Any], blocks: Sequence[Box]
    ) -> set[Block] | None:
        """Lock the results, and find the blocks that are done; None if everything is there and whole."""
        with _as_output_error(self.output_dir):
            self.work_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(self.work_dir / "lock", self.output_dir))
            for other in self.work_dir.glob("lock-*"):
                with _locked(other, self.output_dir):
                    pass
            self._complete_publication()
            return self._prepare(store, expected, blocks)

    def _prepare(self, store: BlockStore, expected: dict[str, Any], blocks: Sequence[Box]) -> set[Block] | None:
        known, record = _read_json(self.work_dir / "fingerprint.json"), _read_json(self.record)
        finished = known is not None and record is not None and not any(s.path.exists() for s in store.stores.values())
        if known is None or (self.overwrite and (finished or known != expected)):
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
            if len(done) == len(blocks) and self._is_whole(record or {}):
                return None
            self._take_back(store)
        store.sweep()
        store.create()
        done = self._verified(store, blocks)
        # one journal of what was found to be true: a stale line of another process must not win later
        rewrite_journals(self.work_dir, done)
        logger.info("%s: %d of %d blocks are done already.", self.output_dir, len(done), len(blocks))
        return set(done)

    def _is_whole(self, record: Mapping[str, Any]) -> bool:
        """Whether all that was published is there, metadata included."""
        for name in record.get("files", []):
            path = self.output_dir / name
            if not path.exists():
                return False
            if name.endswith(".zarr") and "ome" not in ((_read_json(path / "zarr.json") or {}).get("attributes") or {}):
                return False
        return True

    def _start_anew(self, store: BlockStore, expected: dict[str, Any]) -> None:
        for name in self._names():
            if (self.output_dir / name).exists() and not self.overwrite:
                raise OutputError(
                    self.output_dir / name, "exists already; say --overwrite True, or choose another --output_dir."
                )
        # first the fingerprint: without it nothing of the rest counts
        (self.work_dir / "fingerprint.json").unlink(missing_ok=True)
        rewrite_journals(self.work_dir, {})
        for left in (*self.work_dir.glob("*.ome.zarr"), self.work_dir / "copies"):
            shutil.rmtree(left, ignore_errors=True)
        store.create()
        _write_json(self.work_dir / "fingerprint.json", expected)

    def _names(self) -> list[str]:
        """Of everything that is published."""
        names = [output.name for output in self.outputs]
        return names + ([_copied(name, self.also) for name in names] if self.also else [])

    def _take_back(self, store: BlockStore) -> None:
        """Move results to where blocks can be written again; without a record they are not finished."""
        for array in store.stores.values():
            published = self.output_dir / array.path.name
            if published.is_dir():
                published.rename(array.path)
        self.record.unlink(missing_ok=True)

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

    def _copy(self, array: OmeZarrStore, scan: Volume) -> None:
        """Make a complete result's copy in the other format, beside it."""
        if self.also is None or scan.voxel_size_um is None:
            return
        volume = open_volume(array.path)
        # neither format has float16
        dtype = np.dtype(np.float32) if volume.dtype == np.float16 else volume.dtype
        common: dict[str, Any] = {"shape": volume.shape, "dtype": dtype, "voxel_size_um": scan.voxel_size_um}
        path = self.work_dir / "copies" / _copied(array.path.name, self.also)
        writer: StackWriter
        if self.also == "nifti":
            writer = NiftiWriter(path, **common, affine_lps=scan.affine_lps, overwrite=True)
        else:
            writer = TiffStackWriter(path, **common, overwrite=True)
        with writer:
            for _, block in volume.blocks(volume.planes_at_once):
                writer.write(block.astype(dtype))

    def _publish(self, store: BlockStore, blocks: Sequence[Box], about: Mapping[str, Any], scan: Volume) -> None:
        journal = read_journals(self.work_dir)
        missing = [block for block in blocks if _key(block) not in journal]
        if missing:
            raise BonemonaiError(self.output_dir, f"{len(missing)} blocks are missing; start the run again to resume.")
        with _as_output_error(self.output_dir):
            for array in store.stores.values():
                array.finish(self.attributes)
                self._copy(array, scan)
            record = {**self.attributes, "inference": dict(about), "files": self._names()}
            # from here on the next run, whatever it is, completes this one first
            _write_json(self.work_dir / "publishing.json", record)
            self._complete_publication()

    def _complete_publication(self) -> None:
        """Give results their names, all of them, once ``publishing.json`` says that they are complete."""
        record = _read_json(self.work_dir / "publishing.json")
        if record is None:
            return
        earlier = (_read_json(self.record) or {}).get("files", [])
        replaced = self.work_dir / "replaced"
        replaced.mkdir(exist_ok=True)
        for name in record["files"]:
            source = next((f for f in (self.work_dir / name, self.work_dir / "copies" / name) if f.exists()), None)
            if source is not None:
                final = self.output_dir / name
                if final.exists():
                    _remove(replaced / name)
                    final.rename(replaced / name)
                source.rename(final)
        for name in set(earlier) - set(record["files"]):
            _remove(self.output_dir / name)
        _write_json(self.record, record)
        (self.work_dir / "publishing.json").unlink()
        shutil.rmtree(replaced)
        shutil.rmtree(self.work_dir / "copies", ignore_errors=True)


def _copied(name: str, also: str) -> str:
    """Name of a result's copy in another format."""
    return name.removesuffix(".ome.zarr") + (".nii" if also == "nifti" else "")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, results: Path) -> Iterator[None]:
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


def as_refusal(error: Exception, subject: str | Path) -> BonemonaiError:
    """The refusal behind an error, or one made of it: what a network or a transform raises is about the scan."""
    refusal = find_bonemonai_error(error)
    if refusal is None:
        refusal = InputError(subject, f"cannot be inferred: {type(error).__name__}: {error}")
        refusal.__cause__ = error
    return refusal


class ResultRun:
    """A run that is open: which blocks are left, and where they go.

    Attributes:
        remaining: blocks that this process has to do.
        complete: whether the results were there before.
        resumed: how many blocks an earlier run had done.
        about: what ``run.json`` will say about the run; rank 0's counts.
    """

    def __init__(self, store: BlockStore, work_dir: Path, left: Sequence[Box]) -> None:
        self._store = store
        self.work_dir = work_dir
        self.remaining = share(left, rank(), world_size())
        self.complete, self.resumed = False, 0
        self.about: dict[str, Any] = {}
        self.journal: Journal | None = None

    def commit(self, box: Box, values: Mapping[str, NDArray[Any]]) -> None:
        """Write a block, and then say in the journal that it is there."""
        if self.journal is None:
            raise RuntimeError("the run is complete; there is nothing to commit.")
        self.journal.append(_key(box), self._store.write(box, values))


def _key(box: Box) -> Block:
    return box[0].start, box[1].start


@contextmanager
def _as_output_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        raise OutputError(folder, f"cannot be written: {cause}; once that is mended, the same call resumes.") from error


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _differences(known: Any, expected: Any, name: str = "") -> list[str]:
    """Names of the entries in which two nested dictionaries differ."""
    if not (isinstance(known, dict) and isinstance(expected, dict)):
        return [name] if known != expected else []
    found = []
    for key in sorted({*known, *expected}):
        found += _differences(known.get(key), expected.get(key), f"{name}.{key}" if name else str(key))
    return found
