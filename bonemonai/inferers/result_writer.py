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
from bonemonai.data.nifti_writer import NiftiWriter
from bonemonai.data.stack_writer import StackWriter
from bonemonai.data.tiff_stack_writer import TiffStackWriter
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import BonemonaiError, InputError, OutputError, ResumeError
from bonemonai.inferers.block_store import BlockStore
from bonemonai.inferers.journal import Block, Journal, read_journals
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
        if volume.voxel_size_um is None:
            raise InputError(volume.path, "does not state its voxel size; say --voxel_size_um.")
        store = BlockStore(self.work_dir, self.outputs, volume.shape, volume.voxel_size_um, chunks)
        expected = json.loads(json.dumps(fingerprint))
        with ExitStack() as stack:
            if rank() == 0:
                stack.enter_context(self._lock())
            done = agree(lambda: self._prepare(store, expected, blocks))
            run = ResultRun(store, self.work_dir, [] if done is None else [b for b in blocks if _key(b) not in done])
            run.complete, run.resumed = done is None, len(done or ())
            if run.complete:
                logger.info("%s: complete already, nothing to do.", self.output_dir)
                yield run
                return
            failure: BonemonaiError | None = None
            try:
                with Journal(self.work_dir / f"journal-{rank()}.jsonl") as journal, _as_output_error(self.output_dir):
                    run.journal = journal
                    yield run
            except BonemonaiError as error:
                failure = error
            meet(failure)
            agree(lambda: self._publish(store, blocks, run.about, volume))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with _as_output_error(self.output_dir):
            self.work_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.work_dir / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(self.output_dir, "another run is working on these results.") from error
        try:
            yield
        finally:
            lock.release()

    def _prepare(self, store: BlockStore, expected: dict[str, Any], blocks: Sequence[Box]) -> set[Block] | None:
        """Blocks that are done; None if all results are there and whole."""
        known = _read_json(self.work_dir / "fingerprint.json")
        finished = known is not None and self.record.is_file() and not (self.work_dir / "publishing").exists()
        finished = finished and not any(s.path.exists() for s in store.stores.values())
        with _as_output_error(self.output_dir):
            if known is None or (self.overwrite and (finished or known != expected)):
                self._start_anew(store, expected)
                return set()
            if known != expected:
                raise ResumeError(
                    self.output_dir,
                    f"holds a run that differs in {', '.join(_differences(known, expected))}; say --overwrite True to "
                    "start anew, or choose another --output_dir.",
                )
            whole = self._verified(store.at(self.output_dir), blocks) if finished else set()
            if finished and len(whole) == len(blocks):
                return None
            self._take_back(store, finished=finished)
            store.sweep()
            store.create()
            done = self._verified(store, blocks)
            logger.info("%s: %d of %d blocks are done already.", self.output_dir, len(done), len(blocks))
            return done

    def _start_anew(self, store: BlockStore, expected: dict[str, Any]) -> None:
        for output in self.outputs:
            paths = [self.output_dir / output.name]
            paths += [_copied(paths[0], self.also)] if self.also else []
            path = next((path for path in paths if path.exists()), None)
            if path is not None and not self.overwrite:
                raise OutputError(path, "exists already; say --overwrite True, or choose another --output_dir.")
        # first the fingerprint: without it nothing of the rest counts
        (self.work_dir / "fingerprint.json").unlink(missing_ok=True)
        (self.work_dir / "publishing").unlink(missing_ok=True)
        for journal in self.work_dir.glob("journal-*.jsonl"):
            journal.unlink()
        for folder in self.work_dir.glob("*.ome.zarr"):
            shutil.rmtree(folder)
        store.create()
        _write_json(self.work_dir / "fingerprint.json", expected)

    def _take_back(self, store: BlockStore, *, finished: bool) -> None:
        """Move results that have their names already back to where blocks can be written."""
        if finished or (self.work_dir / "publishing").exists():
            (self.work_dir / "publishing").touch()
            for array in store.stores.values():
                published = self.output_dir / array.path.name
                if published.is_dir() and not array.path.exists():
                    published.rename(array.path)
            (self.work_dir / "publishing").unlink()

    def _verified(self, store: BlockStore, blocks: Sequence[Box]) -> set[Block]:
        """Blocks whose files are what the journal says."""
        journal = read_journals(self.work_dir)
        done = set()
        for block in blocks:
            key = _key(block)
            if key in journal:
                if store.digest(block) == journal[key]:
                    done.add(key)
                else:
                    logger.warning("block at plane %d, row %d is damaged or lost; it is made again.", *key)
        return done

    def _copy(self, result: Path, scan: Volume) -> None:
        """Write a complete result in the other format, too."""
        if self.also is None or scan.voxel_size_um is None:
            return
        volume = open_volume(result)
        # neither format has float16
        dtype = np.dtype(np.float32) if volume.dtype == np.float16 else volume.dtype
        common: dict[str, Any] = {"shape": volume.shape, "dtype": dtype, "voxel_size_um": scan.voxel_size_um}
        path = _copied(result, self.also)
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
            (self.work_dir / "publishing").touch()
            for array in store.stores.values():
                final = self.output_dir / array.path.name
                replaced = self.work_dir / f"{final.name}.replaced"
                shutil.rmtree(replaced, ignore_errors=True)
                if final.exists():
                    final.rename(replaced)
                array.path.rename(final)
                shutil.rmtree(replaced, ignore_errors=True)
                self._copy(final, scan)
            _write_json(self.record, {**self.attributes, "inference": dict(about)})
            (self.work_dir / "publishing").unlink()


def _copied(path: Path, also: str) -> Path:
    """Where the copy of a result in another format goes."""
    return path.with_name(path.name.removesuffix(".ome.zarr") + (".nii" if also == "nifti" else ""))


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
