"""Figures of the report of paper 1: Grad-CAM beside patches and masks, and learning curves."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bonemonai.report.attention_inputs import model_title
from bonemonai.report.figures import data_url

_EXAMPLES_A_CLASS = 3
# Okabe and Ito's palette; in print dashes tell models apart, a white edge outlines from bone, and heat grows lighter
_OUTLINE, _HEAT = "#0072B2", "inferno"
_LINES = (("#D55E00", "-"), ("#0072B2", "--"), ("#009E73", "-."), ("#000000", ":"), ("#CC79A7", (0, (5, 1, 1, 1))))


def gradcam_panels(examples: Mapping[str, Sequence[dict[str, Any]]], classes: Sequence[str]) -> list[tuple[str, str]]:
    """Draw patches with their masks and each model's Grad-CAM, after the paper's Fig. 2.

    Models that saw the same patches share a figure; a model with patches of its own has its own.

    Args:
        examples: model to its patches, see :class:`~bonemonai.report.attention_inputs.Classifier`.
        classes: to show patches of, in this order.

    Returns:
        For each figure the models' titles and a ``data:`` URL of a PNG.
    """
    figures = []
    left = {name: patches for name, patches in reversed(list(examples.items())) if patches}
    while left:
        lead = next(iter(left))
        shown = _shown(left[lead], classes)
        if not shown:
            del left[lead]
            continue
        seen = {name: [_same(patch, patches) for patch in shown] for name, patches in left.items()}
        columns = {name: patches for name, patches in seen.items() if all(patches)}
        figures.append((", ".join(map(model_title, columns)), _gradcam_figure(shown, columns)))
        left = {name: patches for name, patches in left.items() if name not in columns}
    return figures


def curve_figure(curves: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Draw learning curves, a line a training.

    Args:
        curves: model to a table a training: ``epoch``, ``loss`` and, where it was validated, ``patch_accuracy``
            in [0, 1].

    Returns:
        A ``data:`` URL of a PNG; empty where there are no curves.
    """
    drawn = [name for name, tables in curves.items() if tables]
    if not drawn:
        return ""
    scored = any("patch_accuracy" in table for name in drawn for table in curves[name])
    figure = Figure(figsize=(10.5 if scored else 6.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + scored, squeeze=False)[0]
    for name, (colour, dash) in zip(drawn, itertools.cycle(_LINES), strict=False):
        for number, table in enumerate(curves[name]):
            label = "_" if number else f"{model_title(name)} ({len(curves[name])})"
            style = {"color": colour, "linestyle": dash, "linewidth": 1.0, "marker": "." if len(table) < 10 else ""}
            axes[0].plot(table["epoch"], table["loss"], label=label, **style)
            if "patch_accuracy" in table:
                axes[1].plot(table["epoch"], 100 * table["patch_accuracy"], label=label, **style)
    axes[0].set(title="training", ylabel="loss (mean over batches)")
    if scored:
        axes[1].set(title="validation", ylabel="accuracy of patches (%)", ylim=(0, 100))
    for axis in axes:
        axis.set(xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(frameon=False, title="model (trainings)")
    return data_url(figure)


def _shown(patches: Iterable[dict[str, Any]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """A few patches of each class, those first that are of different patients."""
    turns: Counter[str] = Counter()
    ranked: list[tuple[int, dict[str, Any]]] = []
    for patch in patches:
        turns[patch["subject"]] += 1
        ranked.append((turns[patch["subject"]], patch))
    ranked.sort(key=lambda pair: pair[0])
    return [patch for name in classes for patch in [p for _, p in ranked if p["diagnosis"] == name][:_EXAMPLES_A_CLASS]]


def _same(patch: dict[str, Any], others: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The same patch as another model saw it, of the same fold; empty if it did not."""
    for other in others:
        words = all(patch[key] == other[key] for key in ("fold", "subject", "diagnosis"))
        if words and all(np.array_equal(patch[key], other[key], equal_nan=True) for key in ("image", "mask")):
            return other
    return {}


def _gradcam_figure(shown: Sequence[dict[str, Any]], columns: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    size = " x ".join(map(str, shown[0]["image"].shape))
    titles = [f"patch, {size} pixels", "lacuna mask", *map(model_title, columns)]
    figure = Figure(figsize=(2.0 * len(titles) + 1.0, 2.3 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), len(titles), squeeze=False)
    for number, patch in enumerate(shown):
        for axis in axes[number]:
            axis.imshow(patch["image"].astype(np.float32), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        axes[number, 0].set_ylabel(f"{patch['diagnosis']}\n{patch['subject']}")
        _draw_mask(axes[number, 1], patch["mask"])
        for axis, patches in zip(axes[number, 2:], columns.values(), strict=True):
            _draw_map(axis, patches[number])
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    scale = ScalarMappable(Normalize(0, 1), _HEAT)
    figure.colorbar(scale, ax=axes, label="Grad-CAM (1: the patch's highest value)", shrink=0.6, aspect=40)
    return data_url(figure)


def _draw_mask(axis: Any, mask: NDArray[np.bool_]) -> None:
    if mask.any():
        lines = axis.contour(mask, levels=[0.5], colors=_OUTLINE, linewidths=1.2)
        lines.set_path_effects([withStroke(linewidth=2.6, foreground="white")])
    else:
        _say(axis, "no lacuna")


def _draw_map(axis: Any, patch: Mapping[str, Any]) -> None:
    right = "right" if patch["decision"] == patch["diagnosis"] else "wrong"
    axis.set_xlabel(f"{patch['decision']} ({right})")
    heat = np.nan_to_num(patch["map"].astype(np.float32))
    if heat.max() <= 0:
        _say(axis, "no map")
        return
    axis.imshow(heat / heat.max(), cmap=_HEAT, vmin=0, vmax=1, alpha=0.6)
    if patch["mask"].any():
        _draw_mask(axis, patch["mask"])


def _say(axis: Any, words: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none"}
    axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", va="center", bbox=box)
