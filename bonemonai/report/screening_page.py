"""The page of one subject: what was marked, what is probable, and what speaks against believing it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bonemonai.data.atomic import atomic_path
from bonemonai.engines.scan_screening import ScreenedScan
from bonemonai.report.data_notices import SYNTHETIC
from bonemonai.report.report_files import render_page
from bonemonai.report.screening_figures import chosen_slices, pie_figure, slices_figure

METHOD = (
    "Tang et al., CNN-based Automatic Detection of Bone Conditions via Diagnostic CT Images for Osteoporosis Screening"
)


def write_screening_page(path: str | Path, record: Mapping[str, Any], found: ScreenedScan, *, most: int = 4) -> None:
    """Write the page of one subject, a single file that needs no other.

    Args:
        path: of the page.
        record: as :class:`bonemonai.analysis.ScreeningResults` writes it; texts in it are escaped.
        found: the scan that it is of.
        most: slices that are shown.
    """
    probabilities = {name: value for name, value in record["probabilities"].items() if value is not None}
    page = render_page(
        "screening_page.html.j2",
        record=record,
        pie=pie_figure(probabilities, record["decision"]["answer"]) if probabilities else None,
        slices=_slices(found, most),
        attention=bool(found.attention),
        rows=_rows(found),
        trained=_trained(record),
        facts=_facts(record["acquisition"]),
        about=json.dumps(_about(record), indent=1),
        method=record.get("method") or METHOD,
    )
    with atomic_path(Path(path)) as partial:
        partial.write_text(page, encoding="utf-8")


def _slices(found: ScreenedScan, most: int) -> str:
    """Slices that were classified; where none was, some that were to be, or the middle one."""
    asked = [plane for plane, _ in found.scan.slices] or list(found.levels) or [found.volume.shape[0] // 2]
    planes = chosen_slices(sorted(found.crops) or sorted(asked), most)
    rows, columns = found.volume.pixel_spacing_mm
    own = found.table[found.table["copy"] == 0].set_index("plane")
    shown = [
        {
            "image": found.volume.read(plane, plane + 1)[0],
            "mark": found.marks[plane],
            "crop": found.crops.get(plane),
            "box": _box(found, plane),
            "heat": found.heat_maps.get(plane),
            "attention": found.attention.get(plane),
            "title": f"slice {plane} {own['level'].get(plane, '')}".rstrip(),
            "aspect": rows / columns,
        }
        for plane in planes
    ]
    return slices_figure(shown)


def _rows(found: ScreenedScan) -> list[dict[str, Any]]:
    """Slices that were classified, or chosen and refused; of thousands of slices without a mark none."""
    own = found.table[found.table["copy"] == 0]
    if found.chosen_by == "segmentation":
        own = own[own["refusal"] == ""]
    return [{str(key): value for key, value in row.items()} for row in own.to_dict("records")]


def _box(found: ScreenedScan, plane: int) -> tuple[float, float, float, float] | None:
    """Sides of the box that a locator has found."""
    own = found.table[found.table["plane"] == plane]
    if "x1" not in own or own[["x1", "y1", "x2", "y2"]].isna().all(axis=None):
        return None
    x1, y1, x2, y2 = (float(value) for value in own[["x1", "y1", "x2", "y2"]].iloc[0])
    return x1, y1, x2, y2


def _trained(record: Mapping[str, Any]) -> list[str]:
    lines = []
    cards = {"classifier": record.get("weights"), "segmentation": record.get("segmentation")}
    if record.get("vertebrae"):  # one network does both
        cards = {"network": record.get("weights")}
    for name, card in cards.items():
        trained = (card or {}).get("trained_on") or {}
        kind = trained.get("kind", "unknown")
        what = {SYNTHETIC: "PHANTOMS, no patient's scan"}.get(kind, f"data of kind {kind}")
        lines.append(f"The {name} was trained on {what} ({trained.get('data', 'not described')}).")
    return lines


def _facts(acquisition: Mapping[str, Any]) -> list[tuple[str, str]]:
    spacing = acquisition.get("pixel_spacing_mm")
    return [
        ("manufacturer, model", _words(acquisition.get("manufacturer"), acquisition.get("model"))),
        ("tube voltage", _with_unit(acquisition.get("kvp"), "kV")),
        ("kernel", _words(acquisition.get("kernel"))),
        ("pixel spacing", "not stated" if spacing is None else f"{spacing[0]:.3g} x {spacing[1]:.3g} mm"),
        ("slice interval", _with_unit(acquisition.get("slice_interval_mm"), "mm")),
        ("slice thickness", _with_unit(acquisition.get("slice_thickness_mm"), "mm")),
        ("contrast agent", _words(acquisition.get("contrast"))),
    ]


def _words(*values: Any) -> str:
    return ", ".join(str(value) for value in values if value) or "not stated"


def _with_unit(value: Any, unit: str) -> str:
    return "not stated" if value is None else f"{float(value):.4g} {unit}"


def _about(record: Mapping[str, Any]) -> dict[str, Any]:
    shown = ("bonemonai", "packages", "configs", "options", "seed", "inputs", "thresholds")
    cards = {name: (record.get(name) or {}).get("sha256") for name in ("weights", "segmentation") if name in record}
    return {**{name: record[name] for name in shown if name in record}, "sha256": cards}
