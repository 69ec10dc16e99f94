from __future__ import annotations

from bonemonai.sharing.model_card import model_card, section
from tests.sharing.small_bundle import CARD, METADATA, README


def card(weights: dict[str, object]) -> str:
    return model_card("small", METADATA, weights, README, "No data.\n\nOurs.\n")


def test_what_it_was_trained_on_comes_first() -> None:
    text = card({"models/model.pt": CARD})
    assert text.startswith("# A small bundle: model card\n\n**Research software, not a medical device")
    order = [
        "not a medical device",
        "## Trained on",
        "data: a phantom",
        "score: 0.5123",
        "> No data.",
        "## What it does",
    ]
    order += ["One linear layer.", "Task: Nothing", "0: grey value", "## Performance", "It was 0.5.", "On phantoms"]
    order += ["small 0.2.0", "Nobody. Copyright (c) nobody.", "- A paper."]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "scans: 9: 0, 1, 2, 3, 4, 5, 6, 7, ..." in text
    assert "## Citation" not in text


def test_what_is_not_known_is_said() -> None:
    assert "No weights are shipped." in card({})
    assert "- No card says what they were trained on." in card({"models/model.pt": None})
    assert "Not stated." in model_card("small", METADATA, {}, "# Nothing", "")


def test_sections_end_where_the_next_begins() -> None:
    assert section("## A\nx\n### B\ny\n## C\nz", "A") == "x\n### B\ny"
    assert section("## Performance of it\nx", "Performance") == "x"
    assert section("text", "A") == ""
