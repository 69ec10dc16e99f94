"""Figures of the report of paper 4: confusion matrices, bars, learning curves, Grad-CAM, ablation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.losses.multitask_loss import TASKS
from bonemonai.report.figures import data_url
from bonemonai.report.multitask_inputs import GradcamCase
from bonemonai.report.multitask_tables import ALL, PAIRS, overall_accuracy
from bonemonai.report.screening_report_figures import EDGE, LINES, PARTS, plain

CASES_A_CLASS = 3
_VERTEBRAE = ("L1", "L2")
_TASK_TITLES = {"confidence": "confidence", "dice": "Dice", "heatmap": "heat map", "classification": "cross-entropy"}
_TASK_LINES = (*LINES, ("#E69F00", (0, (3, 1, 1, 1, 1, 1)), "P"))
_SHARES, _HEAT, _OUTLINE = "Blues", "inferno", "#0072B2"
# of the paper, of this run: told apart by lightness and hatching too
_PAPER, _RUN = PARTS[0], PARTS[1]
_PAPER_LINE, _RUN_LINE = ("#D55E00", "--", "s"), ("#0072B2", "-", "o")
_PANELS_A_ROW, _CASES_A_ROW = 3, 5


def confusion_figure(confusions: Mapping[str, pd.DataFrame]) -> str:
    """Show confusion matrices, a panel a model, with counts and shares of the true class.

    Args:
        confusions: title to counts, true classes by row, decisions by column.

    Returns:
        A ``data:`` URL of a PNG; empty where there are none.

    Source:
        Zhang et al., Fig. 7.
    """
    if not confusions:
        return ""
    across = min(_PANELS_A_ROW, len(confusions))
    down = math.ceil(len(confusions) / across)
    figure = Figure(figsize=(3.3 * across + 0.9, 3.4 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, (title, counts) in zip(axes, confusions.items(), strict=False):
        values = counts.to_numpy(np.float64)
        totals = values.sum(axis=1, keepdims=True)
        shares = np.divide(values, totals, out=np.zeros_like(values), where=totals > 0)
        axis.imshow(shares, cmap=_SHARES, vmin=0, vmax=1, aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            words = f"{values[row, column]:.0f}\n{100 * share:.1f} %"
            colour = "white" if share > 0.6 else EDGE
            axis.text(column, row, words, ha="center", va="center", fontsize=9, color=colour)
        axis.set_xticks(range(values.shape[1]), [_short(name) for name in counts.columns], fontsize=8)
        axis.set_yticks(range(len(values)), [_short(name) for name in counts.index], fontsize=8)
        axis.set_xlabel("decision", fontsize=9)
        axis.set_ylabel("true condition", fontsize=9)
        axis.set_title(title, fontsize=10, parse_math=False)
    for axis in axes[len(confusions) :]:
        axis.set_axis_off()
    scale = ScalarMappable(Normalize(0, 1), _SHARES)
    figure.colorbar(scale, ax=axes.tolist(), label="share of the true condition", shrink=0.8, aspect=30)
    return data_url(figure)


def bars_figure(table: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """Draw accuracy and F1 of each class over models, the paper's bars beside a run's.

    F1 has a row of panels in the paper's convention and one in the usual. The paper's bars are those of its counts, in
    which misprints have no part.

    Args:
        table: see :func:`bonemonai.report.multitask_tables.table_2`.
        titles: names of models to what a reader meets.

    Returns:
        A ``data:`` URL of a PNG.

    Source:
        Zhang et al., Fig. 8.
    """
    panels = (("accuracy", "paper", "accuracy"), ("f1", "paper", "F1, the paper's way"), ("f1", "usual", "F1, usual"))
    names = table["model"].drop_duplicates().tolist()
    figure = Figure(figsize=(max(10.0, 0.9 * len(names) + 3.0), 9.0), layout="constrained")
    axes = figure.subplots(len(panels), len(SCREENING_CLASSES), sharey=True, sharex=True)
    sides = (("paper, its counts", "counts_", _PAPER, -0.2), ("this run", "", _RUN, 0.2))
    for line, (metric, way, label) in zip(axes, panels, strict=True):
        for axis, name in zip(line, SCREENING_CLASSES, strict=True):
            rows = table[(table["class"] == name) & (table["convention"] == way)].set_index("model").loc[names]
            for said, side, (colour, hatch), shift in sides:
                style: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": EDGE, "lw": 0.6, "width": 0.4}
                axis.bar(np.arange(len(names)) + shift, rows[f"{side}{metric}"].fillna(0), label=said, **style)
            axis.set(ylim=(0, 1.02))
            axis.grid(axis="y", alpha=0.3)
            axis.set_axisbelow(True)
        line[0].set_ylabel(label)
    for axis, name in zip(axes[0], SCREENING_CLASSES, strict=True):
        axis.set_title(name, fontsize=10)
    words = [plain(titles.get(name, name)) for name in names]
    for axis in axes[-1]:
        axis.set_xticks(range(len(names)), words, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return data_url(figure)


def training_figure(curve: pd.DataFrame) -> str:
    """Draw a training: its loss, the six losses in it, their six weights, and the metrics of the validation.

    Args:
        curve: ``epoch``, ``loss``, and any of ``loss_<task>``, ``weight_<task>``, see
            :class:`bonemonai.losses.MultitaskLoss`; further columns are metrics. What was not written is said to be
            not there.

    Returns:
        A ``data:`` URL of a PNG.

    Source:
        Zhang et al., Fig. 10.
    """
    losses = {_task_title(task): f"loss_{task}" for task in TASKS}
    weights = {_task_title(task): f"weight_{task}" for task in TASKS}
    known = {"epoch", "loss", *losses.values(), *weights.values()}
    metrics = {str(name).replace("_", " "): str(name) for name in curve if name not in known}
    panels = {"total loss": {"training": "loss"}, "losses": losses, "weights of the losses": weights}
    panels["validation"] = metrics
    figure = Figure(figsize=(10.5, 7.0), layout="constrained")
    for axis, (title, columns) in zip(figure.subplots(2, 2).ravel(), panels.items(), strict=True):
        _draw_lines(axis, curve, columns, logarithmic=columns is losses)
        axis.set(xlabel="epoch", title=title)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    return data_url(figure)


def gradcam_figure(cases: Sequence[GradcamCase], *, right: bool) -> str:
    """Draw Grad-CAM over the two crops of subjects, L1 above L2, up to three a condition.

    Heat grows lighter and hides more, and a white-edged line surrounds what has half the highest value, so that it
    survives grey.

    Args:
        cases: of a model.
        right: those that were decided rightly, or the others.

    Returns:
        A ``data:`` URL of a PNG; empty where there is no such case.

    Source:
        Zhang et al., Figs. 11 and 12.
    """
    shown = [
        case
        for name in reversed(SCREENING_CLASSES)  # in the paper's order
        for case in [case for case in cases if case.diagnosis == name and case.right == right][:CASES_A_CLASS]
    ]
    if not shown:
        return ""
    across = min(_CASES_A_ROW, len(shown))
    down = math.ceil(len(shown) / across)
    figure = Figure(figsize=(1.9 * across + 1.4, 4.4 * down), layout="constrained")
    axes = figure.subplots(2 * down, across, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for number, case in enumerate(shown):
        pair = axes[2 * (number // across) : 2 * (number // across) + 2, number % across]
        for level, (axis, vertebra) in enumerate(zip(pair, _VERTEBRAE, strict=True)):
            axis.set(xticks=[], yticks=[])
            axis.set_axis_on()
            _draw_case(axis, case, level)
            axis.set_ylabel(vertebra if number % across == 0 else "")
        pair[0].set_title(f"{case.diagnosis},\ndecided: {case.decision}", fontsize=9)
    scale = ScalarMappable(Normalize(0, 1), _HEAT)
    figure.colorbar(scale, ax=axes.ravel().tolist(), label="Grad-CAM (1: the highest value)", shrink=0.7, aspect=30)
    return data_url(figure)


def ablation_figure(table: pd.DataFrame) -> str:
    """Draw the share of right decisions over the modules that are on, the paper's line and a run's.

    The paper's two pairs that cannot be told apart stand as hollow marks over both places.

    Args:
        table: see :func:`bonemonai.report.multitask_tables.table_3`.

    Returns:
        A ``data:`` URL of a PNG.

    Source:
        Zhang et al., Fig. 13.
    """
    scores = overall_accuracy(table)
    lost, known = scores.loc[list(PAIRS), "paper"], scores.drop(index=list(PAIRS))
    places = np.arange(len(known))
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axis = figure.subplots()
    colour, dash, marker = _PAPER_LINE
    line: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": marker, "ms": 7}
    axis.plot(places, known["paper"], label="paper, its counts", **line)
    label = "paper: one of the two, which is not known"
    for place in places[known["paper"].isna()]:
        hollow: dict[str, Any] = {"color": colour, "linestyle": ":", "marker": marker, "ms": 7, "mfc": "white"}
        axis.plot([place] * len(lost), lost, label=label, **hollow)
        label = "_"
    colour, dash, marker = _RUN_LINE
    run = known[known["run"].notna()]
    bounds = np.nan_to_num(np.abs(run[["low", "high"]].sub(run["run"], axis=0).to_numpy(np.float64).T))
    style: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": marker, "ms": 6, "capsize": 3}
    if len(run):
        axis.errorbar(np.flatnonzero(known["run"].notna()) + 0.06, run["run"], bounds, label="this run", **style)
    axis.set_xticks(places, [str(name) for name in known.index])
    axis.set(xlabel="modules that are on", ylabel=f"accuracy, {ALL} conditions", ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower right")
    return data_url(figure)


def _draw_lines(axis: Any, curve: pd.DataFrame, columns: Mapping[str, str], *, logarithmic: bool) -> None:
    drawn = [(label, name) for label, name in columns.items() if name in curve and curve[name].notna().any()]
    for number, (label, name) in enumerate(drawn):
        colour, dash, marker = _TASK_LINES[number % len(_TASK_LINES)]
        rows = curve[["epoch", name]].dropna()
        style: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": marker, "ms": 4, "lw": 1.3}
        axis.plot(rows["epoch"], rows[name], label=plain(label), markevery=max(1, len(rows) // 10), **style)
    if not drawn:
        box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none"}
        axis.text(0.5, 0.5, "n/a: not in the file", transform=axis.transAxes, ha="center", va="center", bbox=box)
        return
    # losses of several tasks are not of one scale
    if logarithmic and all((curve[name].dropna() > 0).all() for _, name in drawn):
        axis.set_yscale("log")
    axis.legend(frameon=False, fontsize=8, ncols=2)


def _draw_case(axis: Any, case: GradcamCase, level: int) -> None:
    axis.imshow(case.image[level], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    heat = case.heat[level]
    if not heat.any():
        box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none"}
        axis.text(0.5, 0.5, "no map", transform=axis.transAxes, ha="center", va="center", bbox=box)
        return
    axis.imshow(heat, cmap=_HEAT, vmin=0, vmax=1, alpha=0.65 * heat)
    half = float(heat.max()) / 2
    if min(heat.shape) > 1 and float(heat.min()) < half:
        lines = axis.contour(heat, levels=[half], colors=_OUTLINE, linewidths=1.2)
        lines.set_path_effects([withStroke(linewidth=2.6, foreground="white")])


def _short(name: Any) -> str:
    return str(name).replace(" bone mass", "\nbone mass").replace("osteoporosis", "osteo-\nporosis")


def _task_title(task: str) -> str:
    return _TASK_TITLES.get(task, task)
