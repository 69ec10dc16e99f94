from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonemonai.analysis import check_acquisition, describe_acquisitions, intensity_statistics
from bonemonai.errors import InputError

STATISTICS = ["p01", "p50", "p99", "mean", "sd"]


def scan(seed: int = 0, **entries: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    hu = rng.normal(40, 60, (3, 20, 20))
    mark = np.zeros(hu.shape, bool)
    mark[:, 5:12, 5:12] = True
    tags = {"KVP": 120, "ConvolutionKernel": "B", "Manufacturer": "Philips", "contrast": "no"}
    spacing = {"in_plane_spacing_mm": (0.7, 0.7), "slice_interval_mm": 5.0}
    return {**tags, **spacing, **intensity_statistics(hu + 100 * mark, mark), **entries}


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    rows = [scan(n) for n in range(6)]
    rows.append(scan(6, KVP=140, ConvolutionKernel=["Br38f", "3"], Manufacturer="PHILIPS", slice_interval_mm=3))
    rows.append(scan(7, KVP=None, in_plane_spacing_mm=(0.8, 0.9), Manufacturer=" ", contrast="unknown"))
    described = describe_acquisitions(rows)
    return json.loads(json.dumps(described, allow_nan=False))  # type: ignore[no-any-return]


def test_description(known: dict[str, Any]) -> None:
    assert known["scans"] == 8
    assert known["KVP"] == {"values": [120, 140], "not_stated": 1}
    assert known["ConvolutionKernel"] == {"values": ["B", "Br38f\\3"], "not_stated": 0}
    assert known["Manufacturer"] == {"values": ["Philips"], "not_stated": 1}
    assert known["contrast"] == {"values": ["no"], "not_stated": 1}
    assert known["in_plane_spacing_mm"] == {"minimum": 0.7, "maximum": 0.9, "not_stated": 0}
    assert known["slice_interval_mm"] == {"minimum": 3, "maximum": 5, "not_stated": 0}
    for name in (f"hu_{region}_{statistic}" for region in ("slice", "mark") for statistic in STATISTICS):
        values = [scan(n)[name] for n in range(8)]
        assert known[name] == {"minimum": min(values), "maximum": max(values), "not_stated": 0}


def test_training_scans_are_not_warned_of(known: dict[str, Any]) -> None:
    for seed in range(6):
        assert check_acquisition(scan(seed, Manufacturer="philips", KVP="120.0"), known) == []


@pytest.mark.parametrize(
    ("entries", "warning"),
    [
        ({"KVP": 80}, "kVp is 80 kV; training scans had 120, 140."),
        ({"KVP": None}, "kVp is not stated."),
        ({"KVP": math.nan}, "kVp is not stated."),
        ({"KVP": "high"}, "kVp is 'high', no number."),
        ({"KVP": math.inf}, "kVp is inf."),
        ({"ConvolutionKernel": "FC\n03 "}, "kernel is 'FC 03'; training scans had B, Br38f\\3."),
        ({"ConvolutionKernel": ""}, "kernel is not stated; training scans had B, Br38f\\3."),
        ({"Manufacturer": "x" * 99}, f"manufacturer is '{'x' * 60}...'; training scans had Philips."),
        ({"contrast": "yes"}, "contrast agent is 'yes'; training scans had no."),
        ({"contrast": "unknown"}, "contrast agent is not stated; training scans had no."),
        ({"slice_interval_mm": 1.25}, "slice interval is 1.25 mm, 1.75 below the training scans' 3 to 5."),
        ({"slice_interval_mm": 5.49}, None),
        ({"slice_interval_mm": 5.51}, "slice interval is 5.51 mm, 0.51 above the training scans' 3 to 5."),
        ({"in_plane_spacing_mm": 0.62}, "in-plane spacing is 0.62 mm, 0.08 below the training scans' 0.7 to 0.9."),
        ({"in_plane_spacing_mm": [0.7, None]}, None),
        ({"in_plane_spacing_mm": []}, "in-plane spacing is not stated."),
        ({"hu_mark_mean": None}, "mean in the body mark is not stated."),
    ],
)
def test_warnings(known: dict[str, Any], entries: dict[str, Any], warning: str | None) -> None:
    assert check_acquisition(scan(1, **entries), known) == ([] if warning is None else [warning])


def test_intensities(known: dict[str, Any]) -> None:
    bounds = known["hu_mark_p50"]
    assert check_acquisition(scan(1, hu_mark_p50=bounds["maximum"] + 19.9), known) == []
    (line,) = check_acquisition(scan(1, hu_mark_p50=bounds["maximum"] + 30), known)
    assert line.startswith("median in the body mark is ")
    assert " HU, 30 above the training scans' " in line
    (line,) = check_acquisition(scan(1, hu_mark_p50=bounds["minimum"] - 30), known)
    assert " HU, 30 below the training scans' " in line
    strict = check_acquisition(scan(1, hu_mark_p50=bounds["maximum"] + 1), known, intensity_tolerance_hu=0)
    assert len(strict) == 1


def test_a_scan_in_other_units_is_seen(known: dict[str, Any]) -> None:
    """Grey values 0 to 255 instead of HU."""
    hu = np.random.default_rng(0).integers(0, 255, (2, 30, 30))
    mark = np.ones(hu.shape, bool)
    lines = check_acquisition({**scan(1), **intensity_statistics(hu, mark)}, known)
    assert [line for line in lines if line.startswith("1st percentile in the whole slice")]
    assert [line for line in lines if line.startswith("median in the whole slice")]


def test_everything_missing_is_said_entry_by_entry(known: dict[str, Any]) -> None:
    lines = check_acquisition({}, known)
    assert len(lines) == 1 + 3 + 2 + 10
    assert all("not stated" in line for line in lines)


def test_what_training_scans_did_not_state_is_not_asked_for() -> None:
    known = describe_acquisitions([{"slice_interval_mm": 2.0}])
    assert known["KVP"] == {"values": [], "not_stated": 1}
    assert known["hu_mark_sd"] == {"minimum": None, "maximum": None, "not_stated": 1}
    assert check_acquisition({"KVP": 70, "slice_interval_mm": 2, "contrast": "no"}, known) == []
    (line,) = check_acquisition({"slice_interval_mm": 2, "contrast": "yes"}, known)
    assert line == "contrast agent was given; no training scan states one."


@pytest.mark.parametrize("known", [None, {}])
def test_weights_without_a_description(known: dict[str, Any] | None) -> None:
    (line,) = check_acquisition(scan(), known)
    assert line.startswith("nothing is known of the scans that these weights were trained on")


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "contrast",
                "KVP",
                "ConvolutionKernel",
                "Manufacturer",
                "slice_interval_mm",
                "in_plane_spacing_mm",
                "hu_mark_p01",
            ]
        ),
        st.none()
        | st.floats()
        | st.text()
        | st.integers(-(10**9), 10**9)
        | st.lists(st.floats() | st.text(), max_size=3),
    )
)
@settings(max_examples=100)
def test_never_raises_and_every_warning_is_one_line(known: dict[str, Any], entries: dict[str, Any]) -> None:
    for line in check_acquisition(entries, known):
        assert len(line.splitlines()) == 1
        assert line.isprintable()


