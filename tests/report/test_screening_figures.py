from __future__ import annotations

import base64
import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bonemonai.report.screening_figures import chosen_slices, pie_figure, slices_figure
from tests.report.test_attention_figures import size_in

CONDITIONS = ("normal", "low bone mass", "osteoporosis")


def grey(url: str) -> np.ndarray:
    """Luminance, as a printer without colour has it, 0 to 255."""
    content = base64.b64decode(url.split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"), dtype=np.int64)


def pie(*shares: float, answer: str = "normal") -> str:
    return pie_figure(dict(zip(CONDITIONS, shares, strict=True)), answer)


def full(index: int) -> np.ndarray:
    """The pie's ring where one condition has all, in grey."""
    image = grey(pie(*(float(number == index) for number in range(3))))
    # of both halves of the ring, right and left of the answer; far from the legend
    middle = image.shape[0] // 2
    row = image[middle]
    inked = np.flatnonzero(row < 250)
    left = inked[0]
    return image[middle - 25 : middle + 25, left + 6 : left + 46]


def test_parts_are_told_apart_in_grey() -> None:
    """Fill differs in luminance, and so does the hatching: none, lines one way, lines both ways."""
    rings = [full(index) for index in range(3)]
    fills = [np.bincount(ring.ravel(), minlength=256).argmax() for ring in rings]
    for first, second in itertools.pairwise(fills):
        assert first - second > 35
    inked = [float((ring < 60).mean()) for ring in rings]
    assert inked[0] == 0
    assert 0.03 < inked[1] < 0.7 * inked[2]


def test_parts_are_as_large_as_their_probabilities() -> None:
    image = grey(pie(0.75, 0.125, 0.125))
    fill = np.bincount(full(0).ravel(), minlength=256).argmax()
    half = grey(pie(0.375, 0.3125, 0.3125))
    # the legend's patch is of the same size in both
    areas = [int((each == fill).sum()) for each in (image, half)]
    assert areas[0] / areas[1] == pytest.approx(2, abs=0.1)


def test_what_is_written_on_the_pie() -> None:
    whole = pie(0.2, 0.3, 0.5)
    assert whole != pie(0.2, 0.3, 0.5, answer="undecided")
    assert whole == pie(0.2, 0.3, 0.5)
    # nothing runs over the edge, whatever is written
    for url in (whole, pie(0.2, 0.3, 0.5, answer="low bone mass"), pie(0.0, 1.0, 0.0)):
        image = grey(url)
        assert (image[[0, -1]] == 255).all()
        assert (image[:, [0, -1]] == 255).all()


@pytest.mark.parametrize("answer", ["$x$", r"$\frac$", "<script>", "_^"])
def test_texts_are_no_formulas(answer: str) -> None:
    assert pie_figure({answer: 0.5, "other": 0.5}, answer) != pie_figure({answer: 0.5, "other": 0.5}, "y")
    assert slices_figure([shown(title=answer)]) != slices_figure([shown(title="y")])


def shown(**changes: Any) -> dict[str, Any]:
    mark = np.zeros((20, 30), bool)
    mark[5:12, 10:20] = True
    image = np.linspace(-300, 400, 600, dtype=np.float32).reshape(20, 30)
    each = {"image": image, "mark": mark, "crop": np.full((8, 8), 0.5), "title": "slice 3", "aspect": 1.0}
    return {**each, **changes}


def test_slices_with_marks_and_crops() -> None:
    url = slices_figure([shown(), shown(title="slice 5")])
    assert size_in(url) == pytest.approx((6.2, 5.6))
    assert url != slices_figure([shown(mark=np.zeros((20, 30), bool)), shown(title="slice 5")])
    assert url != slices_figure([shown(crop=np.zeros((8, 8))), shown(title="slice 5")])
    # grey values outside the window make no difference
    image = shown()["image"]
    assert slices_figure([shown(image=np.clip(image, -160, 240))]) == slices_figure([shown()])


def test_slices_that_cannot_have_all() -> None:
    """Nothing marked, everything marked, no crop."""
    none, everything = np.zeros((20, 30), bool), np.ones((20, 30), bool)
    assert size_in(slices_figure([shown(mark=none, crop=None)])) == pytest.approx((3.1, 3.5))
    assert size_in(slices_figure([shown(mark=everything), shown(crop=None)])) == pytest.approx((6.2, 5.6))


def test_tall_pixels_are_tall() -> None:
    flat, tall = (grey(slices_figure([shown(aspect=aspect, crop=None)])) for aspect in (0.5, 2.0))
    heights = [int((image[30:] < 250).any(axis=1).sum()) for image in (flat, tall)]
    assert heights[0] < 0.6 * heights[1]


@pytest.mark.parametrize(
    ("planes", "most", "expected"),
    [
        ([], 4, []),
        ([7], 4, [7]),
        ([1, 2, 3], 3, [1, 2, 3]),
        (list(range(10)), 1, [5]),
        (list(range(8)), 4, [1, 3, 5, 7]),
    ],
)
def test_a_few_slices_evenly_spaced(planes: list[int], most: int, expected: list[int]) -> None:
    assert chosen_slices(planes, most) == expected
