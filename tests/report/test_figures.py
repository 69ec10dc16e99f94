from __future__ import annotations

import base64
import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from bonemonai.report import overlay_figure, volume_figure
from bonemonai.report.figures import data_url


def pixels(url: str) -> np.ndarray:
    head, data = url.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).reshape(-1, 3).astype(int)


def has_colour(url: str, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels(url) - colour).sum(axis=1) < 40).any())


def plane(truth: bool, prediction: bool) -> dict:
    masks = {}
    for name, shown, row in (("truth", truth, 10), ("prediction", prediction, 90)):
        mask = np.zeros((120, 130), np.uint8)
        mask[row : row + 20, 40:70] = shown
        masks[name] = mask
    return {"image": np.zeros((120, 130), np.float32), "title": "plane 3", **masks}


def test_outlines_are_drawn_in_their_colours() -> None:
    both = overlay_figure([plane(True, True), plane(True, False)])
    assert has_colour(both, (86, 180, 233))
    assert has_colour(both, (213, 94, 0))


def test_empty_masks_are_no_error() -> None:
    assert overlay_figure([plane(False, False)]).startswith("data:image/png")


def test_volume_figure_takes_empty_tables() -> None:
    values = np.array([50.0, 200.0, 300.0])
    assert has_colour(volume_figure({"truth": np.array([]), "prediction": values}), (213, 94, 0))
    assert volume_figure({"truth": np.array([]), "prediction": np.array([])}).startswith("data:image/png")


def test_data_url_is_a_png_that_names_no_software() -> None:
    url = data_url(Figure(figsize=(2, 1), facecolor="#D55E00"))
    assert url == data_url(Figure(figsize=(2, 1), facecolor="#D55E00"))
    assert (pixels(url) == (213, 94, 0)).all()
    image = Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))
    assert image.size == (220, 110)
    assert "Software" not in image.info
