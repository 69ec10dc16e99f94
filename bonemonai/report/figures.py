"""Figures of a report, as PNG data that an HTML page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's palette: told apart by colour-blind readers, and by lightness in print
TRUTH, PREDICTION = "#56B4E9", "#D55E00"


def overlay_figure(planes: Sequence[Mapping[str, Any]]) -> str:
    """Show planes with the outlines of truth and prediction.

    Args:
        planes: each with ``image``, ``truth`` and ``prediction`` (H, W), and its ``title``.

    Returns:
        A ``data:`` URL of a PNG.
    """
    figure = Figure(figsize=(4.6 * len(planes), 9.4), layout="constrained")
    axes = figure.subplots(2, len(planes), squeeze=False)
    for column, plane in enumerate(planes):
        crop = _busiest_crop(plane["truth"])
        for row, window in enumerate((np.s_[:, :], crop)):
            axis = axes[row, column]
            axis.imshow(plane["image"][window], cmap="gray", interpolation="nearest")
            for name, colour, width in (("truth", TRUTH, 1.6), ("prediction", PREDICTION, 0.9)):
                mask = plane[name][window]
                if mask.any():
                    axis.contour(mask, levels=[0.5], colors=colour, linewidths=width)
            axis.set_title(plane["title"] if row == 0 else "detail", fontsize=10)
            axis.set_axis_off()
    handles = [axes[0, 0].plot([], [], color=c, label=n)[0] for n, c in (("truth", TRUTH), ("prediction", PREDICTION))]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return data_url(figure)


def volume_figure(volumes_um3: Mapping[str, NDArray[np.float64]]) -> str:
    """Compare distributions of lacuna volume.

    Args:
        volumes_um3: name to volumes; at most two.

    Returns:
        A ``data:`` URL of a PNG.
    """
    figure = Figure(figsize=(7.0, 3.4), layout="constrained")
    axis = figure.subplots()
    largest = max((float(v.max()) for v in volumes_um3.values() if v.size), default=1.0)
    bins = np.geomspace(20.0, max(largest, 40.0), 31)
    styles: tuple[dict[str, Any], ...] = (
        {"color": TRUTH, "alpha": 0.6},
        {"color": PREDICTION, "histtype": "step", "linewidth": 1.8},
    )
    for (name, values), style in zip(volumes_um3.items(), styles, strict=False):
        axis.hist(values, bins=bins.tolist(), label=f"{name} (n = {values.size})", **style)
    axis.set(xscale="log", xlabel="lacuna volume Lc.V (µm³)", ylabel="lacunae")
    axis.legend(frameon=False)
    return data_url(figure)


def data_url(figure: Figure) -> str:
    """Encode a figure for a page that needs no other file.

    Args:
        figure: to draw, at 110 dots an inch.

    Returns:
        A ``data:`` URL of a PNG, the same for the same figure.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _busiest_crop(truth: NDArray[Any], size: int = 110) -> tuple[slice, slice]:
    """Window of the plane that shows most of the truth."""
    rows, columns = (max(1, n - size) for n in truth.shape)
    marked: tuple[int, int, int] = max(
        (int(np.count_nonzero(truth[r : r + size, c : c + size])), -r, -c)
        for r in range(0, rows, 22)
        for c in range(0, columns, 22)
    )
    row, column = -marked[1], -marked[2]
    return np.s_[row : row + size, column : column + size]
