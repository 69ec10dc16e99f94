from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

CARDS = sorted(path for path in (ROOT / "data_manifests").glob("*.json") if not path.with_suffix(".csv").exists())
KEYS = (
    "name", "kind", "source", "doi", "paper_doi", "licence", "available", "url", "modality", "subjects", "images",
    "shape", "voxel_size_um", "units", "classes", "notes", "sha256", "not_known",
)  # fmt: skip


@pytest.fixture(params=CARDS, ids=lambda path: path.stem)
def card(request: pytest.FixtureRequest) -> Any:
    path: Path = request.param
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_paper_and_public_set_has_a_card() -> None:
    assert sum(path.stem.startswith("paper_") for path in CARDS) == 5
    public = {"verse_2019", "verse_2020", "ctspine1k", "bone_dryad_b2rbnzsq4", "bone_dryad_4j0zpc8qq", "esa29_99_l3"}
    assert public | {"verse19_density_calibrated"} <= {path.stem for path in CARDS}


def test_what_is_not_known_is_said(card: Any) -> None:
    assert tuple(card) == KEYS
    assert set(card["not_known"]) == {name for name in KEYS if card[name] is None}


def test_values_have_the_forms_that_code_expects(card: Any) -> None:
    assert card["kind"] in ("clinical", "ex vivo", "animal", "synthetic")
    assert card["available"] in ("public", "on request", "not public", None)
    size = card["voxel_size_um"]
    assert size is None or (len(size) == 3 and all(edge > 0 for edge in size))
    assert all(not (card[name] or "").startswith("http") for name in ("doi", "paper_doi"))
