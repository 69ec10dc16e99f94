"""Figures of the report of paper 3: overlaps, ROC curves, decisions, learning curves, reliability, coverage."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.report.figures import data_url
from bonemonai.report.screening_inputs import LEVELS, OVERLAPS

# Okabe and Ito's palette; in print dashes and markers tell lines apart, and hatches tell areas apart
_CURVES = (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#000000", "-.", "^"))
LINES = (*_CURVES, ("#009E73", ":", "D"), ("#CC79A7", (0, (5, 1, 1, 1)), "v"))
PARTS = (("#F0E442", ""), ("#56B4E9", "//"), ("#D55E00", "xx"), ("#FFFFFF", ".."))
EDGE = "#1a1a1a"
LEVEL_TITLES = {"subject": "subjects", "slice": "slices", "image": "with copies"}
_OVERLAP_TITLES = {"dice_index": "Dice index", "iou": "IoU", "pixel_accuracy": "pixel accuracy"}
_PAIR = {"before": ("#D55E00", "--", "s"), "after": ("#0072B2", "-", "o")}


def overlap_figure(histogram: pd.DataFrame) -> str:
    """Count slices by the overlap of mark and truth.

    Args:
        histogram: see :func:`bonemonai.analysis.overlap_histogram`; a first bin may reach from 0 to where the others
            begin, and is drawn as wide as they are.

    Returns:
        A ``data:`` URL of a PNG.

    Source:
        Tang et al., Fig. 5.
    """
    figure = Figure(figsize=(10.0, 3.0), layout="constrained")
    axes = figure.subplots(1, len(OVERLAPS), sharey=True)
    for axis, metric in zip(axes, OVERLAPS, strict=True):
        bins = histogram[histogram["metric"] == metric]
        width = float((bins["high"] - bins["low"]).min()) if len(bins) else 1.0
        lower = np.maximum(bins["low"], bins["high"] - width)
        axis.bar(lower, bins["images"], width=width, align="edge", color="#56B4E9", edgecolor=EDGE, hatch="//", lw=0.6)
        wide = bins[bins["high"] - bins["low"] > 1.5 * width]
        for high, images in wide[["high", "images"]].to_numpy(float).tolist():
            axis.text(high - width / 2, images, f"below\n{high:g}", ha="center", va="bottom", fontsize=8)
        axis.set(xlabel=_OVERLAP_TITLES[metric], ylim=(0, 1.25 * max(1.0, float(histogram["images"].max()))))
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("slices")
    return data_url(figure)


def roc_figure(roc: pd.DataFrame) -> str:
    """Draw the ROC curve of each class against the others, a panel for subjects, slices, and images with copies.

    Args:
        roc: ``level``, ``class``, ``one_minus_specificity``, ``sensitivity``.

    Returns:
        A ``data:`` URL of a PNG; empty where there is no curve.

    Source:
        Tang et al., Fig. 6.
    """
    levels = [level for level in LEVELS if (roc["level"] == level).any()]
    if not levels:
        return ""
    figure = Figure(figsize=(3.4 * len(levels) + 0.6, 4.6), layout="constrained")
    axes = figure.subplots(1, len(levels), squeeze=False, sharey=True)[0]
    for axis, level in zip(axes, levels, strict=True):
        axis.plot([0, 1], [0, 1], color="#888888", linestyle=":", linewidth=1)
        for name, (colour, dash, marker) in zip(SCREENING_CLASSES, _CURVES, strict=True):
            rows = roc[(roc["level"] == level) & (roc["class"] == name)]
            style: dict[str, Any] = {
                "color": colour,
                "linestyle": dash,
                "marker": marker,
                "ms": 4,
                "markevery": max(1, len(rows) // 8),
            }
            axis.plot(rows["one_minus_specificity"], rows["sensitivity"], label=name, **style)
        axis.set(
            title=LEVEL_TITLES[level], xlabel="1 - specificity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal"
        )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("sensitivity")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return data_url(figure)


def decisions_figure(confusions: Mapping[str, pd.DataFrame]) -> str:
    """Stack the decisions on each true class, as shares of the class, with their counts.

    Args:
        confusions: title to counts, true classes by row, decisions by column.

    Returns:
        A ``data:`` URL of a PNG; empty where there are none.

    Source:
        Tang et al., Fig. 7.
    """
    if not confusions:
        return ""
    figure = Figure(figsize=(2.9 * len(confusions) + 0.6, 4.2), layout="constrained")
    axes = figure.subplots(1, len(confusions), squeeze=False, sharey=True)[0]
    drawn: dict[str, Any] = {}
    for axis, (title, counts) in zip(axes, confusions.items(), strict=True):
        totals = counts.sum(axis=1).to_numpy(float)
        base = np.zeros(len(counts))
        for (name, column), (colour, hatch) in zip(counts.items(), PARTS, strict=False):
            shares = np.divide(column.to_numpy(float), totals, out=np.zeros_like(totals), where=totals > 0)
            axis.bar(np.arange(len(counts)), shares, bottom=base, color=colour, hatch=hatch, edgecolor=EDGE, lw=0.8)
            for place, (low, share, count) in enumerate(zip(base, shares, column, strict=True)):
                _write_count(axis, place, low, share, count)
            drawn[str(name)] = Patch(facecolor=colour, hatch=hatch, edgecolor=EDGE, label=str(name))
            base += shares
        labels = [str(name).replace(" bone mass", "\nbone mass") for name in counts.index]
        axis.set_xticks(range(len(counts)), labels, fontsize=9)
        axis.set(ylim=(0, 1), xlabel="true condition")
        axis.set_title(title, fontsize=10, parse_math=False)
    axes[0].set_ylabel("share of decisions")
    figure.legend(handles=list(drawn.values()), loc="outside lower center", ncols=4, frameon=False, title="decision")
    return data_url(figure)


def learning_figure(curves: Mapping[str, pd.DataFrame]) -> str:
    """Draw loss and metrics of the validation over epochs, a line a training.

    Losses of segmentation and classification are not of one scale: trainings with other metrics have other panels.

    Args:
        curves: name to ``epoch``, ``loss`` and any metrics.

    Returns:
        A ``data:`` URL of a PNG; empty where there are no curves.
    """
    if not curves:
        return ""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, table in curves.items():
        groups.setdefault(tuple(str(column) for column in table if column not in ("epoch", "loss")), []).append(name)
    figure = Figure(figsize=(10.0, 3.2 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), 2, squeeze=False)
    for (left, right), (metrics, names) in zip(axes, groups.items(), strict=True):
        lines = itertools.cycle(LINES)
        for name in names:
            table, (colour, dash, marker) = curves[name], next(lines)
            style: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": marker, "ms": 3, "lw": 1.2}
            left.plot(table["epoch"], table["loss"], label=plain(name or "training"), **style)
            for metric in metrics:
                rows = table[["epoch", metric]].dropna()
                right.plot(rows["epoch"], rows[metric], label=plain(name or metric), **style)
        left.set(xlabel="epoch", ylabel="loss of training")
        right.set(xlabel="epoch", visible=bool(metrics))
        right.set_ylabel(f"{', '.join(metrics).replace('_', ' ')} of validation", parse_math=False)
        left.legend(frameon=False)
        for axis in (left, right):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.grid(alpha=0.3)
    return data_url(figure)


def reliability_figure(table: pd.DataFrame) -> str:
    """Draw how many slices are right against the probability of what was decided, before and after the temperature.

    Args:
        table: see :func:`bonemonai.report.screening_inputs.reliability`.

    Returns:
        A ``data:`` URL of a PNG.
    """
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="#888888", linestyle=":", linewidth=1, label="as often as said")
    for stage, (colour, dash, marker) in _PAIR.items():
        rows = table[table["stage"] == stage]
        if len(rows):
            style: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": marker, "ms": 6, "lw": 1.2}
            label = f"{stage} ({rows['slices'].sum():.0f} slices)"
            axis.plot(rows["confidence"], rows["accuracy"], label=label, **style)
    axis.set(xlabel="probability of what was decided (mean of a bin)", ylabel="share that is right", aspect="equal")
    axis.set(xlim=(0.3, 1.02), ylim=(-0.02, 1.02), aspect="auto")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="best")
    return data_url(figure)


def coverage_figure(tables: Mapping[str, pd.DataFrame], chosen: Mapping[str, tuple[float, float]]) -> str:
    """Draw the accuracy of answers over the share of subjects that get one, a point a band.

    Args:
        tables: model to its bands, see :func:`bonemonai.analysis.coverage_table`.
        chosen: model to coverage and accuracy at the band that was used; models may be missing.

    Returns:
        A ``data:`` URL of a PNG; empty where there are no tables.
    """
    if not tables:
        return ""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    for (name, table), (colour, dash, marker) in zip(tables.items(), itertools.cycle(LINES), strict=False):
        rows = table[["coverage", "accuracy"]].dropna().drop_duplicates()
        style: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": marker, "ms": 4, "lw": 1.2}
        axis.plot(rows["coverage"], rows["accuracy"], label=plain(name), **style)
        if name in chosen:
            ring: dict[str, Any] = {"marker": "o", "ms": 13, "mfc": "none", "mec": colour, "mew": 1.8, "linestyle": ""}
            axis.plot(*([value] for value in chosen[name]), **ring)
    axis.set(
        xlabel="share of subjects with an answer",
        ylabel="accuracy of the answers",
        xlim=(-0.02, 1.04),
        ylim=(-0.02, 1.04),
    )
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower left")
    return data_url(figure)


def _write_count(axis: Any, place: int, low: float, share: float, count: float) -> None:
    if share >= 0.05:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
        axis.text(place, low + share / 2, f"{count:.0f}", ha="center", va="center", fontsize=9, bbox=box)


def plain(text: str) -> str:
    """A name as a legend takes it, where a dollar would begin a formula, and a leading _ hide it.

    Args:
        text: the name.
    """
    return " " * text.startswith("_") + text.replace("$", r"\$")
