"""Figures of a screening page: marked slices, and the paper's pie of three probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
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
            and ``aspect``, the height of a pixel over its width. Without any crop there is no row for them. May have
            ``box``, the sides x, y, x, y of what a locator has found, pixels; ``heat`` (H, W) in [0, 1], a boundary,
            which is drawn over the slice around the box; and ``attention`` (h, w) >= 0, which is drawn over the crop.

    Returns:
        A ``data:`` URL of a PNG.
    """
    count = max(1, len(slices))
    rows = [_draw_slice, *([_draw_crop] if any(each["crop"] is not None for each in slices) else [])]
    if any(each.get("attention") is not None for each in slices):
        rows.append(_draw_attention)
    heights = [3, 2, 2][: len(rows)]
    figure = Figure(figsize=(3.1 * count, {1: 3.5, 2: 5.6, 3: 7.8}[len(rows)]), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False, height_ratios=heights)
    for column, each in enumerate(slices):
        for axis, draw in zip(axes[:, column], rows, strict=True):
            draw(axis, each)
            axis.set_axis_off()
    return data_url(figure)


def _draw_slice(axis: Any, each: Mapping[str, Any]) -> None:
    axis.imshow(each["image"], cmap="gray", vmin=_WINDOW[0], vmax=_WINDOW[1], aspect=each["aspect"])
    if each["mark"].any() and not each["mark"].all():
        axis.contour(each["mark"], levels=[0.5], colors=PREDICTION, linewidths=1.2)
    if each.get("box") is not None:
        x1, y1, x2, y2 = each["box"]
        # pixel k is drawn from k - 1/2 to k + 1/2
        place: dict[str, Any] = {"xy": (x1 - 0.5, y1 - 0.5), "width": x2 - x1, "height": y2 - y1}
        axis.add_patch(Rectangle(**place, fill=False, edgecolor="white", linestyle="--", linewidth=1.0))
    axis.set_title(each["title"], fontsize=10, parse_math=False)


def _draw_crop(axis: Any, each: Mapping[str, Any]) -> None:
    if each["crop"] is None:
        return
    if each.get("heat") is None:
        axis.imshow(each["crop"], cmap="gray", vmin=0, vmax=1)
        return
    # around what was predicted of the boundary, in the slice's own pixels
    places = np.argwhere(each["heat"] > 0.02)
    if not len(places):
        axis.imshow(each["crop"], cmap="gray", vmin=0, vmax=1)
        return
    (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0) + 1
    part = slice(top, bottom), slice(left, right)
    axis.imshow(each["image"][part], cmap="gray", vmin=_WINDOW[0], vmax=_WINDOW[1], aspect=each["aspect"])
    axis.imshow(each["heat"][part], cmap="magma", vmin=0, vmax=1, alpha=each["heat"][part], aspect=each["aspect"])


def _draw_attention(axis: Any, each: Mapping[str, Any]) -> None:
    maps = each.get("attention")
    if maps is None or each["crop"] is None:
        return
    axis.imshow(each["crop"], cmap="gray", vmin=0, vmax=1)
    if maps.max() > 0:
        axis.imshow(maps, cmap="viridis", alpha=0.5, vmin=0, vmax=float(maps.max()))


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
