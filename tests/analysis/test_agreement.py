from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bonemonai.analysis import intraclass_correlation, measure_agreement
from bonemonai.errors import InputError

# Bland & Altman, Lancet 327:307 (1986), table: PEFR by Wright's large and mini meter, l/min, first readings
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# Shrout & Fleiss (1979), table 2: six targets, four judges
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def test_peak_flow_meters_of_bland_and_altman() -> None:
    found = measure_agreement(LARGE, MINI)
    assert found.pairs == 17
    assert found.bias.value == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    # "the 95 % confidence interval for the bias is -22.0 to 17.8"
    assert found.bias[1:] == pytest.approx((-22.0, 17.8), abs=0.1)
    # theirs are with 2 for 1.96, and 3 s^2 / n for the variance of a limit: -114.3 to -45.1, and 40.9 to 110.1
    assert found.lower_limit.value == pytest.approx(-2.1 - 1.96 * 38.8, abs=0.2)
    assert found.lower_limit[1:] == pytest.approx((-114.3, -45.1), abs=5)
    assert found.upper_limit[1:] == pytest.approx((40.9, 110.1), abs=5)


def test_paired_test_is_scipys() -> None:
    found = measure_agreement(LARGE, MINI)
    expected = stats.ttest_rel(LARGE, MINI)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    interval = expected.confidence_interval(0.95)
    assert found.bias[1:] == pytest.approx((interval.low, interval.high))


def test_judges_of_shrout_and_fleiss() -> None:
    found = intraclass_correlation(JUDGES)
    assert found.value == pytest.approx(0.29, abs=0.005)
    # as the R package psych gives it for the same table
    assert found[1:] == pytest.approx((0.019, 0.761), abs=0.001)


def test_interval_covers_what_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        truth, bias = random.normal(0, 2, (20, 1)), random.normal(0, 0.5, (1, 5))
        found = intraclass_correlation(truth + bias + random.normal(0, 1, (20, 5)))
        covered += found.low <= 4 / (4 + 0.25 + 1) <= found.high
    assert covered / 300 == pytest.approx(0.95, abs=0.04)


def test_bias_lowers_absolute_agreement() -> None:
    reference = np.linspace(0.1, 0.5, 9)
    assert measure_agreement(reference, reference).icc.value == 1
    assert measure_agreement(reference + 0.1, reference).icc.value < 0.85
    assert np.isnan(measure_agreement(reference, reference).t)
    assert np.isnan(intraclass_correlation(np.ones((4, 2))).value)


@pytest.mark.parametrize(
    ("method", "message"),
    [([1.0, 2.0], "three or more specimens each, got 2 and 3"), ([1.0, 2.0, np.nan], "finite numbers")],
)
def test_refusals(method: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_agreement(method, [1.0, 2.0, 3.0])
