from __future__ import annotations

import numpy as np
import pytest

from bonemonai.phantoms import draw_murine_specimen
from bonemonai.phantoms.murine_canals import MurineCanals
from bonemonai.phantoms.murine_outline import murine_outline
from bonemonai.phantoms.murine_specimen import SITES, MurineSite
from bonemonai.phantoms.scan_grid import ScanGrid


@pytest.mark.parametrize("site", SITES)
def test_canals_are_about_one_percent_of_the_shell(site: MurineSite) -> None:
    outline = murine_outline(draw_murine_specimen(site, 2))
    grid = ScanGrid((16, 500, 500), 5.0, np.eye(3) * 5.0, np.array([0.0, -1250.0, -1250.0]))
    share = MurineCanals(outline).share(grid)
    z, y, x = grid.points((slice(0, 16), slice(0, 500), slice(0, 500)))
    outer, inner = outline.surfaces(z, y, x)
    shell = (outer < 0) & (inner > 0)
    assert 0.003 < share[shell].mean() < 0.02
    assert 0 <= share.min() < share.max() == 1


def test_share_is_that_of_a_cylinder() -> None:
    """The volume of one canal, against pi r^2 l and a half sphere at either end."""
    canals = MurineCanals(murine_outline(draw_murine_specimen("femur", 4)))
    canal = max(canals._canals, key=lambda each: each.radius)
    canals._canals = [canal]
    middle = canal.start + canal.step / 2
    size = int(np.linalg.norm(canal.step) / 2.0) + 20
    grid = ScanGrid((size,) * 3, 2.0, np.eye(3) * 2.0, middle - size)
    expected = np.pi * canal.radius**2 * (np.linalg.norm(canal.step) + 4 / 3 * canal.radius)
    assert canals.share(grid).sum() * 8 == pytest.approx(expected, rel=0.02)


def test_the_femurs_run_along_it() -> None:
    for site, least, most in (("femur", 0.68, 0.95), ("spine", 0.4, 0.6)):
        canals = MurineCanals(murine_outline(draw_murine_specimen(site, 4)))  # type: ignore[arg-type]
        assert len(canals) > 300
        along = np.mean([abs(canal.step[0]) / np.linalg.norm(canal.step) for canal in canals._canals])
        assert least < along < most
