"""Figures of a screening page: marked slices, and the paper's pie of three probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bonemonai.report.figures import PREDICTION, data_url

# Okabe and Ito's palette, light to dark; hatches tell the parts apart without any colour
_PARTS = (("#F0E442", ""), ("#56B4E9", "//"), ("#D55E00", "xx"))
_EDGE = "#1a1a1a"
_WINDOW = (-160.0, 240.0)  # HU: W 400 L 40, as the networks see it


def pie_figure(probabilities: Mapping[str, float], answer: str) -> str:
    """Draw the probabilities of the bone conditions as a pie, its answer in the middle (the paper's Fig. 9).

    Parts are told apart by lightness, hatching and the words beside them, so that they survive grey printing and
    colour blindness; shares stand in percent.

    Args:
        probabilities: class to probability, in order of falling density; they sum to 1.
        answer: in the middle.

    Returns:
        A ``data:`` URL of a PNG.
    """
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axis = figure.subplots()
    values = [float(value) for value in probabilities.values()]
    colours = [_PARTS[index % len(_PARTS)][0] for index in range(len(values))]
    parts, *_ = axis.pie(
        values, startangle=90, counterclock=False, radius=1.0, colors=colours,
        wedgeprops={"width": 0.45, "edgecolor": _EDGE, "linewidth": 1.2},
    )  # fmt: skip
    for index, part in enumerate(parts):
        part.set_hatch(_PARTS[index % len(_PARTS)][1])
    names = [str(name).replace("$", r"\$") for name in probabilities]
    labels = [f"{name}: {100 * value:.1f} %" for name, value in zip(names, values, strict=True)]
    figure.legend(
        parts, labels, loc="outside right center", frameon=False, handlelength=2.2, handleheight=1.4, fontsize=10
    )
    middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10, "fontweight": "bold"}
    axis.text(0, 0, answer.replace(" ", "\n"), parse_math=False, **middle)
    axis.set_aspect("equal")
    return data_url(figure)


def slices_figure(slices: Sequence[Mapping[str, Any]]) -> str:
    """Show slices with the outline of what was marked, and what the classifier saw of them.

    Args:
        slices: each with ``image`` (H, W) in HU, ``mark`` (H, W) bool, ``crop`` (h, w) in [0, 1] or None, ``title``,
            and ``aspect``, the height of a pixel over its width. Without any crop there is no row for them.

    Returns:
        A ``data:`` URL of a PNG.
    """
    count = max(1, len(slices))
    lines = 2 if any(each["crop"] is not None for each in slices) else 1
    figure = Figure(figsize=(3.1 * count, 5.6 if lines > 1 else 3.5), layout="constrained")
    axes = figure.subplots(lines, count, squeeze=False, height_ratios=[3, 2][:lines])
    for column, each in enumerate(slices):
        top, bottom = axes[0, column], axes[-1, column]
        top.imshow(each["image"], cmap="gray", vmin=_WINDOW[0], vmax=_WINDOW[1], aspect=each["aspect"])
        if each["mark"].any() and not each["mark"].all():
            top.contour(each["mark"], levels=[0.5], colors=PREDICTION, linewidths=1.2)
        top.set_title(each["title"], fontsize=10, parse_math=False)
        if each["crop"] is not None:
            bottom.imshow(each["crop"], cmap="gray", vmin=0, vmax=1)
        for axis in (top, bottom):
            axis.set_axis_off()
    return data_url(figure)


def chosen_slices(planes: Sequence[int], most: int = 4) -> list[int]:
    """Of the slices that were classified, a few, evenly spaced.

    Example:
        >>> chosen_slices([3, 4, 5, 6, 7, 8, 9, 10], 3)
        [4, 7, 9]
    """
    if len(planes) <= most:
        return list(planes)
    places: NDArray[np.int64] = ((np.arange(most) + 0.5) * len(planes) / most).astype(np.int64)
    return [planes[int(place)] for place in places]
