"""Figures of the report of paper 2: detection limits, the sweep of hyper-parameters, Grad-CAM over loading states."""

from __future__ import annotations

import itertools
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
from numpy.typing import NDArray

from bonemonai.report.figures import data_url

# Okabe and Ito's palette; in print dashes and markers tell lines apart, and a white edge an outline from bone
_OVERALL, _LOADED, _PRISTINE = "#D55E00", "#0072B2", "#009E73"
_OUTLINE, _HEAT = "#56B4E9", "inferno"
_LINES = ((_OVERALL, "-", "o"), (_LOADED, "--", "s"), (_PRISTINE, "-.", "^"), ("#000000", ":", "d"))
_STATES_A_LINE = 8


def detection_figure(limits: pd.DataFrame) -> str:
    """Draw accuracies over loading states: of the best fold, and the spread of the overall one over all folds.

    Args:
        limits: columns ``load_state``, ``pristine``, ``loaded``, ``overall``, ``low``, ``high``, ``folds``; accuracies
            in [0, 1].

    Returns:
        A ``data:`` URL of a PNG.

    Source:
        Shen et al., Figs. 5b and 6b; the band is ours.
    """
    figure, axis = _limits_axes()
    _draw_band(axis, limits, _OVERALL, f"overall, all {limits['folds'].max():.0f} folds")
    styles = (("pristine", _PRISTINE, "-.", "^"), ("loaded", _LOADED, "--", "s"), ("overall", _OVERALL, "-", "o"))
    for name, colour, dash, marker in styles:
        axis.plot(limits["load_state"], limits[name], color=colour, linestyle=dash, marker=marker, ms=4, label=name)
    _place_legend(figure)
    return data_url(figure)


def comparison_figure(models: Mapping[str, pd.DataFrame]) -> str:
    """Draw several models' overall accuracies over loading states, best folds as lines, all folds as bands.

    Args:
        models: title to table, see :func:`detection_figure`.

    Returns:
        A ``data:`` URL of a PNG.

    Source:
        Shen et al., Fig. 9; the bands are ours.
    """
    figure, axis = _limits_axes()
    for (title, limits), (colour, dash, marker) in zip(models.items(), itertools.cycle(_LINES), strict=False):
        _draw_band(axis, limits, colour, f"{title}, all folds")
        style = {"color": colour, "linestyle": dash, "marker": marker, "ms": 4}
        axis.plot(limits["load_state"], limits["overall"], label=title, **style)
    _place_legend(figure)
    return data_url(figure)


