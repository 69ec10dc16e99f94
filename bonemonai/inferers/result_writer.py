"""Where streaming inference puts its results: safely, so that a run can be killed and continued at any moment."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from bonemonai.data.nifti_writer import LONGEST_AXIS
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError, OutputError
from bonemonai.inferers.outputs import Output
from bonemonai.inferers.publication import Publication
from bonemonai.inferers.ranks import agree, meet, rank
from bonemonai.inferers.run_folder import RunFolder, locked, write_errors

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
    def lock(self, volume: Volume) -> Iterator[RunFolder]:
        """Take the results for this run alone, before anything is read or computed.

        Args:
            volume: the scan.

        Raises:
            InputError: see :meth:`check_scan`.
            OutputError: if another process works on these results.
        """
        with ExitStack() as stack:
            agree(lambda: self._take_over(stack, volume))
            failure: OutputError | None = None
            if rank() > 0:
                try:
                    # a process that outlives its run must not write into the next one
                    stack.enter_context(locked(self.work_dir / f"lock-{rank()}", self.output_dir))
                except OutputError as error:
                    failure = error
            meet(failure)
            yield RunFolder(
                self.output_dir, self.work_dir, volume, self.outputs,
                also=self.also, overwrite=self.overwrite, attributes=self.attributes,
            )  # fmt: skip

    def _take_over(self, stack: ExitStack, volume: Volume) -> None:
        self.check_scan(volume)
        with write_errors(self.output_dir):
            self.work_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(self.work_dir / "lock", self.output_dir))
            for other in self.work_dir.glob("lock-*"):
                with locked(other, self.output_dir):
                    pass
            Publication(self.output_dir, self.work_dir).complete()

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
