from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis import SCREENING_CLASSES
from bonemonai.report.screening_report_figures import (
    coverage_figure,
    decisions_figure,
    learning_figure,
    overlap_figure,
    reliability_figure,
    roc_figure,
)
from tests.report.test_attention_figures import size_in
from tests.report.test_figures import has_colour
from tests.report.test_screening_figures import grey

YELLOW, BLUE, ORANGE = (240, 228, 66), (86, 180, 233), (213, 94, 0)
DEEP_BLUE, GREEN = (0, 114, 178), (0, 158, 115)


def histogram(images: list[int]) -> pd.DataFrame:
    edges = [0.0, *np.linspace(0.5, 1, len(images))]
    parts = [
        pd.DataFrame({"metric": metric, "low": edges[:-1], "high": edges[1:], "images": images, "left_out": 0})
        for metric in ("dice_index", "iou", "pixel_accuracy")
    ]
    return pd.concat(parts, ignore_index=True).astype({"images": float})


def test_histograms() -> None:
    url = overlap_figure(histogram([2, 0, 5, 40]))
    assert has_colour(url, BLUE)
    assert url != overlap_figure(histogram([2, 0, 40, 5]))
    assert url == overlap_figure(histogram([2, 0, 5, 40]))
    assert overlap_figure(histogram([0, 0, 0])).startswith("data:image/png")


def roc(levels: tuple[str, ...] = ("subject", "slice")) -> pd.DataFrame:
    rows = [
        (level, name, x, min(1.0, x + 0.1 * number + 0.2) if x else 0.0)
        for level in levels
        for number, name in enumerate(SCREENING_CLASSES)
        for x in np.linspace(0, 1, 5)
    ]
    return pd.DataFrame(rows, columns=["level", "class", "one_minus_specificity", "sensitivity"])


def test_roc_curves_have_a_panel_a_level() -> None:
    assert size_in(roc_figure(roc())) == pytest.approx((2 * 3.4 + 0.6, 4.6), abs=0.01)
    assert size_in(roc_figure(roc(("subject", "slice", "image"))))[0] == pytest.approx(3 * 3.4 + 0.6, abs=0.01)
    assert all(has_colour(roc_figure(roc()), colour) for colour in (DEEP_BLUE, ORANGE))
    assert roc_figure(roc().iloc[:0]) == ""
    # a class that nobody has
    assert roc_figure(roc()[roc()["class"] != "osteoporosis"]) != roc_figure(roc())


def counts(values: list[list[float]], columns: tuple[str, ...] = SCREENING_CLASSES) -> pd.DataFrame:
    return pd.DataFrame(values, index=pd.Index(SCREENING_CLASSES), columns=pd.Index(columns))


def test_decisions_are_shares_of_the_true_class() -> None:
    one = counts([[8, 2, 0], [1, 8, 1], [0, 1, 9]])
    url = decisions_figure({"a": one})
    assert all(has_colour(url, colour) for colour in (YELLOW, BLUE, ORANGE))
    assert size_in(decisions_figure({"a": one, "b": one}))[0] > size_in(url)[0]
    assert decisions_figure({}) == ""
    # where nothing is decided to be osteoporosis the colour is the legend's alone
    none = decisions_figure({"a": counts([[10, 0, 0], [10, 0, 0], [10, 0, 0]])})
    grown, small = (int((np.abs(grey(each) - 216) < 4).sum()) for each in (none, url))
    assert grown > 1.5 * small


def test_undecided_and_empty_classes_are_drawn() -> None:
    columns = (*SCREENING_CLASSES, "undecided")
    url = decisions_figure({"a $x$ $\\frac$": counts([[1, 1, 0, 2], [0, 0, 0, 0], [0, 0, 3, 0]], columns)})
    assert url != decisions_figure({"a": counts([[1, 1, 0, 2], [0, 0, 0, 0], [0, 0, 3, 0]], columns)})


def curve(metric: str | None = "accuracy", epochs: int = 4) -> pd.DataFrame:
    table = pd.DataFrame({"epoch": np.arange(1.0, epochs + 1), "loss": 1 / np.arange(1.0, epochs + 1)})
    return table if metric is None else table.assign(**{metric: np.linspace(0.3, 0.9, epochs)})


def test_trainings_with_other_metrics_have_other_panels() -> None:
    heights = {
        name: size_in(learning_figure(curves))[1]
        for name, curves in {
            "one": {"a": curve()},
            "same": {"a": curve(), "b": curve(epochs=6)},
            "other": {"a": curve(), "b": curve("mark_dice")},
            "none": {"a": curve(None)},
        }.items()
    }
    assert heights["one"] == heights["same"] == heights["none"] == pytest.approx(3.2)
    assert heights["other"] == pytest.approx(6.4)
    assert learning_figure({}) == ""
    sparse = curve()
    sparse.loc[1, "accuracy"] = np.nan
    assert learning_figure({"_hidden $\\frac$": sparse, "": curve()}).startswith("data:")
    # a name that begins with _ has its line in the legend
    assert learning_figure({"_a": curve()}) != learning_figure({"_b": curve()})


def test_reliability_before_and_after() -> None:
    before = pd.DataFrame({"stage": "before", "confidence": [0.5, 0.9], "accuracy": [0.4, 0.6], "slices": [10, 20]})
    after = before.assign(stage="after", accuracy=[0.5, 0.9])
    both = reliability_figure(pd.concat([before, after], ignore_index=True))
    assert all(has_colour(both, colour) for colour in (ORANGE, DEEP_BLUE))
    assert not has_colour(reliability_figure(before), DEEP_BLUE)


def test_coverage_and_the_band_of_the_run() -> None:
    table = pd.DataFrame({"coverage": [1.0, 0.5, 0.0], "accuracy": [0.6, 0.9, np.nan]})
    url = coverage_figure({"A": table, "B": table.assign(accuracy=0.5)}, {})
    assert all(has_colour(url, colour) for colour in (ORANGE, DEEP_BLUE))
    assert url != coverage_figure({"A": table, "B": table.assign(accuracy=0.5)}, {"A": (0.5, 0.9)})
    assert coverage_figure({"A $x$": table}, {}) != coverage_figure({"A $y$": table}, {})
    assert coverage_figure({}, {}) == ""
