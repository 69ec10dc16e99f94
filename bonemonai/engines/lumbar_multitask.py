"""Ignite's engine over lumbar CT scans: find L1 and L2, outline them, classify the bone (paper 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from bonemonai.data.axial_volume import AxialVolume
from bonemonai.data.lumbar_pairs import PAIR, levels_apart, pair_of_mask
from bonemonai.data.lumbar_slices import LEVELS
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.engines.central_slices import choose_central_slices
from bonemonai.engines.pair_gradcam import pair_gradcam
from bonemonai.engines.scan_screening import ScanScreening, ScreenedScan, Writer, count_overlap, finite, read_plane
from bonemonai.errors import InputError
from bonemonai.networks.multitask_network import MultitaskNetwork, MultitaskPrediction
from bonemonai.networks.yolo_detections import select_detections
from bonemonai.transforms.fit_plane import FitPlane
from bonemonai.transforms.level_set_refinement import LevelSetRefinement
from bonemonai.transforms.marked_crop import find_mark
from bonemonai.transforms.vertebra_boxes import mask_boxes

_LEAST_SCORE = 0.05  # of boxes that are listed: average precision asks for those that are not found, too
_ANY = "vertebra"
_HEIGHT_MM = (20.0, 55.0)  # least and largest from the middle of a lumbar vertebra to that of the next
SIDES = ("x1", "y1", "x2", "y2")


class LumbarMultitask(ScanScreening):
    """Screen scans one after the other by one network, see :class:`ScanScreening`.

    The slices of L1 and L2 are those that the scan's manifest or mask chose; else the locator is run over all axial
    slices, see :func:`bonemonai.engines.choose_central_slices`. Around the box in each slice a square is cut, outlined
    and classified. A vertebra whose slice or box is not found is missing: its row says so, and nothing is made up for
    it; the other decides alone. Where neither is found there is no decision. Of a slice that is known to be L1's the
    box counts that is most surely a vertebra, also if the locator takes it for L2's: seen from above they look alike.

    The table has two rows a scan, L1's and L2's, and these columns besides: ``box_score``, ``x1``, ``y1``, ``x2``,
    ``y2`` (of the box, pixels of the slice, pixel k reaching from k to k + 1), ``fusion_weight``, and where there is a
    mask ``empty`` ("", "truth", "prediction", "both"), ``hd95_mm`` and ``mean_surface_distance_mm`` by ``distances``.
    Both rows hold the subject's logits, which are those of both vertebrae together. ``plane`` is -1 where no slice is
    known. ``tables["boxes"]`` lists all boxes that score 0.05 and more, of each vertebra by name and of any
    ("vertebra"), and the true ones.

    Args:
        device: of the network.
        val_data_loader: the scans, see :func:`bonemonai.data.list_screening_scans`.
        network: with weights.
        classes: names, in the order of the outputs.
        fit: brings slices to the size that the network was trained with.
        scale: from HU to [0, 1].
        pair: names of both vertebrae, the upper one first.
        levels: vertebra to its value in a truth mask; all that the mask holds.
        choose: whether a scan's mask says which slices are looked at; else the locator does, also where there is one.
        allow_cut: take vertebrae that the scan cuts off, whose middle is not known; with ``choose``.
        component: of a mask, see :func:`bonemonai.transforms.find_mark`: "largest", for vertebral bodies, or "all",
            for whole vertebrae, of which a slice shows several parts.
        refine: draws the mask to the grey values; None, the default, leaves it as the network gives it.
        distances: from truth and prediction, (rows, columns) of bool, and the spacing to ``empty`` and the distances.
        gradcam: keep what in the crops speaks for the decision.
        sw_batch_size: slices at once, while slices are searched.
        expects: units that scans may have.
        writer: takes the scans that were screened.
        after: called when all is written, before failures are raised.
        val_handlers: of Ignite.
        progress: show bars.

    Raises:
        ValueError: if ``pair`` is not of ``levels``, or ``sw_batch_size`` is below 1.

    Source:
        Zhang et al., Figures 1 and 2. The search for slices is ours.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: Sequence[ScreeningScan],
        network: MultitaskNetwork,
        *,
        classes: Sequence[str],
        fit: FitPlane,
        scale: Callable[[Any], torch.Tensor],
        pair: Sequence[str] = PAIR,
        levels: Mapping[str, int] | None = None,
        choose: bool = True,
        allow_cut: bool = False,
        component: str = "largest",
        refine: LevelSetRefinement | None = None,
        distances: Callable[..., Mapping[str, Any]] | None = None,
        gradcam: bool = False,
        sw_batch_size: int = 8,
        expects: Sequence[str] | None = ("HU",),
        writer: Writer | None = None,
        after: Callable[[], Any] | None = None,
        val_handlers: Sequence[Any] | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(
            device, val_data_loader, [network], classes=classes, expects=expects, writer=writer, after=after,
            val_handlers=val_handlers, progress=progress,
        )  # fmt: skip
        self.levels = LEVELS if levels is None else levels
        if len(pair) != 2 or not set(pair) <= set(self.levels):
            raise ValueError(f"pair must be two of {', '.join(self.levels)}, got {', '.join(map(str, pair))}.")
        if sw_batch_size < 1:
            raise ValueError(f"sw_batch_size must be >= 1 (slices), got {sw_batch_size}.")
        self.network, self.fit, self.scale, self.pair = network, fit, scale, tuple(pair)
        self.choose, self.allow_cut, self.component = choose, allow_cut, component
        self.gap_mm = tuple(levels_apart(self.pair) * height for height in _HEIGHT_MM)
        self.refine, self.distances, self.gradcam = refine, distances, gradcam
        self.sw_batch_size = sw_batch_size

    @torch.no_grad()
    def screen(self, scan: ScreeningScan) -> ScreenedScan:
        """Find, outline and classify the vertebrae of one scan.

        Raises:
            InputError: if the scan cannot be read, is in other units, or its mask lies on another grid.
            NumericalError: if the network gives NaN or infinite numbers.
        """
        volume, truth = self.open(scan)
        planes = self._chosen(scan)
        found = ScreenedScan(
            scan, volume, np.zeros(volume.shape, dtype=np.bool_), chosen_by="locator" if planes is None else "manifest"
        )
        planes = self._search(found) if planes is None else planes
        images = self._pair(volume, planes)
        detections, boxes, scores = self._locate(found, images, planes)
        centres = (boxes[:, [1, 0]] + boxes[:, [3, 2]]) / 2
        prediction = self.network(images, centres[None], parts=("segmenter", "classifier"))
        if bool(prediction.found.any()):
            finite(prediction.logits, scan, [plane for plane in planes if plane is not None])
        rows = []
        for index, (level, plane) in enumerate(zip(self.pair, planes, strict=True)):
            row = self._vertebra(found, prediction, index, plane, truth)
            row |= {"level": level, "box_score": float(scores[index]) if boxes[index].isfinite().all() else np.nan}
            rows.append(row | self._in_slice(boxes[index], volume))
        found.table = self.table_of(scan, rows)
        found.tables["boxes"] = self._boxes(found, detections, planes, truth)
        if self.gradcam and bool(prediction.found.any()):
            maps = pair_gradcam(self.network, images, centres[None])[0].cpu().numpy()
            found.attention = {
                plane: maps[index]
                for index, plane in enumerate(planes)
                if plane is not None and bool(prediction.found[0, index])
            }
        return found

    def _chosen(self, scan: ScreeningScan) -> list[int | None] | None:
        """The middle one of the slices that were chosen of each vertebra, or that of its mask; None where none were."""
        if any(level for _, level in scan.slices):
            named = {level: sorted(plane for plane, name in scan.slices if name == level) for level in self.pair}
            return [named[level][len(named[level]) // 2] if named[level] else None for level in self.pair]
        if not self.choose or not scan.mask:
            return None
        planes = pair_of_mask(scan.mask, levels=self.levels, pair=self.pair, allow_cut=self.allow_cut)
        return [plane if plane >= 0 else None for plane in planes]

    def _search(self, found: ScreenedScan) -> list[int | None]:
        """Run the locator over all slices."""
        volume = found.volume
        if self.network.locator.num_classes != 2:
            raise InputError(
                volume.path, "has neither mask nor chosen slices, and a locator of one class tells no vertebra from "
                "another; name the slices in a manifest (plane, level)."
            )  # fmt: skip
        seen, scores = np.zeros(volume.shape[0]), np.zeros((volume.shape[0], 2))
        starts = range(0, volume.shape[0], self.sw_batch_size)
        for start in tqdm(starts, desc=f"{found.scan.name}, slices", disable=not self.progress):
            planes = list(range(start, min(start + self.sw_batch_size, volume.shape[0])))
            slices = torch.stack([self._slice(volume, plane) for plane in planes]).to(self.state.device)
            best = self.network.locator.best(self._outputs(found.scan, slices, planes))
            seen[planes] = best.objectness.cpu().numpy()
            scores[planes] = (best.objectness[:, None] * best.probabilities).cpu().numpy()
        interval = volume.slice_interval_mm or 1.0
        return list(
            choose_central_slices(scores, seen, interval, threshold=self.network.score_threshold, gap_mm=self.gap_mm)
        )

    def _outputs(
        self, scan: ScreeningScan, slices: torch.Tensor, planes: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = self.network.locator(slices)
        for output in outputs if planes else ():
            finite(output, scan, planes)
        return outputs

    def _slice(self, volume: AxialVolume, plane: int) -> torch.Tensor:
        fitted = self.fit(torch.from_numpy(read_plane(volume, plane)), volume.pixel_spacing_mm)
        return torch.as_tensor(self.scale(fitted))

    def _pair(self, volume: AxialVolume, planes: Sequence[int | None]) -> torch.Tensor:
        """Both slices, (1, 2, 1, S, S); black where there is none."""
        blank = torch.zeros(1, self.fit.size, self.fit.size)
        slices = [blank if plane is None else self._slice(volume, plane) for plane in planes]
        return torch.stack(slices)[None].to(self.state.device)

    def _locate(
        self, found: ScreenedScan, images: torch.Tensor, planes: Sequence[int | None]
    ) -> tuple[pd.DataFrame, torch.Tensor, torch.Tensor]:
        """All boxes of both slices, and the best of each slice, NaN where it is missing, with their scores."""
        outputs = self._outputs(found.scan, images[0], [plane for plane in planes if plane is not None])
        best = self.network.locator.best(outputs)
        absent = torch.tensor([plane is None for plane in planes], device=best.boxes.device)
        missing = absent | (best.objectness < self.network.score_threshold)
        boxes = best.boxes.masked_fill(missing[:, None], np.nan)
        return self._detections(found, outputs, planes), boxes, best.objectness

    def _detections(
        self, found: ScreenedScan, outputs: Sequence[torch.Tensor], planes: Sequence[int | None]
    ) -> pd.DataFrame:
        """Boxes of each class, and of any ("vertebra"), after non-maximum suppression."""
        decoded = self.network.locator.decode(outputs)
        names = list(self.pair) if decoded.probabilities.shape[2] == 2 else []
        rows: list[dict[str, Any]] = []
        for index, plane in enumerate(planes):
            if plane is None:
                continue
            whether = decoded.objectness[index][:, None]
            kinds = [(whether, [_ANY])]
            # one class says no more than whether there is a vertebra: its box is that of the slice's own
            kinds.append((whether * decoded.probabilities[index], names) if names else (whether, [self.pair[index]]))
            for scores, labels in kinds:
                kept = select_detections(decoded.boxes[index], scores, score_threshold=_LEAST_SCORE)
                for box, score, label in zip(*kept, strict=True):
                    sides = self._in_slice(box, found.volume)
                    rows.append({"plane": plane, "level": labels[int(label)], "score": float(score), **sides})
        table = pd.DataFrame(rows, columns=["plane", "level", "score", *SIDES])
        return table.assign(kind="found")

    def _vertebra(
        self,
        found: ScreenedScan,
        prediction: MultitaskPrediction,
        index: int,
        plane: int | None,
        truth: AxialVolume | None,
    ) -> dict[str, Any]:
        """A vertebra's row; its mask, heat map and crop go into the scan."""
        level, volume = self.pair[index], found.volume
        row: dict[str, Any] = {
            "plane": -1 if plane is None else plane, "copy": 0, "pixels": 0, "area_mm2": 0.0, "components": 0,
            "at_border": False, "refusal": "", "fusion_weight": float(prediction.weights[0, index]),
        }  # fmt: skip
        if plane is None:
            why = "was found" if found.chosen_by == "locator" else "was chosen, or is shown whole"
            return row | {"refusal": f"no slice of {level} {why}"} | self._missed(found, level)
        mark = None
        if not bool(prediction.found[0, index]):
            row["refusal"] = f"no box of {level} was found"
        else:
            mask, heat = self._drawn(prediction, index)
            drawn = self._to_slice(mask, prediction, index, volume)
            mark = find_mark(drawn, min_pixels=1, component=self.component)
            found.crops[plane] = prediction.crops[index, 0].float().cpu().numpy()
            if heat is not None:
                found.heat_maps[plane] = self._to_slice(heat, prediction, index, volume)[0].numpy()
            row |= {
                f"logit_{name}": float(value)
                for name, value in zip(self.classes, prediction.logits[0], strict=True)
            }  # fmt: skip
        pixels = np.zeros(volume.shape[1:], dtype=np.bool_) if mark is None else mark.pixels
        if mark is not None:
            spacing = volume.pixel_spacing_mm
            row |= {"pixels": int(pixels.sum()), "area_mm2": float(pixels.sum()) * spacing[0] * spacing[1]}
            row |= {"components": mark.components, "at_border": mark.at_border}
        found.marks[plane] = pixels
        found.levels[plane] = self.levels[level]
        if truth is not None:
            true = read_plane(truth, plane)[0] == self.levels[level]
            row |= count_overlap(true, pixels)
            row |= {} if self.distances is None else self.distances(true, pixels, volume.pixel_spacing_mm)
            if not true.any():  # another vertebra's slice: what is missed is this one's own
                row["fn"] = self._missed(found, level).get("fn", 0)
        return row

    def _missed(self, found: ScreenedScan, level: str) -> dict[str, Any]:
        """What a vertebra that was not found counts against the truth: all of it, in its middle slice."""
        true = self._middle(found, level)
        if true is None:
            return {}
        return {"tp": 0, "fp": 0, "fn": int(true[1].sum()), "empty": "prediction"}

    def _middle(self, found: ScreenedScan, level: str) -> tuple[int, NDArray[np.bool_]] | None:
        """A vertebra's middle slice and its mask there, by the truth; None where that does not show it."""
        if not found.scan.mask:
            return None
        try:
            planes = pair_of_mask(found.scan.mask, levels=self.levels, pair=self.pair, allow_cut=self.allow_cut)
        except InputError:
            return None
        plane = planes[self.pair.index(level)]
        truth = self.open_truth(found.scan)
        if plane < 0 or truth is None:
            return None
        return plane, read_plane(truth, plane)[0] == self.levels[level]

    def _drawn(self, prediction: MultitaskPrediction, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mask, as a probability or refined, and heat map of a crop, (1, S, S)."""
        mask = prediction.mask[index].float().sigmoid().cpu()
        if self.refine is not None:
            mask = torch.as_tensor(self.refine(mask, prediction.crops[index].float().cpu())).float()
        return mask, None if prediction.boundary is None else prediction.boundary[index].float().cpu()

    def _to_slice(
        self, crop: torch.Tensor, prediction: MultitaskPrediction, index: int, volume: AxialVolume
    ) -> torch.Tensor:
        """Put a crop at its place in the square, and bring that back to the slice."""
        size, edge = self.fit.size, crop.shape[-1]
        row, column = prediction.corners[index].tolist()
        square = torch.zeros(1, size, size)
        top, left = max(row, 0), max(column, 0)
        bottom, right = min(row + edge, size), min(column + edge, size)
        square[:, top:bottom, left:right] = crop[:, top - row : bottom - row, left - column : right - column]
        return self.fit.inverse(square, volume.shape[1:], volume.pixel_spacing_mm)

    def _in_slice(self, box: torch.Tensor, volume: AxialVolume) -> dict[str, float]:
        """Sides of a box in pixels of the slice."""
        placed = self.fit.inverse_boxes(box[None].cpu(), volume.shape[1:], volume.pixel_spacing_mm)[0]
        return {name: float(value) for name, value in zip(SIDES, placed, strict=True)}

    def _boxes(
        self, found: ScreenedScan, detections: pd.DataFrame, planes: Sequence[int | None], truth: AxialVolume | None
    ) -> pd.DataFrame:
        """All boxes of the two slices, found and true; of a vertebra that was missed the one in its middle slice."""
        rows: list[dict[str, Any]] = []
        for level, plane in zip(self.pair, planes, strict=True):
            if truth is None:
                break
            true = None if plane is None else read_plane(truth, plane)[0] == self.levels[level]
            shown = (plane, true) if true is not None and true.any() else self._middle(found, level)
            if shown is not None:
                box = mask_boxes(torch.from_numpy(shown[1])[None])[0]
                sides = dict(zip(SIDES, box.tolist(), strict=True))
                rows += [{"plane": shown[0], "level": name, "kind": "true", **sides} for name in (level, _ANY)]
        parts = [part for part in (detections, pd.DataFrame(rows)) if len(part)]
        table = pd.concat(parts, ignore_index=True) if parts else detections
        table = table.assign(subject=found.scan.subject, scan=found.scan.name)
        return table.reindex(columns=["subject", "scan", "plane", "kind", "level", "score", *SIDES])
