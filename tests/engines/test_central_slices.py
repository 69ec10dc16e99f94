from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bonemonai.engines import choose_central_slices


def scores(upper: float | None, lower: float | None, noise: float = 0.0) -> np.ndarray:
    """Of 60 slices: bells of 8 mm around both middles, slices being 2 mm apart."""
    planes = np.arange(60)
    rng = np.random.default_rng(1)
    bells = [
        np.zeros(60) if middle is None else 0.9 * np.exp(-(((planes - middle) * 2 / 8) ** 2))
        for middle in (upper, lower)
    ]
    return np.clip(np.stack(bells, axis=1) + noise * rng.random((60, 2)), 0, 1)


def choose(values: np.ndarray, interval_mm: float = 2.0, **options: Any) -> tuple[int | None, int | None]:
    return choose_central_slices(values, values.max(axis=1), interval_mm, **options)


def test_the_middles_of_both() -> None:
    assert choose(scores(38, 21)) == (38, 21)
    noisy = choose(scores(38, 21, noise=0.05))
    assert all(abs(found - true) <= 1 for found, true in zip(noisy, (38, 21), strict=True))


def test_a_single_slice_that_errs_does_not_win() -> None:
    values = scores(38, 21)
    values[5, 1] = 1.0
    assert choose(values) == (38, 21)


def test_the_upper_one_lies_above_by_a_vertebras_height() -> None:
    """A locator that takes either for either: of all that look alike the pair counts whose distance is possible."""
    values = scores(38, 21)
    values[:, 1] = values[:, 0] = values.max(axis=1)
    assert choose(values) == (38, 21)
    # two middles 4 mm apart are no two vertebrae
    close = choose(scores(31, 29))
    assert close in ((31, None), (None, 29))


def test_one_that_is_not_seen_is_missing_and_never_guessed() -> None:
    assert choose(scores(38, None)) == (38, None)
    assert choose(scores(None, 21)) == (None, 21)
    assert choose(scores(None, None)) == (None, None)
    assert choose(scores(38, 21) / 2) == (None, None)
    assert choose(scores(38, 21) / 2, threshold=0.4) == (38, 21)


def test_a_vertebra_that_is_not_there_is_not_made_of_another() -> None:
    """What a careful reader made of an earlier rule: each time an L1 or an L2 was invented."""
    # an L2 alone, and two slices in which something is seen that is neither
    values, seen = scores(None, 21), scores(None, 21)[:, 1]
    seen[38:40] = 0.6
    assert choose_central_slices(values, seen, 2.0) == (None, 21)
    # T12, which looks a little like an L1, above an L1
    values = np.stack([scores(20, None)[:, 0] + 0.3 * scores(38, None)[:, 0], np.zeros(60)], axis=1)
    seen = scores(20, None)[:, 0] + scores(38, None)[:, 0]
    assert choose_central_slices(values, seen, 2.0) == (20, None)
    # an L1 that is seen over 30 mm: its two ends are no two vertebrae
    values = np.zeros((60, 2))
    values[20:36, 0], values[20:36, 1] = 0.9, 0.3
    upper, lower = choose_central_slices(values, values.max(axis=1), 2.0)
    assert lower is None
    assert upper is not None
    assert 20 <= upper < 36
    # even if its ends are taken for either
    values[20:36] = 0.9
    assert None in choose_central_slices(values, values.max(axis=1), 2.0)


def test_what_is_seen_counts_not_what_it_is_taken_for() -> None:
    values = scores(38, 21) / 2  # as likely the one as the other
    assert choose_central_slices(values, 2 * values.max(axis=1), 2.0) == (38, 21)


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (np.zeros((5, 3)), {}, r"scores must be \(planes, 2\)"),
        (np.zeros((0, 2)), {}, r"scores must be \(planes, 2\)"),
        (np.zeros((5, 2)), {"interval_mm": 0.0}, "interval_mm and sigma_mm must be > 0"),
        (np.zeros((5, 2)), {"gap_mm": (50.0, 20.0)}, "gap_mm rise"),
        (np.zeros((5, 2)), {"gap_mm": (0.0, 20.0)}, "gap_mm rise"),
    ],
)
def test_refusals(values: np.ndarray, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        choose_central_slices(values, np.zeros(len(values)), **{"interval_mm": 2.0, **options})
