"""Ignite's engine over lumbar CT scans: mark the vertebra in each slice, cut it out, classify the bone (paper 3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine
from monai.engines.evaluator import Evaluator
from monai.inferers.inferer import Inferer, SimpleInferer
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from bonemonai.data.axial_volume import AxialVolume
from bonemonai.data.lumbar_slices import LEVELS, open_axial
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.data.units import refuse_other_units
from bonemonai.errors import BatchError, BonemonaiError, InputError, NumericalError, as_refusal
from bonemonai.transforms.fit_plane import FitPlane
from bonemonai.transforms.marked_crop import Mark, MarkedCrop, find_mark

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
        table: one row a slice and copy, see :class:`LumbarScreening`.
        crops: number of a slice to the image that was classified, (H, W) in [0, 1].
    """

    scan: ScreeningScan
    volume: AxialVolume
    marks: NDArray[np.bool_]
    table: pd.DataFrame
    crops: dict[int, NDArray[np.float32]] = field(default_factory=dict)


class LumbarScreening(Evaluator):
    """Screen scans one after the other; an iteration is a scan, its :class:`ScreenedScan` the engine's output.

    In each slice the segmenter marks the vertebra, its rectangle is cut out, and the classifier gives the bone
    conditions' logits. Which slices: those that the scan's manifest chose, else every slice in which at least
    ``min_area_mm2`` are marked. A slice with no mark is refused and said to be; nothing is made up for it.

    A scan that fails, to be screened or to be written, does not stop the others; it is named at the end.
    ``engine.state.output`` is None for it.

    Columns of the table: ``subject``, ``scan``, ``diagnosis`` (the truth, or empty), ``plane`` (number of the slice,
    from the feet), ``copy`` (0, or the number of an augmented copy), ``pixels`` (marked), ``area_mm2``,
    ``components``, ``at_border``, ``refusal`` (why it has no decision; else empty), ``level`` (vertebra, where known),
    ``logit_<class>``, and where the scan has a truth mask ``tp``, ``fp``, ``fn`` (pixels).

    Args:
        device: of the networks.
        val_data_loader: the scans, see :func:`bonemonai.data.list_screening_scans`.
        segmenter: from (N, 1, S, S) in [0, 1] to marks in [0, 1].
        classifier: from (N, 1, C, C) to logits (N, classes).
        classes: names, in the order of the outputs.
        fit: brings slices to the segmenter's size.
        scale: from HU to [0, 1], for the segmenter.
        scale_crop: the same for the classifier; the segmenter's by default.
        crop: cuts out what is marked.
        image_size: edge that slices are fitted to before they are cut, as the classifier was trained, pixels; the
            segmenter's by default.
        inferer: runs the segmenter; MONAI's.
        augment: for ``copies``: from {"image", "mask"} to the same.
        copies: augmented copies of each chosen slice that are scored besides it; the paper's way of testing.
        levels: vertebra to its value in a truth mask.
        min_area_mm2: least marked area of a slice that is classified.
        sw_batch_size: slices at once.
        expects: units that scans may have.
        writer: takes the scans that were screened, see :class:`Writer`.
        after: called when all is written, before failures are raised: scores what was screened.
        val_handlers: of Ignite.
        progress: show a bar.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: Sequence[ScreeningScan],
        segmenter: nn.Module,
        classifier: nn.Module,
        *,
        classes: Sequence[str],
        fit: FitPlane,
        scale: Callable[[Any], torch.Tensor],
        crop: MarkedCrop,
        scale_crop: Callable[[Any], torch.Tensor] | None = None,
        image_size: int | None = None,
        inferer: Inferer | None = None,
        augment: Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]] | None = None,
        copies: int = 0,
        levels: Mapping[str, int] | None = None,
        min_area_mm2: float = 400.0,
        sw_batch_size: int = 8,
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
        if copies and augment is None:
            raise ValueError(f"copies must be 0 where nothing augments them, got {copies}.")
        if copies < 0 or sw_batch_size < 1:
            raise ValueError(f"copies must be >= 0 and sw_batch_size >= 1, got {copies} and {sw_batch_size}.")
        self.segmenter, self.classifier, self.classes = segmenter, classifier, list(classes)
        self.fit, self.scale, self.crop = fit, scale, crop
        self.scale_crop = scale if scale_crop is None else scale_crop
        self.fit_crop = fit if image_size is None else FitPlane(image_size, fill=fit.fill)
        self.fit_mark = FitPlane(self.fit_crop.size, fill=0.0, mode="nearest")
        self.slicewise = SimpleInferer() if inferer is None else inferer
        self.augment, self.copies = augment, copies
        self.levels = LEVELS if levels is None else levels
        self.min_area_mm2, self.sw_batch_size = min_area_mm2, sw_batch_size
        self.expects, self.progress = expects, progress
        self.writer, self.after = writer, after
        self.failures: list[tuple[str, BonemonaiError]] = []

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Screen all scans.

        Raises:
            BonemonaiError: at the end; a :class:`BatchError` where one of several scans failed.
        """
        self.failures = []
        self.segmenter.eval()
        self.classifier.eval()
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
            logger.error("%s: %s", batchdata.name, refusal)
            self.failures.append((batchdata.name, refusal))
            if self.writer is not None:
                self.writer.fail(batchdata)
            return None

    @torch.no_grad()
    def screen(self, scan: ScreeningScan) -> ScreenedScan:
        """Mark and classify the slices of one scan.

        Raises:
            InputError: if the scan cannot be read, is in other units, or its mask lies on another grid.
            NumericalError: if a network gives NaN or infinite numbers.
        """
        volume = open_axial(scan.image, scan.units)
        refuse_other_units(volume, self.expects)
        _refuse_implausible(volume)
        for warning in volume.warnings:
            logger.warning("input: %s", warning)
        truth = open_axial(scan.mask) if scan.mask else None
        if truth is not None:
            refuse_other_grid(truth, volume)
        chosen = dict(scan.slices)
        found = ScreenedScan(scan, volume, np.zeros(volume.shape, dtype=np.bool_), pd.DataFrame())
        rows: list[dict[str, Any]] = []
        numbers = sorted(chosen) if chosen else range(volume.shape[0])
        for start in tqdm(range(0, len(numbers), self.sw_batch_size), desc=scan.name, disable=not self.progress):
            planes = [int(number) for number in numbers[start : start + self.sw_batch_size]]
            beyond = [plane for plane in planes if plane >= volume.shape[0]]
            if beyond:
                raise InputError(scan.image, f"has no axial slice {beyond[0]}; there are {volume.shape[0]}.")
            images = torch.stack([torch.from_numpy(_finite_plane(volume, plane)) for plane in planes])
            masks = None if truth is None else self._truth(truth, planes)
            rows += self._screen_slices(found, planes, images, masks, copy=0)
            for copy in range(1, self.copies + 1):
                rows += self._screen_slices(found, planes, *self._augmented(images, masks), copy=copy)
        found.table = self._table(scan, rows, chosen)
        return found

    def _screen_slices(
        self, found: ScreenedScan, planes: Sequence[int], images: torch.Tensor, masks: torch.Tensor | None, *, copy: int
    ) -> list[dict[str, Any]]:
        """Rows of some slices, or of augmented copies of them."""
        shape, spacing = found.volume.shape[1:], found.volume.pixel_spacing_mm
        fitted = torch.stack([self.scale(self.fit(image, spacing)) for image in images])
        drawn = self._finite(self.slicewise(fitted.to(self.state.device), self.segmenter), found, planes).cpu()
        rows, crops = [], {}
        for index, plane in enumerate(planes):
            mark = self.crop.find(self.fit.inverse(drawn[index], shape, spacing))
            area_mm2 = 0.0 if mark is None else float(mark.pixels.sum()) * spacing[0] * spacing[1]
            refusal = "no vertebra was marked" if mark is None else ""
            if mark is not None and area_mm2 < self.min_area_mm2:
                refusal = f"only {area_mm2:.0f} mm2 were marked; {self.min_area_mm2:g} are due"
                mark = None
            pixels = np.zeros(shape, dtype=np.bool_) if mark is None else mark.pixels
            rows.append(_row(plane, copy, mark, area_mm2, refusal))
            if masks is not None:
                rows[-1] |= _overlap(masks[index, 0].numpy() > 0.5, pixels)
            if mark is not None:
                crops[index] = self._crop(images[index], pixels, spacing)
            if copy == 0:
                found.marks[plane] = pixels
        if crops:
            batch = torch.stack(list(crops.values())).to(self.state.device)
            logits = self._finite(self.classifier(batch), found, planes).float().cpu().numpy()
            for index, values in zip(crops, logits, strict=True):
                rows[index] |= {f"logit_{name}": float(value) for name, value in zip(self.classes, values, strict=True)}
        if copy == 0:
            found.crops |= {planes[index]: crop[0].numpy() for index, crop in crops.items()}
        return rows

    def _crop(self, image: torch.Tensor, pixels: NDArray[np.bool_], spacing: Sequence[float]) -> torch.Tensor:
        """Cut a vertebra out of its slice, which has the size that the classifier was trained at."""
        # what was large enough in the slice may be small in the square that it is fitted to
        mark = find_mark(self.fit_mark(torch.from_numpy(pixels[None].astype(np.float32)), spacing), min_pixels=1)
        return self.crop(self.scale_crop(self.fit_crop(image, spacing)), mark)

    def _truth(self, truth: AxialVolume, planes: Sequence[int]) -> torch.Tensor:
        wanted = list(self.levels.values())
        return torch.stack(
            [torch.from_numpy(np.isin(_plane(truth, plane), wanted).astype(np.float32)) for plane in planes]
        )

    def _augmented(self, images: torch.Tensor, masks: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.augment is None:
            raise ValueError("augment must be given where copies are asked for.")
        blank = torch.zeros_like(images) if masks is None else masks
        pairs = [self.augment({"image": image, "mask": mask}) for image, mask in zip(images, blank, strict=True)]
        moved = torch.stack([torch.as_tensor(pair["mask"]) for pair in pairs])
        return torch.stack([torch.as_tensor(pair["image"]) for pair in pairs]), None if masks is None else moved

    def _finite(self, output: Any, found: ScreenedScan, planes: Sequence[int]) -> torch.Tensor:
        tensor: torch.Tensor = output
        if not torch.isfinite(tensor).all():
            raise NumericalError(
                found.scan.image, f"slices {planes[0]} to {planes[-1]}: a network gave NaN or infinity."
            )
        return tensor

    def _table(self, scan: ScreeningScan, rows: list[dict[str, Any]], chosen: Mapping[int, str]) -> pd.DataFrame:
        first = {"subject": scan.subject, "scan": scan.name}
        table = pd.DataFrame([{**first, **row, "level": chosen.get(row["plane"], "")} for row in rows])
        table.insert(2, "diagnosis", scan.label)
        for name in self.classes:
            if f"logit_{name}" not in table:
                table[f"logit_{name}"] = np.nan
        return table.sort_values(["plane", "copy"], ignore_index=True)


def _finite_plane(volume: AxialVolume, plane: int) -> NDArray[np.float32]:
    values = _plane(volume, plane)
    if not np.isfinite(values).all():
        raise InputError(volume.path, f"holds NaN or infinite values in axial slice {plane}; give a scan without.")
    return values


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


def _row(plane: int, copy: int, mark: Mark | None, area_mm2: float, refusal: str) -> dict[str, Any]:
    return {
        "plane": plane,
        "copy": copy,
        "pixels": 0 if mark is None else int(mark.pixels.sum()),
        "area_mm2": area_mm2,
        "components": 0 if mark is None else mark.components,
        "at_border": mark is not None and mark.at_border,
        "refusal": refusal,
    }


def _overlap(true: NDArray[np.bool_], found: NDArray[np.bool_]) -> dict[str, int]:
    return {"tp": int((true & found).sum()), "fp": int((~true & found).sum()), "fn": int((true & ~found).sum())}