def test_statistics_agree_with_numpy() -> None:
    rng = np.random.default_rng(3)
    hu, mark = rng.normal(0, 400, (4, 9, 9)), rng.random((4, 9, 9)) < 0.2
    found = intensity_statistics(hu, mark)
    clipped = np.maximum(hu, -1024)
    for region, values in (("slice", clipped.ravel()), ("mark", clipped[mark])):
        wanted = [*np.percentile(values, [1, 50, 99]), np.mean(values), np.std(values)]
        assert [found[f"hu_{region}_{name}"] for name in STATISTICS] == pytest.approx(wanted)
    padded = np.where(rng.random(hu.shape) < 0.1, -3024, hu)
    assert intensity_statistics(padded)["hu_slice_p01"] == -1024


@pytest.mark.parametrize("mark", [None, np.zeros((1, 2), bool)])
def test_nothing_marked_has_no_statistics(mark: np.ndarray | None) -> None:
    found = intensity_statistics(np.array([[0.0, 1.0]]), mark)
    assert [found[f"hu_mark_{name}"] for name in STATISTICS] == [None] * 5
    assert found["hu_slice_mean"] == 0.5


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"^scans: are none; describe"):
        describe_acquisitions([])
    with pytest.raises(InputError, match=r"^slice_interval_mm: is 'thin', no number; correct it, or leave it out"):
        describe_acquisitions([{"slice_interval_mm": "thin"}])
    for values in (np.array([]), np.array([np.nan])):
        with pytest.raises(InputError, match=r"^grey values: are"):
            intensity_statistics(values)
    for mark in (np.ones((2, 3), bool), np.ones((2, 2))):
        with pytest.raises(InputError, match=r"^mark: is .*; want bool of \(2, 2\)"):
            intensity_statistics(np.zeros((2, 2)), mark)
    with pytest.raises(ValueError, match=r"tolerances must be 0 or more, got -1 and 20.0"):
        check_acquisition({}, {"scans": 1}, spacing_tolerance=-1)
