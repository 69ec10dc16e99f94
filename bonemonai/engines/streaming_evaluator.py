"""Ignite's engine over scans: each iteration is one scan, streamed from disk to disk."""

from __future__ import annotations

import csv
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.evaluator import Evaluator
from monai.inferers.inferer import Inferer
from torch import nn

from bonemonai.data.atomic import atomic_path
from bonemonai.data.scan_dataset import Scan, ScanDataset
from bonemonai.errors import BatchError, BonemonaiError, ResumeError, as_refusal
from bonemonai.inferers.ranks import meet, rank
from bonemonai.inferers.result_writer import ResultWriter
from bonemonai.inferers.streaming_inferer import StreamingInferer
from bonemonai.inferers.whole_volume import infer_whole_volume

logger = logging.getLogger(__name__)

_TERMINATED = 143  # what a shell reports for SIGTERM


class StreamingEvaluator(Evaluator):
    """Infer the scans of a dataset one after the other.

    One scan's results go to the writer's folder. The scans of a manifest get a folder each, ``scan_0000`` and so on by
    the manifest's rows, and a ``summary.csv``; one that fails does not stop the others, is named at the end, and makes
    the exit code that of the first failure. The same call resumes: what is complete is passed over.

    SIGTERM ends the process with exit code 143, after the block that is being written; the same call resumes.

    Args:
        device: of the network.
        val_data_loader: the scans.
        network: to be run; put into evaluation mode.
        inferer: :class:`bonemonai.inferers.StreamingInferer`, or any of MONAI's for scans that fit into memory.
        writer: takes the results.
        amp: automatic mixed precision.
        amp_kwargs: of ``torch.autocast``, for instance its dtype.
        val_handlers: of Ignite.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: ScanDataset,
        network: nn.Module,
        inferer: Inferer | Callable[..., Any],
        writer: ResultWriter,
        *,
        amp: bool = False,
        amp_kwargs: dict[str, Any] | None = None,
        val_handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            device=device,
            # Ignite iterates over it; the length is its own
            val_data_loader=list(val_data_loader),  # type: ignore[call-overload]
            amp=amp,
            amp_kwargs=amp_kwargs,
            val_handlers=val_handlers,
        )
        self.network, self.inferer, self.writer = network, inferer, writer
        self.is_batch = val_data_loader.is_batch
        self.failures: list[tuple[str, BonemonaiError]] = []
        self._rows: list[dict[str, Any]] = []

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Infer all scans.

        Raises:
            BatchError: at the end, if scans of a manifest failed.
        """
        self.failures, self._rows = [], []
        self.network.eval()
        with _exit_on_sigterm():
            super().run(global_epoch)
        if self.is_batch:
            self._write_summary()
        if self.failures:
            first = self.failures[0][1]
            named = "; ".join(f"{name} ({error})" for name, error in self.failures)
            total = len(self._rows)
            raise BatchError(f"{len(self.failures)} of {total} scans", f"failed: {named}", first.exit_code)

    def _iteration(self, engine: Engine, batchdata: Scan) -> dict[str, Any]:  # type: ignore[override]
        if not self.is_batch:
            return self._infer(batchdata, "")
        row: dict[str, Any] = {"scan": batchdata.name, "status": "done", "exit_code": 0}
        try:
            about = self._infer(batchdata, batchdata.name)
            row["status"] = "complete before" if about.pop("complete_before") else "done"
            row |= {key: about[key] for key in ("passes", "skipped_share", "resumed") if key in about}
        except BonemonaiError as error:
            logger.error("%s failed (%s).", batchdata.name, type(error).__name__)
            self.failures.append((batchdata.name, error))
            kind = "differs from an earlier run" if isinstance(error, ResumeError) else "failed"
            # not why: causes hold paths, paths hold names of patients, and logs and summaries are kept and travel;
            # the refusal at the end says it
            row |= {"status": kind, "exit_code": error.exit_code, "error": type(error).__name__}
        self._rows.append(row)
        return row

    def _infer(self, scan: Scan, folder: str) -> dict[str, Any]:
        failure: BonemonaiError | None = None
        try:
            source = scan.open()
            writer = self.writer.subfolder(folder) if folder else self.writer
        except Exception as error:
            failure = as_refusal(error, scan.path)
        # all processes open the scan, or none goes on with it
        meet(failure)
        for warning in source.volume.warnings:
            logger.warning("input: %s", warning)
        writer.attributes |= {
            "voxel_size_um": source.volume.voxel_size_um,
            "affine_lps": None if source.volume.affine_lps is None else source.volume.affine_lps.tolist(),
            "input_units": source.volume.units,
            "input_warnings": source.volume.warnings,
        }
        with torch.autocast(self.state.device.type, enabled=self.amp, **self.amp_kwargs):
            if isinstance(self.inferer, StreamingInferer):
                about: dict[str, Any] = self.inferer(source, self.network, writer=writer)
                return about
            return infer_whole_volume(self.inferer, source, self.network, writer)  # type: ignore[arg-type]

    def _write_summary(self) -> None:
        if rank() > 0:
            return
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        path = self.writer.output_dir / "summary.csv"
        with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, columns)
            table.writeheader()
            table.writerows(self._rows)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that files are closed on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        # a second one must not cut short what the first one has begun
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
