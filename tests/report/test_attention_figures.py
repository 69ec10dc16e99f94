from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bonemonai.report.attention_figures import curve_figure, gradcam_panels
from tests.report.evaluations import CLASSES
from tests.report.test_figures import has_colour

DPI = 110
OUTLINE = (0, 114, 178)
LINES = [(213, 94, 0), (0, 114, 178), (0, 158, 115)]


def patch(subject: str = "subject_00", diagnosis: str = "healthy", *, masked: bool = True, **changes: Any) -> dict:
    mask = np.zeros((55, 55), bool)
    mask[20:35, 20:35] = masked
    heat = np.linspace(0, 1, 55 * 55, dtype=np.float16).reshape(55, 55)
    made = {"fold": "", "subject": subject, "diagnosis": diagnosis, "decision": "healthy", "mask": mask, "map": heat}
    return {"image": np.full((55, 55), 0.5, np.float16), **made, **changes}


def size_in(url: str) -> tuple[float, float]:
    """Width and height of a figure in inches."""
    width, height = Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))).size
    return width / DPI, height / DPI


def rows_and_models(url: str) -> tuple[float, float]:
    width, height = size_in(url)
    return round(height / 2.3, 2), round((width - 1.0) / 2.0 - 2, 2)


def test_models_that_saw_the_same_patches_share_a_figure() -> None:
    seen = [patch("subject_00"), patch("subject_01", "osteoporotic")]
    other = [patch("subject_00", image=np.zeros((55, 55), np.float16))]
    panels = gradcam_panels({"resnet50": other, "vgg16": seen[::-1], "alexnet": [], "mga": seen}, CLASSES)
    assert [names for names, _ in panels] == ["MGA, vgg16", "ResNet50"], (
        "the paper's proposal, last in its table, leads"
    )
    assert [rows_and_models(url) for _, url in panels] == [(2, 2), (1, 1)]
    assert all(has_colour(url, OUTLINE) for _, url in panels)


@pytest.mark.parametrize("changes", [{"fold": "fold_01"}, {"subject": "s"}, {"mask": np.ones((55, 55), bool)}])
def test_patches_are_the_same_only_if_all_of_them_is(changes: dict[str, Any]) -> None:
    panels = gradcam_panels({"vgg16": [{**patch(), **changes}], "mga": [patch()]}, CLASSES)
    assert [names for names, _ in panels] == ["MGA", "vgg16"]


def test_not_a_number_equals_itself() -> None:
    image = np.full((55, 55), np.nan, np.float16)
    assert len(gradcam_panels({"vgg16": [patch(image=image)], "mga": [patch(image=image.copy())]}, CLASSES)) == 1


def test_nothing_to_show_is_no_figure() -> None:
    assert gradcam_panels({}, CLASSES) == []
    assert gradcam_panels({"mga": [], "vgg16": [patch(diagnosis="osteopenic")]}, CLASSES) == []


def test_patients_take_turns() -> None:
    of_one = [patch("subject_00", masked=False, map=np.zeros((55, 55))) for _ in range(5)]
    ((_, url),) = gradcam_panels({"mga": of_one}, CLASSES)
    assert rows_and_models(url) == (3, 1), "three patches a class"
    assert not has_colour(url, OUTLINE)
    ((_, url),) = gradcam_panels({"mga": [*of_one, patch("subject_01")]}, CLASSES)
    assert rows_and_models(url) == (3, 1)
    assert has_colour(url, OUTLINE), "the other patient's patch comes last in the table, not in the figure"


def test_maps_are_scaled_by_their_own_highest_value() -> None:
    heat = patch()["map"]
    nothing = np.zeros_like(heat)
    urls = [
        gradcam_panels({"mga": [patch(map=shown)]}, CLASSES)[0][1]
        for shown in (heat, heat / 2, heat[::-1], nothing, np.full_like(heat, np.nan))
    ]
    assert urls[0] == urls[1]
    assert urls[3] == urls[4], "no map"
    assert len(set(urls)) == 3


def curve(*, scored: bool = True, epochs: int = 20) -> pd.DataFrame:
    numbers = np.arange(1.0, epochs + 1)
    table = pd.DataFrame({"epoch": numbers, "loss": 0.7 * np.exp(-numbers / 10)})
    return table.assign(patch_accuracy=0.5) if scored else table


def test_curves_have_their_models_colours() -> None:
    url = curve_figure({"alexnet": [], "vgg16": [curve()], "mga": [curve(), curve(epochs=3)]})
    assert [has_colour(url, colour) for colour in LINES] == [True, True, False]


def test_validation_is_drawn_where_there_was_one() -> None:
    assert size_in(curve_figure({"mga": [curve(scored=False)]})) == pytest.approx((6.5, 3.6))
    assert size_in(curve_figure({"mga": [curve(scored=False)], "vgg16": [curve()]})) == pytest.approx((10.5, 3.6))


def test_no_curves_are_no_figure() -> None:
    assert curve_figure({}) == ""
    assert curve_figure({"mga": []}) == ""


def test_more_models_than_colours() -> None:
    assert len({curve_figure({f"model_{n}": [curve()] for n in range(count)}) for count in (5, 6, 7)}) == 3