def sweep_figure(table: pd.DataFrame) -> str:
    """Draw mean accuracy over the values of each hyper-parameter, error bars being one standard deviation.

    Args:
        table: columns ``parameter``, ``value``, ``baseline`` (bool), ``mean`` and ``sd`` in [0, 1].

    Returns:
        A ``data:`` URL of a PNG; empty where there is no setting.

    Source:
        Shen et al., Fig. 3.
    """
    parameters = list(dict.fromkeys(table["parameter"]))
    if not parameters:
        return ""
    columns = min(len(parameters), 4)
    lines = math.ceil(len(parameters) / columns)
    figure = Figure(figsize=(1.2 + 2.5 * columns, 3.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).flat
    for axis in axes:
        axis.set_visible(False)
    for axis, parameter in zip(figure.axes, parameters, strict=False):
        rows = _by_value(table[table["parameter"] == parameter])
        place = np.arange(len(rows))
        spread = rows["sd"].fillna(0)
        axis.errorbar(place, rows["mean"], spread, color=_LOADED, marker="o", ms=4, capsize=3, label="mean, SD")
        chosen = rows["baseline"].to_numpy(bool)
        square: dict[str, Any] = {"color": _OVERALL, "marker": "s", "ms": 7, "linestyle": "", "zorder": 3}
        axis.plot(place[chosen], rows["mean"][chosen], label="baseline", **square)
        axis.set(xlabel=parameter.replace("_", " "), xticks=place, xlim=(-0.5, len(rows) - 0.5), visible=True)
        axis.set_xticklabels(rows["value"], rotation=30 if rows["value"].str.len().max() > 4 else 0)
        axis.grid(axis="y", alpha=0.3)
    for axis in figure.axes[::columns]:
        axis.set_ylabel("accuracy")
    figure.axes[0].legend(frameon=False)
    return data_url(figure)


def state_panels(slices: Sequence[Mapping[str, Any]], most: int = 6) -> tuple[list[tuple[str, str]], int]:
    """Draw slices through all their loading states: with the outline of cracks, and Grad-CAM under that.

    Args:
        slices: see :class:`bonemonai.report.damage_inputs.Gradcam`.
        most: figures at most.

    Returns:
        For each place its name, such as "subject_00, XY 150", and a ``data:`` URL of a PNG; and how many places are
        left out.

    Source:
        Shen et al., Fig. 7; the outlines are ours.
    """
    places: dict[str, list[Mapping[str, Any]]] = {}
    for item in slices:
        places.setdefault(f"{item['subject']}, {item['plane']} {item['index']}", []).append(item)
    names = list(places)[:most]
    return [(name, _states_figure(places[name])) for name in names], len(places) - len(names)


def _limits_axes() -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.axhline(0.5, color="#555555", linestyle=":", linewidth=1.2, zorder=1)
    axis.set(xlabel="loading state (1: unloaded)", ylabel="accuracy", ylim=(-0.02, 1.02))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axis


def _draw_band(axis: Any, limits: pd.DataFrame, colour: str, label: str) -> None:
    if limits["folds"].max() > 1:
        axis.fill_between(
            limits["load_state"], limits["low"], limits["high"], color=colour, alpha=0.18, lw=0, label=label
        )


def _place_legend(figure: Figure) -> None:
    figure.legend(loc="outside lower center", ncols=2, frameon=False)


def _by_value(rows: pd.DataFrame) -> pd.DataFrame:
    """Ascending where all values are numbers, else as they stand."""
    numbers = pd.to_numeric(rows["value"], errors="coerce")
    return rows if numbers.isna().any() else rows.loc[numbers.sort_values(kind="stable").index]


def _states_figure(slices: Sequence[Mapping[str, Any]]) -> str:
    ordered = sorted(slices, key=lambda item: int(item["load_state"]))
    columns = min(len(ordered), _STATES_A_LINE)
    lines = math.ceil(len(ordered) / columns)
    figure = Figure(figsize=(1.7 * columns + 1.2, 3.9 * lines), layout="constrained")
    axes = figure.subplots(2 * lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for number, item in enumerate(ordered):
        line, column = divmod(number, columns)
        upper, lower = axes[2 * line, column], axes[2 * line + 1, column]
        image = np.nan_to_num(np.asarray(item["image"], np.float32))
        for axis in (upper, lower):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        _draw_map(lower, item["map"])
        for axis in (upper, lower):
            _draw_outline(axis, np.asarray(item["crack"], bool))
        upper.set_title(f"state {item['load_state']}", fontsize=10)
        lower.set_xlabel(str(item["decision"]))
    scale = ScalarMappable(Normalize(0, 1), _HEAT)
    figure.colorbar(scale, ax=axes, label="Grad-CAM (1: the slice's highest)", shrink=0.8 / lines, aspect=20)
    return data_url(figure)


def _draw_map(axis: Any, heat: NDArray[Any]) -> None:
    found = np.nan_to_num(np.asarray(heat, np.float32), posinf=0, neginf=0)
    if found.max() > 0:
        axis.imshow(found / found.max(), cmap=_HEAT, vmin=0, vmax=1, alpha=0.6)
    else:
        box = {"facecolor": "white", "edgecolor": "none"}
        axis.text(0.5, 0.5, "no map", transform=axis.transAxes, ha="center", va="center", bbox=box)


def _draw_outline(axis: Any, crack: NDArray[np.bool_]) -> None:
    if crack.any() and not crack.all():
        lines = axis.contour(crack, levels=[0.5], colors=_OUTLINE, linewidths=1.0)
        lines.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
