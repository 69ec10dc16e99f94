"""MONAI's sliding window, swept through a volume with accumulators for the open planes only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from monai.data.utils import compute_importance_map
from torch.nn import functional as F

from bonemonai.inferers.forward import Forward
from bonemonai.inferers.tiling import Box, WindowGrid

Fetch = Callable[[Box], torch.Tensor]
Put = Callable[[Box, torch.Tensor | None], None]
Empty = Callable[[Box], bool]

PIECE = 8  # planes that are handed on at once


class OverlapSweep:
    """Blend overlapping windows plane by plane.

    Windows, their batches, their weights and the order of additions are those of MONAI's
    ``sliding_window_inference``, so the result has the same bits. What differs is that a plane's accumulators live from
    the first window that touches the plane to the last.

    A volume may be swept in bands of rows. A window across the border of two bands is then run for both, and batches
    are composed anew within each band, which changes the last bits; ``recompute`` runs MONAI's batches instead,
    at the cost of windows that are thrown away.

    Args:
        grid: the windows.
        mode: "gaussian" or "constant".
        sigma_scale: see MONAI.
        sw_batch_size: windows a batch.
        cval: what an image smaller than the window is padded with.
        recompute: see above.
        device: where accumulators live.

    Attributes:
        seen: windows of all regions so far.
        left_out: those of them that were empty.
    """

    def __init__(
        self,
        grid: WindowGrid,
        *,
        mode: str = "constant",
        sigma_scale: Sequence[float] | float = 0.125,
        sw_batch_size: int = 1,
        cval: float = 0.0,
        recompute: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.grid, self.sw_batch_size, self.cval, self.recompute = grid, sw_batch_size, cval, recompute
        self.device = torch.device(device)
        self.seen = self.left_out = 0
        self.weight = compute_importance_map(grid.roi_size, mode=mode, sigma_scale=sigma_scale, device=self.device)

    def windows_in_band(self, rows: slice) -> list[tuple[int, ...]]:
        """(Row, column) starts, in the padded image, of the windows of each depth that a band of rows runs."""
        return list(itertools.product(*self.grid.starts[1:])) if self.recompute else self._in_rows(rows)

    def _in_rows(self, rows: slice) -> list[tuple[int, ...]]:
        low, high = (row + self.grid.pad[1][0] for row in (rows.start, rows.stop))
        touching = [row for row in self.grid.starts[1] if row < high and row + self.grid.roi_size[1] > low]
        return list(itertools.product(touching, self.grid.starts[2]))

    def number_of_batches(self, rows: slice) -> int:
        """Forward passes over a band of all planes, those that only ``recompute`` adds left out."""
        depth, size = self.grid.starts[0], self.sw_batch_size
        within = len(self._in_rows(rows))
        if within == len(self.grid.starts[1]) * len(self.grid.starts[2]):
            return -(-len(depth) * within // size)
        return len(depth) * -(-within // size)

    def batches(self, region: Box) -> list[list[tuple[int, ...]]]:
        """Windows to run for a region, batch by batch, as (plane, row, column) starts in the padded image.

        How batches are composed depends on the band but not on the planes of the region, so that a run that is
        continued, or shared among processes, gives the same bits.
        """
        depth, size = self.grid.starts[0], self.sw_batch_size
        first, stop = (plane + self.grid.pad[0][0] for plane in (region[0].start, region[0].stop))
        needed = [k for k, start in enumerate(depth) if start < stop and start + self.grid.roi_size[0] > first]
        inplane = self.windows_in_band(region[1])
        if len(inplane) < len(self.grid.starts[1]) * len(self.grid.starts[2]):
            # in a band, batches end with their depth: fewer planes are open at once
            rows: list[list[tuple[int, ...]]] = [[(depth[k], *start) for start in inplane] for k in needed]
            return [row[i : i + size] for row in rows for i in range(0, len(row), size)]
        # whole batches, wherever the region starts
        begin, end = needed[0] * len(inplane) // size * size, (needed[-1] + 1) * len(inplane)
        numbers = (range(i, min(i + size, len(depth) * len(inplane))) for i in range(begin, end, size))
        batches = [[(depth[n // len(inplane)], *inplane[n % len(inplane)]) for n in batch] for batch in numbers]
        if not self.recompute:
            return batches
        within = set(self._in_rows(region[1]))
        return [batch for batch in batches if any(start[1:] in within for start in batch)]

    def reads(self, region: Box) -> Box:
        """Planes, rows and columns of the volume that a region's windows see."""
        starts = [start for batch in self.batches(region) for start in batch]
        return tuple(
            slice(
                max(0, min(lows) - before),
                min(size, max(lows) - before + roi),
            )
            for lows, roi, size, (before, _) in zip(
                zip(*starts, strict=True), self.grid.roi_size, self.grid.shape, self.grid.pad, strict=True
            )
        )

    def run(self, region: Box, fetch: Fetch, put: Put, forward: Forward, empty: Empty | None = None) -> Iterator[int]:
        """Infer a region: any planes, a band of rows, all columns.

        Args:
            region: of the volume.
            fetch: gives (C, planes, rows, columns) of the network's input.
            put: takes finished parts of the output, (C', planes, rows, columns), or None where no window was run.
            forward: the network.
            empty: says whether a part of the volume need not be seen; windows of which it is true are left out.

        Yields:
            The first plane that is still needed, each time some are finished; what lies before may be forgotten.
        """
        batches = self.batches(region)
        open_planes = _OpenPlanes(region, self.grid, self.open_planes(region), self.weight)
        offset = self.grid.pad[0][0]
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            wanted = [start for start in batch if open_planes.touches(start)]
            self.seen += len(wanted)
            if empty is not None:
                before = len(wanted)
                wanted = [start for start in wanted if not empty(self._box(start))]
                self.left_out += before - len(wanted)
            if wanted:
                windows = torch.stack([self._window(fetch, start) for start in batch])
                output = forward(windows, f"windows at plane {batch[0][0] - offset}").to(self.device)
                output = output * self.weight
                for start, prediction in zip(batch, output, strict=True):
                    if start in wanted:
                        open_planes.add(start, prediction)
            done = region[0].stop if following is None else following[0][0] - offset
            for box, values in open_planes.close(done):
                put(box, values)
            yield max(0, min(done, open_planes.first))

    def open_planes(self, region: Box) -> int:
        """Most planes of a region that are open at once: a window's, and those a batch reaches ahead."""
        batches = self.batches(region)
        most: int = 0
        first = region[0].start + self.grid.pad[0][0]
        for batch in batches:
            most = max(most, batch[-1][0] + self.grid.roi_size[0] - max(first, batch[0][0]))
        planes: int = region[0].stop - region[0].start
        return min(most, planes)

    def _box(self, start: Sequence[int]) -> Box:
        """Part of the volume that a window lies on."""
        return tuple(
            slice(max(low - before, 0), min(low - before + roi, size))
            for low, roi, size, (before, _) in zip(
                start, self.grid.roi_size, self.grid.shape, self.grid.pad, strict=True
            )
        )

    def _window(self, fetch: Fetch, start: Sequence[int]) -> torch.Tensor:
        box = self._box(start)
        window = fetch(box)
        widths = [
            (inside.start - low + before, low - before + roi - inside.stop)
            for inside, low, roi, (before, _) in zip(box, start, self.grid.roi_size, self.grid.pad, strict=True)
        ]
        flat = [width for pair in reversed(widths) for width in pair]
        return F.pad(window, flat, value=self.cval) if any(flat) else window


