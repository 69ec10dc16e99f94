"""Ignite's engine over CT scans of the lumbar spine, one scan an iteration: what papers 3 and 4 share."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine
from monai.engines.evaluator import Evaluator
from numpy.typing import NDArray
from torch import nn

from bonemonai.data.axial_volume import AxialVolume
from bonemonai.data.lumbar_slices import open_axial
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.data.units import refuse_other_units
from bonemonai.errors import BatchError, BonemonaiError, InputError, NumericalError, as_refusal

logger = logging.getLogger(__name__)

_PLAUSIBLE_HU = (-400.0, 600.0)  # ours: lungs and gas at one end, bone and metal at the other


class Writer(Protocol):
    """What takes the results of a screening."""

    def start(self, scans: Sequence[ScreeningScan]) -> None:
        """Make room, before any scan is read."""

    def write(self, found: ScreenedScan) -> None:
        """Take a scan."""

    def fail(self, scan: ScreeningScan) -> None:
        """Note that a scan failed."""

    def finish(self) -> None:
        """All scans were screened."""


@dataclass
class ScreenedScan:
    """What was found in one scan.

    Attributes:
        scan: which.
        volume: its values in axial order, HU.
        marks: (planes, rows, columns), bool, in axial order: the vertebra that was marked in each slice.
        table: one row a slice and copy: ``subject``, ``scan``, ``diagnosis`` (the truth, or empty), ``plane`` (number
            of the slice, from the feet), ``copy`` (0, or the number of an augmented copy), ``pixels`` (marked),
            ``area_mm2``, ``components``, ``at_border``, ``refusal`` (why it has no decision; else empty), ``level``
            (vertebra, where known), ``logit_<class>``, and where the scan has a truth mask ``tp``, ``fp``, ``fn``
            (pixels).
        crops: number of a slice to the image that was classified, (H, W) in [0, 1].
        chosen_by: what chose the slices: "manifest", "segmentation" or "locator".
        levels: number of a slice to its vertebra's value in a mask of several; empty where vertebrae are not told
            apart.
        heat_maps: number of a slice to (rows, columns) in [0, 1], the boundary that was predicted.
        attention: number of a slice to (H, W) >= 0, on the crop: what speaks for the decision, by Grad-CAM.
        tables: further tables of the scan, by name, for files beside ``predictions.csv``.
    """

    scan: ScreeningScan
    volume: AxialVolume
    marks: NDArray[np.bool_]
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    crops: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    chosen_by: str = "segmentation"
    levels: dict[int, int] = field(default_factory=dict)
    heat_maps: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    attention: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


class ScanScreening(Evaluator):
    """Screen scans one after the other; an iteration is a scan, its :class:`ScreenedScan` the engine's output.

    A scan that fails, to be screened or to be written, does not stop the others; it is named at the end.
    ``engine.state.output`` is None for it.

    Args:
        device: of the networks.
        val_data_loader: the scans, see :func:`bonemonai.data.list_screening_scans`.
        networks: that are used; they are put into evaluation.
        classes: names, in the order of the outputs.
        expects: units that scans may have.
        writer: takes the scans that were screened, see :class:`Writer`.
        after: called when all is written, before failures are raised: scores what was screened.
        val_handlers: of Ignite.
        progress: show bars.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: Sequence[ScreeningScan],
        networks: Sequence[nn.Module],
        *,
        classes: Sequence[str],
        expects: Sequence[str] | None = ("HU",),
        writer: Writer | None = None,
        after: Callable[[], Any] | None = None,
        val_handlers: Sequence[Any] | None = None,
        progress: bool = True,
    ) -> None:
        self.scans = list(val_data_loader)
        super().__init__(
            device=device,
            val_data_loader=self.scans,  # Ignite iterates over it; the length is its own
            val_handlers=val_handlers,
        )
        self.networks, self.classes, self.expects = list(networks), list(classes), expects
        self.writer, self.after, self.progress = writer, after, progress
        self.failures: list[tuple[str, BonemonaiError]] = []

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Screen all scans.

        Raises:
            BonemonaiError: at the end; a :class:`BatchError` where one of several scans failed.
        """
        self.failures = []
        for network in self.networks:
            network.eval()
        if self.writer is not None:
            self.writer.start(self.scans)
        super().run(global_epoch)
        if self.writer is not None:
            self.writer.finish()
        if self.after is not None and len(self.failures) < len(self.scans):
            self.after()
        if self.failures:
            first = self.failures[0][1]
            if len(self.scans) == 1:
                raise first
            named = "; ".join(f"{name} ({error})" for name, error in self.failures)
            raise BatchError(f"{len(self.failures)} of {len(self.scans)} scans", f"failed: {named}", first.exit_code)

    def _iteration(self, engine: Engine, batchdata: ScreeningScan) -> ScreenedScan | None:  # type: ignore[override]
        try:
            found = self.screen(batchdata)
            if self.writer is not None:
                self.writer.write(found)
            return found
        except Exception as error:
            refusal = as_refusal(error, batchdata.image)
            # not why: causes hold paths, and logs are kept; the refusal at the end says it
            logger.error("%s failed (%s).", batchdata.name, type(refusal).__name__)
            self.failures.append((batchdata.name, refusal))
            if self.writer is not None:
                self.writer.fail(batchdata)
            return None

    @abstractmethod
    def screen(self, scan: ScreeningScan) -> ScreenedScan:
        """Screen one scan.

        Raises:
            InputError: if the scan cannot be read, is in other units, or its mask lies on another grid.
            NumericalError: if a network gives NaN or infinite numbers.
        """

    def open(self, scan: ScreeningScan) -> tuple[AxialVolume, AxialVolume | None]:
        """Open a scan and its truth mask, if it has one, and refuse what cannot be screened."""
        volume = open_axial(scan.image, scan.units)
        refuse_other_units(volume, self.expects)
        _refuse_implausible(volume)
        for warning in volume.warnings:
            logger.warning("input: %s", warning)
        truth = self.open_truth(scan)
        if truth is not None:
            refuse_other_grid(truth, volume)
        return volume, truth

    @staticmethod
    def open_truth(scan: ScreeningScan) -> AxialVolume | None:
        """A scan's truth mask, if it has one."""
        return open_axial(scan.mask) if scan.mask else None

    def table_of(self, scan: ScreeningScan, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """The table of a scan's rows, see :class:`ScreenedScan`."""
        first = {"subject": scan.subject, "scan": scan.name}
        table = pd.DataFrame([{**first, **row} for row in rows])
        table.insert(2, "diagnosis", scan.label)
        for name in self.classes:
            if f"logit_{name}" not in table:
                table[f"logit_{name}"] = np.nan
        return table


def finite(output: torch.Tensor, scan: ScreeningScan, planes: Sequence[int]) -> torch.Tensor:
    """Refuse what a network gives if it is no number.

    Raises:
        NumericalError: naming the slices.
    """
    if not torch.isfinite(output).all():
        raise NumericalError(scan.image, f"slices {planes[0]} to {planes[-1]}: a network gave NaN or infinity.")
    return output


def read_plane(volume: AxialVolume, plane: int) -> NDArray[np.float32]:
    """One axial slice, (1, rows, columns).

    Raises:
        InputError: if there is no such slice, or it holds NaN or infinite values.
    """
    if not 0 <= plane < volume.shape[0]:
        raise InputError(volume.path, f"has no axial slice {plane}; there are {volume.shape[0]}.")
    values = _plane(volume, plane)
    if not np.isfinite(values).all():
        raise InputError(volume.path, f"holds NaN or infinite values in axial slice {plane}; give a scan without.")
    return values


def count_overlap(true: NDArray[np.bool_], found: NDArray[np.bool_]) -> dict[str, int]:
    """Pixels that are rightly marked, wrongly marked, and missed."""
    return {"tp": int((true & found).sum()), "fp": int((~true & found).sum()), "fn": int((true & ~found).sum())}


def _refuse_implausible(volume: AxialVolume) -> None:
    """Refuse values that are called Hounsfield units and cannot be: those of the middle are soft tissue or bone."""
    plane = _plane(volume, volume.shape[0] // 2)
    rows, columns = (slice(n // 4, max(n // 4 + 1, 3 * n // 4)) for n in plane.shape[1:])
    middle = float(np.nanmedian(plane[0, rows, columns]))
    if not _PLAUSIBLE_HU[0] <= middle <= _PLAUSIBLE_HU[1]:
        found = f"has a median of {middle:.0f} in the middle of its middle slice, where a body has about 0 to 100 HU"
        raise InputError(volume.path, f"{found}; is an offset, such as 1024, still to be subtracted?")


def _plane(volume: AxialVolume, plane: int) -> NDArray[np.float32]:
    return volume.read(plane, plane + 1).astype(np.float32)
