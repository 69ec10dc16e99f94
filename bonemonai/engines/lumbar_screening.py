"""Ignite's engine over lumbar CT scans: mark the vertebra in each slice, cut it out, classify the bone (paper 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers.inferer import Inferer, SimpleInferer
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from bonemonai.data.axial_volume import AxialVolume
from bonemonai.data.lumbar_slices import LEVELS
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.engines.scan_screening import (
    ScanScreening,
    ScreenedScan,
    Writer,
    count_overlap,
    finite,
    read_plane,
)
from bonemonai.transforms.fit_plane import FitPlane
from bonemonai.transforms.marked_crop import Mark, MarkedCrop, find_mark


class LumbarScreening(ScanScreening):
    """Screen scans one after the other; an iteration is a scan, its :class:`ScreenedScan` the engine's output.

    In each slice the segmenter marks the vertebra, its rectangle is cut out, and the classifier gives the bone
    conditions' logits. Which slices: those that the scan's manifest chose, else every slice in which at least
    ``min_area_mm2`` are marked. A slice with no mark is refused and said to be; nothing is made up for it.

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
        super().__init__(
            device, val_data_loader, [segmenter, classifier], classes=classes, expects=expects, writer=writer,
            after=after, val_handlers=val_handlers, progress=progress,
        )  # fmt: skip
        if copies and augment is None:
            raise ValueError(f"copies must be 0 where nothing augments them, got {copies}.")
        if copies < 0 or sw_batch_size < 1:
            raise ValueError(f"copies must be >= 0 and sw_batch_size >= 1, got {copies} and {sw_batch_size}.")
        self.segmenter, self.classifier = segmenter, classifier
        self.fit, self.scale, self.crop = fit, scale, crop
        self.scale_crop = scale if scale_crop is None else scale_crop
        self.fit_crop = fit if image_size is None else FitPlane(image_size, fill=fit.fill)
        self.fit_mark = FitPlane(self.fit_crop.size, fill=0.0, mode="nearest")
        self.slicewise = SimpleInferer() if inferer is None else inferer
        self.augment, self.copies = augment, copies
        self.levels = LEVELS if levels is None else levels
        self.min_area_mm2, self.sw_batch_size = min_area_mm2, sw_batch_size

    @torch.no_grad()
    def screen(self, scan: ScreeningScan) -> ScreenedScan:
        """Mark and classify the slices of one scan.

        Raises:
            InputError: if the scan cannot be read, is in other units, or its mask lies on another grid.
            NumericalError: if a network gives NaN or infinite numbers.
        """
        volume, truth = self.open(scan)
        chosen = dict(scan.slices)
        found = ScreenedScan(
            scan, volume, np.zeros(volume.shape, dtype=np.bool_), chosen_by="manifest" if chosen else "segmentation"
        )
        rows: list[dict[str, Any]] = []
        numbers = sorted(chosen) if chosen else range(volume.shape[0])
        for start in tqdm(range(0, len(numbers), self.sw_batch_size), desc=scan.name, disable=not self.progress):
            planes = [int(number) for number in numbers[start : start + self.sw_batch_size]]
            images = torch.stack([torch.from_numpy(read_plane(volume, plane)) for plane in planes])
            masks = None if truth is None else self._truth(truth, planes)
            rows += self._screen_slices(found, planes, images, masks, copy=0)
            for copy in range(1, self.copies + 1):
                rows += self._screen_slices(found, planes, *self._augmented(images, masks), copy=copy)
        table = self.table_of(scan, [{**row, "level": chosen.get(row["plane"], "")} for row in rows])
        found.table = table.sort_values(["plane", "copy"], ignore_index=True)
        return found

    def _screen_slices(
        self, found: ScreenedScan, planes: Sequence[int], images: torch.Tensor, masks: torch.Tensor | None, *, copy: int
    ) -> list[dict[str, Any]]:
        """Rows of some slices, or of augmented copies of them."""
        shape, spacing = found.volume.shape[1:], found.volume.pixel_spacing_mm
        fitted = torch.stack([self.scale(self.fit(image, spacing)) for image in images])
        drawn = finite(self.slicewise(fitted.to(self.state.device), self.segmenter), found.scan, planes).cpu()
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
                rows[-1] |= count_overlap(masks[index, 0].numpy() > 0.5, pixels)
            if mark is not None:
                crops[index] = self._crop(images[index], pixels, spacing)
            if copy == 0:
                found.marks[plane] = pixels
        if crops:
            batch = torch.stack(list(crops.values())).to(self.state.device)
            logits = finite(self.classifier(batch), found.scan, planes).float().cpu().numpy()
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
            [torch.from_numpy(np.isin(read_plane(truth, plane), wanted).astype(np.float32)) for plane in planes]
        )

    def _augmented(self, images: torch.Tensor, masks: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.augment is None:
            raise ValueError("augment must be given where copies are asked for.")
        blank = torch.zeros_like(images) if masks is None else masks
        pairs = [self.augment({"image": image, "mask": mask}) for image, mask in zip(images, blank, strict=True)]
        moved = torch.stack([torch.as_tensor(pair["mask"]) for pair in pairs])
        return torch.stack([torch.as_tensor(pair["image"]) for pair in pairs]), None if masks is None else moved


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