class _OpenPlanes:
    """Accumulators of the planes that windows still add to; plane z lies at z modulo their number."""

    def __init__(self, region: Box, grid: WindowGrid, span: int, weight: torch.Tensor) -> None:
        self._region, self._grid, self._weight, self._span = region, grid, weight, span
        self._offset = [before for before, _ in grid.pad]
        self.first = region[0].start
        self._values: torch.Tensor | None = None
        self._counts = _Counts(region, grid, weight)

    def _overlap(self, start: Sequence[int]) -> list[tuple[int, int]]:
        """Part of a window that lies in the region, in the volume's own coordinates."""
        return [
            (max(low - off, part.start), min(low - off + size, part.stop))
            for low, off, size, part in zip(start, self._offset, self._grid.roi_size, self._region, strict=True)
        ]

    def touches(self, start: Sequence[int]) -> bool:
        """Whether a window has a voxel in the region."""
        return all(low < high for low, high in self._overlap(start))

    def add(self, start: Sequence[int], prediction: torch.Tensor) -> None:
        """Add a weighted prediction, (C, window)."""
        if self._values is None:
            inplane = [part.stop - part.start for part in self._region[1:]]
            self._values = prediction.new_zeros((len(prediction), self._span, *inplane))
        planes, *overlap = self._overlap(start)
        window = tuple(
            slice(low - begin + off, high - begin + off)
            for (low, high), begin, off in zip(overlap, start[1:], self._offset[1:], strict=True)
        )
        place = tuple(
            slice(low - part.start, high - part.start)
            for (low, high), part in zip(overlap, self._region[1:], strict=True)
        )
        begin = start[0] - self._offset[0]
        for part, places in self._pieces(*planes):
            box = (slice(None), slice(part.start - begin, part.stop - begin), *window)
            self._values[(slice(None), places, *place)] += prediction[box]

    def close(self, done: int) -> Iterator[tuple[Box, torch.Tensor | None]]:
        """Hand on the planes before ``done``, a few at a time, and make their place free."""
        last = min(done, self._region[0].stop)
        for start in range(self.first, last, PIECE):
            for planes, places in self._pieces(start, min(start + PIECE, last)):
                box = (planes, *self._region[1:])
                if self._values is None:
                    yield box, None
                    continue
                # counts are of all windows, so that they repeat; where some were left out, voxels are masked anyway
                yield box, self._values[:, places] / self._counts(planes)
                self._values[:, places] = 0
        self.first = max(self.first, last)

    def _pieces(self, low: int, high: int) -> Iterator[tuple[slice, slice]]:
        """Planes and their places, in one or two pieces."""
        while low < high:
            place = low % self._span
            stop = min(high, low + self._span - place)
            yield slice(low, stop), slice(place, place + stop - low)
            low = stop


