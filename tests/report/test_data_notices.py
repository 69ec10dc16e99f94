from __future__ import annotations

from typing import Any

import pytest

from bonemonai.report.data_notices import (
    collect_notices,
    data_sentence,
    heading_flags,
    kind_tested_on,
    kinds_trained_on,
    trainings,
)


def record(trained: Any, tested: str | None) -> dict[str, Any]:
    return {"weights": {"trained_on": trained}, "tested_on": tested}


PHANTOM = record({"kind": "synthetic"}, "synthetic")
SCANS = record({"kind": "ex vivo"}, "ex vivo")
NOTHING: dict[str, Any] = {}


@pytest.mark.parametrize("weights", [None, "no card", {}, {"trained_on": None}, {"trained_on": "x"}])
def test_what_is_not_said_is_unknown(weights: Any) -> None:
    for found in ({"weights": weights}, {"weights_of_folds": [weights]}, {"weights_of_folds": [], "weights": weights}):
        assert trainings(found) == [{}]
        assert (kinds_trained_on(found), kind_tested_on(found)) == ({"unknown"}, "unknown")


def test_every_folds_weights_count() -> None:
    cards = [{"trained_on": {"kind": kind}} for kind in ("ex vivo", "synthetic")]
    mixed = {"weights_of_folds": cards, "weights": cards[0], "tested_on": "ex vivo"}
    assert kinds_trained_on(mixed) == {"ex vivo", "synthetic"}
    said = "trained on data of this kind: ex vivo, synthetic; tested on: ex vivo."
    assert data_sentence(mixed, nothing_about="bone") == said
    assert heading_flags([mixed]) == {"synthetic": True, "known": True}


@pytest.mark.parametrize(
    ("found", "sentence", "flags"),
    [
        (PHANTOM, "trained and tested on a synthetic phantom: these figures say nothing about mice.", (True, True)),
        (SCANS, "trained and tested on data of this kind: ex vivo.", (False, True)),
        (NOTHING, "trained and tested on data of unknown kind, real or synthetic.", (False, False)),
        (record(None, "synthetic"), "trained on data of this kind: unknown; tested on: synthetic.", (True, True)),
    ],
)
def test_sentences(found: dict[str, Any], sentence: str, flags: tuple[bool, bool]) -> None:
    assert data_sentence(found, nothing_about="mice") == sentence
    assert heading_flags([found]) == dict(zip(("synthetic", "known"), flags, strict=True))


def test_notices_name_all_they_hold_of_the_phantom_first() -> None:
    named = [("a", SCANS), ("b", PHANTOM), ("c", SCANS), ("d", NOTHING)]
    said = [(name, data_sentence(each, nothing_about="bone")) for name, each in named]
    assert collect_notices([*said, ("d", "LEAKAGE.")], nothing_about="bone", between="; ") == [
        "b: trained and tested on a synthetic phantom: these figures say nothing about bone.",
        "a; c: trained and tested on data of this kind: ex vivo.",
        "d: trained and tested on data of unknown kind, real or synthetic.",
        "d: LEAKAGE.",
    ]
    assert collect_notices([], nothing_about="bone", between=", ") == []
    assert heading_flags([]) == {"synthetic": False, "known": False}
