"""Figures of the report of paper 5: planes with what is lost and invented, quality of specimens, Bland and Altman."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from bonemonai.analysis.method_morphometry import METHODS
from bonemonai.analysis.morphometry_agreement import REFERENCE
from bonemonai.report.figures import data_url
from bonemonai.report.resolution_inputs import TITLES, Panel

# Okabe and Ito's palette; in print markers tell methods apart
LOST, INVENTED = "#D55E00", "#56B4E9"
_STYLES = {"lr": ("#555555", "s"), "bicubic": ("#0072B2", "^"), "dl": ("#D55E00", "o")}
_DETAIL = 120  # pixels of a detail's edge


def panel_figure(panel: Panel, quality: pd.DataFrame) -> str:
    """Draw a plane by every method, and a detail with the bone that is lost and that is invented.

    Args:
        panel: the plane.
        quality: ``specimen``, ``plane``, ``method``, ``psnr_db``, ``ssim``.

    Returns:
        A ``data:`` URL of a PNG.

    Source:
        David et al., Fig. 2; the colours are ours.
    """
    order = (*METHODS, REFERENCE)
    figure = Figure(figsize=(3.1 * len(order), 6.9), layout="constrained")
    axes = figure.subplots(2, len(order))
    of_it = quality[(quality["specimen"] == panel.specimen) & (quality["plane"] == panel.plane)].set_index("method")
    window = _detail(panel)
    truth = panel.bone[REFERENCE]
    for axis, below, method in zip(axes[0], axes[1], order, strict=True):
        axis.imshow(panel.grey[method], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        words = TITLES[method]
        if method in of_it.index:
            row = of_it.loc[method]
            words += f"\nPSNR {row['psnr_db']:.2f} dB, SSIM {row['ssim']:.3f}"
        axis.set_title(words, fontsize=10)
        below.imshow(panel.grey[method][window], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for mask, colour in ((truth & ~panel.bone[method], LOST), (panel.bone[method] & ~truth, INVENTED)):
            shown = np.zeros((*mask[window].shape, 4))
            shown[mask[window]] = (*_rgb(colour), 0.75)
            below.imshow(shown, interpolation="nearest")
        for each in (axis, below):
            each.set_axis_off()
    handles = [Patch(color=LOST, label="bone that is lost"), Patch(color=INVENTED, label="bone that is invented")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return data_url(figure)


def quality_figure(specimens: pd.DataFrame) -> str:
    """Draw PSNR and SSIM of each specimen by every method.

    Args:
        specimens: ``specimen``, ``method``, ``psnr_db``, ``ssim``.

    Returns:
        A ``data:`` URL of a PNG.

    Source:
        David et al., Fig. 2, which shows SSIM.
    """
    names = list(dict.fromkeys(specimens["specimen"]))
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    for axis, (metric, label) in zip(figure.subplots(1, 2), (("ssim", "SSIM"), ("psnr_db", "PSNR (dB)")), strict=True):
        for method in METHODS:
            colour, marker = _STYLES[method]
            values = specimens[specimens["method"] == method].set_index("specimen")[metric].reindex(names)
            finite = values.where(np.isfinite(values))
            axis.plot(range(len(names)), finite, color=colour, marker=marker, ms=4, lw=0.8, label=TITLES[method])
        axis.set(xlabel="test specimen", ylabel=label, xticks=range(len(names)))
        axis.set_xticklabels(range(1, len(names) + 1), fontsize=8)
        axis.grid(axis="y", alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return data_url(figure)


def bland_altman_figure(morphometry: pd.DataFrame, agreement: pd.DataFrame, quantities: Sequence[str]) -> str:
    """Draw differences from the fine scan over the mean of both: a row a quantity, a column a method, one scale a row.

    Args:
        morphometry: ``specimen``, ``method``, ``quantity``, ``value``, ``unit``.
        agreement: see :func:`bonemonai.analysis.morphometry_agreement`.
        quantities: to draw.

    Returns:
        A ``data:`` URL of a PNG.

    Source:
        David et al., Fig. 2, for BA/TA; Bland & Altman, Stat Methods Med Res 8:135 (1999).
    """
    figure = Figure(figsize=(3.2 * len(METHODS), 2.5 * len(quantities)), layout="constrained")
    axes = figure.subplots(len(quantities), len(METHODS), squeeze=False, sharey="row", sharex="row")
    limits = {(row["quantity"], row["method"]): row for row in agreement.to_dict("records")}
    for line, quantity in zip(axes, quantities, strict=True):
        of_it = morphometry[morphometry["quantity"] == quantity]
        unit = "" if of_it["unit"].iloc[0] == "1" else f" ({of_it['unit'].iloc[0]})"
        values = of_it.pivot(index="specimen", columns="method", values="value")
        for axis, method in zip(line, METHODS, strict=True):
            colour, marker = _STYLES[method]
            means = (values[method] + values[REFERENCE]) / 2
            axis.axhline(0, color="#000000", lw=0.8)
            axis.plot(means, values[method] - values[REFERENCE], marker, color=colour, ms=5)
            _draw_limits(axis, limits[quantity, method], colour)
            if quantity == quantities[0]:
                axis.set_title(TITLES[method], fontsize=10)
            axis.set_xlabel(f"mean of both, {quantity}{unit}", fontsize=8)
            axis.tick_params(labelsize=8)
        line[0].set_ylabel(f"difference, {quantity}{unit}", fontsize=9)
    handles = [
        Line2D([], [], color="#555555", linestyle="-", label="bias"),
        Line2D([], [], color="#555555", linestyle="--", label="limits of agreement"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return data_url(figure)


def _draw_limits(axis: Any, row: Mapping[Any, Any], colour: str) -> None:
    for name, dash in (("bias", "-"), ("lower_limit", "--"), ("upper_limit", "--")):
        if np.isfinite(row[name]):
            axis.axhline(row[name], color=colour, linestyle=dash, lw=1.2)
        if np.isfinite(row[f"{name}_low"]):
            axis.axhspan(row[f"{name}_low"], row[f"{name}_high"], color=colour, alpha=0.08, lw=0)


def _detail(panel: Panel) -> tuple[slice, slice]:
    """The window with most border between bone and marrow in the fine scan: trabeculae, not the cortex's inside."""
    truth = panel.bone[REFERENCE]
    border = np.zeros(truth.shape, dtype=np.int64)
    border[:-1] += truth[:-1] != truth[1:]
    border[:, :-1] += truth[:, :-1] != truth[:, 1:]
    sums = np.pad(border.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    rows, columns = (min(_DETAIL, size) for size in truth.shape)
    found: NDArray[np.int64] = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns]
    found = found + sums[:-rows, :-columns]
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    return slice(int(row), int(row) + rows), slice(int(column), int(column) + columns)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue
