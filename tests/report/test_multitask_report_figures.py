from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis import SCREENING_CLASSES
from bonemonai.report.multitask_inputs import ABLATIONS, MODELS, GradcamCase
from bonemonai.report.multitask_paper import PAPER_CONFUSION
from bonemonai.report.multitask_report_figures import (
    ablation_figure,
    bars_figure,
    confusion_figure,
    gradcam_figure,
    training_figure,
)
from bonemonai.report.multitask_tables import table_2, table_3
from tests.report.multitask_runs import curve
from tests.report.test_attention_figures import size_in
from tests.report.test_figures import has_colour
from tests.report.test_screening_figures import grey

YELLOW, BLUE, ORANGE, DEEP_BLUE, AMBER = (240, 228, 66), (86, 180, 233), (213, 94, 0), (0, 114, 178), (230, 159, 0)


def counts(values: object = PAPER_CONFUSION) -> pd.DataFrame:
    return pd.DataFrame(values, index=pd.Index(SCREENING_CLASSES), columns=pd.Index(SCREENING_CLASSES))


def test_confusion_matrices_are_a_panel_a_model() -> None:
    sizes = {n: size_in(confusion_figure({str(i): counts() for i in range(n)})) for n in (1, 3, 4, 10)}
    assert sizes[1][0] < sizes[3][0] == sizes[4][0] == sizes[10][0]
    assert [round(sizes[n][1] / 3.4) for n in (1, 3, 4, 10)] == [1, 1, 2, 4]
    assert confusion_figure({}) == ""
    url = confusion_figure({"a": counts()})
    assert url == confusion_figure({"a": counts()})
    # the same shares, other counts
    assert url != confusion_figure({"a": counts(2 * np.array(PAPER_CONFUSION))})


def test_confusion_matrices_survive_grey_and_odd_input() -> None:
    """What is decided more often is darker."""
    light, dark = (confusion_figure({"a": counts(np.array(m) * 100)}) for m in (np.ones((3, 3)) / 3, np.eye(3)))
    assert (grey(dark) < 60).sum() > 3 * (grey(light) < 60).sum()
    odd = counts(np.zeros((3, 3))).assign(undecided=[1, 0, 0])
    assert confusion_figure({"$x \\frac$": odd}) != confusion_figure({"$y \\frac$": odd})


def table() -> pd.DataFrame:
    rows = table_2([])
    return rows.assign(accuracy=rows["accuracy"].where(rows["model"] != "joint", 0.5))


def test_bars_of_the_paper_and_of_a_run() -> None:
    url = bars_figure(table(), MODELS)
    assert has_colour(url, YELLOW)
    changed = table().assign(f1=0.3)
    assert bars_figure(changed, MODELS) != url
    # misprints have no part
    printed = table().assign(paper_f1=0.1, paper_accuracy=0.1)
    assert bars_figure(printed, MODELS) == url
    odd = table().replace({"model": {"joint": "$\\frac"}})
    assert bars_figure(odd, {}) != url


def test_a_training_has_four_panels() -> None:
    whole = training_figure(curve())
    assert size_in(whole) == pytest.approx((10.5, 7.0))
    assert has_colour(whole, AMBER)  # the sixth loss
    for gone in ("loss_classification", "weight_box", "found"):
        assert training_figure(curve().drop(columns=gone)) != whole
    bare = training_figure(curve()[["epoch", "loss"]])
    assert not has_colour(bare, AMBER)
    assert training_figure(curve().assign(loss_box=-1.0)) != whole  # no logarithm of what is below 0
    assert training_figure(curve().assign(**{"_m $\\frac$": 0.5, "dice": np.nan})).startswith("data:")


def case(diagnosis: str, decision: str, seed: int = 0) -> GradcamCase:
    heat = np.random.default_rng(seed).random((2, 16, 16), np.float32)
    return GradcamCase(np.full((2, 16, 16), 0.5, np.float32), heat / heat.max(), diagnosis, decision)


def test_gradcam_of_right_and_of_wrong_cases() -> None:
    normal, low, _ = SCREENING_CLASSES
    cases = [case(normal, normal, n) for n in range(5)] + [case(low, low, 9), case(low, normal)]
    right, wrong = (gradcam_figure(cases, right=side) for side in (True, False))
    # three a condition; two of them are not drawn
    assert size_in(right) == pytest.approx((1.9 * 4 + 1.4, 4.4), abs=0.01)
    assert size_in(wrong) == pytest.approx((1.9 + 1.4, 4.4), abs=0.01)
    assert right == gradcam_figure([*cases[:3], cases[5]], right=True)
    assert has_colour(right, DEEP_BLUE)
    assert gradcam_figure(cases[:5], right=False) == gradcam_figure([], right=True) == ""
    every = [case(name, name, n) for name in SCREENING_CLASSES for n in range(3)]
    assert size_in(gradcam_figure(every, right=True)) == pytest.approx((1.9 * 5 + 1.4, 8.8), abs=0.01)


def test_l1_stands_above_l2() -> None:
    one = case("normal", "normal")
    bright = one._replace(image=np.stack([np.ones((16, 16)), np.zeros((16, 16))]).astype(np.float32), heat=one.heat * 0)
    image = grey(gradcam_figure([bright], right=True))
    column = image[:, image.shape[1] // 4]
    upper, lower = column[len(column) // 3], column[3 * len(column) // 4]
    assert upper > 250
    assert lower < 5


def test_maps_without_heat_are_said_to_be_none() -> None:
    one = case("normal", "normal")
    for heat in (np.zeros_like(one.heat), np.ones_like(one.heat)):
        assert gradcam_figure([one._replace(heat=heat)], right=True) != gradcam_figure([one], right=True)


def ablation(run: dict[str, float]) -> pd.DataFrame:
    rows = table_3([])
    values = rows["modules"].map(run).where(rows["class"] == "all").astype(float)
    return rows.assign(accuracy=values, accuracy_low=values - 0.05, accuracy_high=values + 0.02)


def test_the_ablation_has_two_lines() -> None:
    alone = ablation_figure(ablation({}))
    assert has_colour(alone, ORANGE)
    assert not has_colour(alone, DEEP_BLUE)
    both = ablation_figure(ablation(dict.fromkeys(ABLATIONS, 0.7)))
    assert has_colour(both, DEEP_BLUE)
    assert ablation_figure(ablation({"LF+FF": 0.7})) != ablation_figure(ablation({"GC+FF": 0.7}))
    without = ablation({"LF": 0.7}).assign(accuracy_low=np.nan, accuracy_high=np.nan)
    assert ablation_figure(without) != ablation_figure(ablation({"LF": 0.7}))