class _Counts:
    """Sums of the windows' weights, plane by plane, added in MONAI's order; they repeat with the windows."""

    def __init__(self, region: Box, grid: WindowGrid, weight: torch.Tensor) -> None:
        self._region, self._grid, self._weight = region, grid, weight
        self._known: dict[tuple[int, ...], torch.Tensor] = {}

    def __call__(self, planes: slice) -> torch.Tensor:
        start, number = planes.start + self._grid.pad[0][0], planes.stop - planes.start
        depths = [d for d in self._grid.starts[0] if d < start + number and d + self._grid.roi_size[0] > start]
        key = (number, *(d - start for d in depths))
        if key not in self._known:
            if len(self._known) >= 2:
                self._known.clear()
            self._known[key] = self._sum(depths, start, number)
        return self._known[key]

    def _sum(self, depths: Sequence[int], start: int, number: int) -> torch.Tensor:
        size = [part.stop - part.start for part in self._region[1:]]
        counts = self._weight.new_zeros((number, *size))
        first = [part.start + before for part, (before, _) in zip(self._region[1:], self._grid.pad[1:], strict=True)]
        for window in itertools.product(depths, *self._grid.starts[1:]):
            target, source = [], []
            for low, begin, extent, roi in zip(
                window, (start, *first), (number, *size), self._grid.roi_size, strict=True
            ):
                a, b = max(low, begin), min(low + roi, begin + extent)
                target.append(slice(a - begin, max(b, a) - begin))
                source.append(slice(a - low, max(b, a) - low))
            counts[tuple(target)] += self._weight[tuple(source)]
        return counts
