from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bonemonai.report.damage_figures import comparison_figure, detection_figure, state_panels, sweep_figure
from tests.report.test_attention_figures import size_in
from tests.report.test_figures import has_colour

OVERALL, LOADED, PRISTINE = (213, 94, 0), (0, 114, 178), (0, 158, 115)
OUTLINE = (86, 180, 233)


def limits(folds: int = 3, **changes: Any) -> pd.DataFrame:
    states = np.arange(1.0, 6)
    table = pd.DataFrame({"load_state": states, "pristine": 0.9, "loaded": states / 5, "overall": 0.5 + states / 20})
    return table.assign(**{"low": 0.4, "high": 1.0, "folds": folds, **changes})


def test_detection_limits_have_three_lines() -> None:
    url = detection_figure(limits())
    assert all(has_colour(url, colour) for colour in (OVERALL, LOADED, PRISTINE))


def test_a_band_needs_several_folds() -> None:
    faint = tuple(round(255 - 0.18 * (255 - c)) for c in OVERALL)
    assert has_colour(detection_figure(limits()), faint)
    assert detection_figure(limits(1)) == detection_figure(limits(1, low=0.1))
    assert detection_figure(limits()) != detection_figure(limits(low=0.1))


def test_missing_states_are_no_error() -> None:
    table = limits()
    table.loc[2, ["pristine", "loaded", "overall"]] = np.nan
    assert detection_figure(table) != detection_figure(limits())


def test_models_have_their_colours() -> None:
    one, two = comparison_figure({"CNN": limits()}), comparison_figure({"CNN": limits(), "TL": limits(overall=0.3)})
    assert [has_colour(one, colour) for colour in (OVERALL, LOADED)] == [True, False]
    assert [has_colour(two, colour) for colour in (OVERALL, LOADED)] == [True, True]


def sweep(values: list[Any], parameter: str = "layers", **changes: Any) -> pd.DataFrame:
    table = pd.DataFrame({"parameter": parameter, "value": list(map(str, values)), "baseline": False, "sd": 0.1})
    return table.assign(mean=np.linspace(0.5, 0.9, len(values)), **changes)


def test_a_panel_a_parameter() -> None:
    many = pd.concat([sweep([1, 2], name) for name in "abcde"], ignore_index=True)
    assert size_in(sweep_figure(sweep([1, 2]))) == pytest.approx((3.7, 3.4))
    assert size_in(sweep_figure(many)) == pytest.approx((11.2, 6.8))
    assert sweep_figure(sweep([])) == ""


def test_values_ascend_by_size() -> None:
    shuffled = sweep([10, 2, 100])
    assert sweep_figure(shuffled) == sweep_figure(shuffled.iloc[[1, 0, 2]])
    words = sweep(["b", "a"])
    assert sweep_figure(words) != sweep_figure(words.iloc[::-1])


def test_baseline_is_marked_and_one_fold_has_no_bar() -> None:
    marked = sweep([1, 2], baseline=[True, False])
    assert has_colour(sweep_figure(marked), OVERALL)
    assert sweep_figure(marked.assign(sd=np.nan)) == sweep_figure(marked.assign(sd=0.0)) != sweep_figure(marked)


def slice_of(state: int, subject: str = "subject_00", **changes: Any) -> dict[str, Any]:
    crack = np.zeros((40, 40), bool)
    crack[10:30, 15:25] = True
    heat = np.linspace(0, 1, 1600).reshape(40, 40)
    made = {"subject": subject, "plane": "XY", "index": 7, "load_state": np.int64(state), "decision": "failed"}
    return {**made, "image": np.full((40, 40), 0.5, np.float16), "map": heat, "crack": crack, **changes}


def test_states_stand_in_order_eight_a_line() -> None:
    slices = [slice_of(state) for state in range(1, 10)]
    ((name, url),), left = state_panels(slices)
    assert (name, left) == ("subject_00, XY 7", 0)
    assert size_in(url) == pytest.approx((1.7 * 8 + 1.2, 7.8), abs=0.02)
    assert state_panels(slices[::-1])[0][0][1] == url
    assert has_colour(url, OUTLINE)


def test_each_place_has_its_figure_and_few_are_shown() -> None:
    slices = [slice_of(1, f"subject_{n:02d}") for n in range(5)]
    panels, left = state_panels(slices, most=3)
    assert [name for name, _ in panels] == [f"subject_{n:02d}, XY 7" for n in range(3)]
    assert left == 2
    assert state_panels([]) == ([], 0)


def test_maps_are_scaled_by_their_own_highest_value() -> None:
    heat = slice_of(1)["map"]
    nothing = np.zeros_like(heat)
    urls = [
        state_panels([slice_of(1, map=shown)])[0][0][1]
        for shown in (heat, heat / 2, heat[::-1], nothing, np.full_like(heat, np.nan))
    ]
    assert urls[0] == urls[1]
    assert urls[3] == urls[4], "no map"
    assert len(set(urls)) == 3


def test_slices_without_a_crack_have_no_outline() -> None:
    nothing = np.zeros((40, 40))
    (((_, url),), _) = state_panels([slice_of(1, crack=nothing != 0, map=nothing)])
    assert not has_colour(url, OUTLINE)
    (((_, url),), _) = state_panels([slice_of(1, crack=nothing == 0, map=nothing, image=nothing * np.nan)])
    assert not has_colour(url, OUTLINE)
