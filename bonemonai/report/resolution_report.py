"""The report of paper 5: a network that sharpens microCT, judged by bone first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonemonai.analysis.bone_verdict import JUDGED, OTHERS, error_reach
from bonemonai.analysis.method_morphometry import METHODS, QUANTITIES
from bonemonai.report.data_notices import (
    collect_notices,
    data_sentence,
    heading_flags,
    kind_tested_on,
    kinds_trained_on,
)
from bonemonai.report.report_files import number_filter, refuse_earlier_report, render_page, shown_record, write_report
from bonemonai.report.resolution_figures import bland_altman_figure, panel_figure, quality_figure
from bonemonai.report.resolution_inputs import TITLES, Panel, Resolution, read_resolutions
from bonemonai.report.screening_report import grouped, short_cards

_FILES = ("report.html", "verdict.csv", "agreement.csv", "matrix.csv")
_RECORDED = (
    "bonemonai", "packages", "configs", "options", "seed", "split", "site", "frames", "grey_range", "per_slice",
    "tested_on", "leakage", "scored", "weights",
)  # fmt: skip
_ABOUT = "bone"
_MOST_PANELS = 12


def write_resolution_report(
    output_dir: str | Path, *, results: Mapping[str, str | Path], overwrite: bool = False
) -> list[Path]:
    """Write ``report.html``, which needs no other file, ``verdict.csv``, ``agreement.csv`` and ``matrix.csv``.

    ``verdict.csv`` has a row a result: what it was trained and tested on, mean PSNR and SSIM of each method, the
    verdict; ``agreement.csv`` the rows of each result's, see :func:`bonemonai.analysis.morphometry_agreement`, with
    ``reach``, the limit farther from 0; ``matrix.csv`` a row a pair of what was trained on and tested on, means over
    the runs of it, such as seeds, and their least and largest. What was not measured is n/a (empty in CSV). No output
    names a path; specimens appear by pseudonyms.

    Args:
        output_dir: of the four files.
        results: name to folder of an evaluation, or to a folder of such folders (``matrix.json``'s).
        overwrite: replace an earlier report.

    Returns:
        The four files.

    Raises:
        InputError: if nothing is given, a folder holds no evaluation, or a file is damaged.
        OutputError: if there is a report already, or the folder cannot be written to.

    Source:
        David et al., Fig. 2 and 2.4 to 2.5. The verdict, limits' intervals, lost and invented bone are ours.
    """
    files = [Path(output_dir) / name for name in _FILES]
    refuse_earlier_report(files, overwrite=overwrite)
    found = read_resolutions(results)
    verdicts = pd.DataFrame([_verdict_row(each) for each in found])
    tables = [verdicts, _agreements(found), _matrix(verdicts)]
    write_report(files, _page(found, tables), tables, float_format="%.6g")
    return files


def _verdict_row(each: Resolution) -> dict[str, Any]:
    row: dict[str, Any] = {"result": each.name, "trained_on": each.trained, "tested_on": each.tested,
                           "data": _data(each), "bone": each.rule}  # fmt: skip
    row |= {"specimens": each.specimens["specimen"].nunique(), "subjects": each.subjects}
    means = each.specimens.groupby("method")[["psnr_db", "ssim"]].mean()
    for metric, method in ((metric, method) for metric in ("psnr_db", "ssim") for method in METHODS):
        row[f"{metric}_{method}"] = means[metric].get(method, np.nan)
    if each.agreement is not None and each.overlap is not None:
        reach, lost = error_reach(each.agreement), each.overlap.groupby("method")["lost"].mean()
        row |= {f"reach_{q}_{m}": reach[q][m] for q in JUDGED for m in METHODS}
        row |= {f"lost_{method}": lost[method] for method in METHODS}
    verdict = each.verdict
    if verdict is not None:
        row |= {"verdict": verdict.words, "misleads": verdict.misleads, "better": " ".join(verdict.better),
                "worse": " ".join(verdict.worse)}  # fmt: skip
    return row


def _data(each: Resolution) -> str:
    """Kinds of data, and what values were scaled by."""
    kinds = f"{'; '.join(sorted(kinds_trained_on(each.record)))} / {kind_tested_on(each.record)}"
    ends = each.record.get("grey_range")
    shared = isinstance(ends, list) and not each.record.get("per_slice")
    return f"{kinds}, {' to '.join(f'{end:g}' for end in ends or ()) if shared else 'each slice'}"


def _agreements(found: Sequence[Resolution]) -> pd.DataFrame:
    tables = []
    for each in found:
        if each.agreement is not None:
            tables.append(_with_reach(each.agreement).assign(result=each.name, rule=each.rule))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["result", "quantity", "method"])


def _with_reach(agreement: pd.DataFrame) -> pd.DataFrame:
    reach = error_reach(agreement)
    pairs = zip(agreement["quantity"], agreement["method"], strict=True)
    return agreement.assign(reach=[reach[quantity][method] for quantity, method in pairs])


def _matrix(verdicts: pd.DataFrame) -> pd.DataFrame:
    numbers = [name for name in map(str, verdicts) if name.startswith(("psnr_db_", "ssim_", "reach_", "lost_"))]
    rows = []
    # runs of other data, scaling or bone are no runs of one cell
    alike = ["trained_on", "tested_on", "data", "bone"]
    for key, part in verdicts.groupby(alike, sort=False):
        row: dict[str, Any] = {**dict(zip(alike, key, strict=True)), "runs": len(part)}
        row |= {name: part[name].max() for name in ("specimens", "subjects")}
        row |= {name: float(part[name].mean()) for name in numbers}
        for metric in ("psnr_db", "ssim"):
            row |= {
                f"{metric}_dl_least": part[f"{metric}_dl"].min(),
                f"{metric}_dl_largest": part[f"{metric}_dl"].max(),
            }
            gain = 100 * (part[f"{metric}_dl"] / part[f"{metric}_lr"] - 1)
            row[f"{metric}_gain_percent"] = gain.mean()
        if "misleads" in part:
            row["misleading_runs"] = int(part["misleads"].eq(True).sum())
        rows.append(row)
    return pd.DataFrame(rows)


def _page(found: Sequence[Resolution], tables: Sequence[pd.DataFrame]) -> str:
    return render_page(
        "resolution_report.html.j2",
        {"number": number_filter("{:.3f}"), "named": lambda name: TITLES.get(name, name)},
        **heading_flags(each.record for each in found),
        notices=_notices(found),
        results=[_shown(each, panels) for each, panels in zip(found, _panels(found), strict=True)],
        matrix=tables[2].to_dict("records"),
        methods=METHODS,
        others=OTHERS,
        judged=JUDGED,
        has_bone=any(each.agreement is not None for each in found),
    )


def _panels(found: Sequence[Resolution]) -> list[list[Panel]]:
    """Which planes a page shows of each result: noise makes large pictures."""
    share = max(1, _MOST_PANELS // len(found))
    return [each.panels[: share if number < _MOST_PANELS else 0] for number, each in enumerate(found)]


def _shown(each: Resolution, panels: Sequence[Panel]) -> dict[str, Any]:
    verdict, bone = each.verdict, each.agreement is not None
    figure = ""
    agreement: list[Any] = []
    overlap: list[Any] = []
    tissues: list[Any] = []
    if each.agreement is not None and each.morphometry is not None and each.overlap is not None:
        table = _with_reach(each.agreement)
        table["best"] = table["reach"] == table.groupby("quantity")["reach"].transform("min")
        agreement = grouped(table, "quantity")
        figure = bland_altman_figure(each.morphometry, each.agreement, JUDGED)
        shares = each.overlap.groupby("method")[["dice", "lost", "invented"]].mean().loc[list(METHODS)]
        overlap = shares.reset_index().to_dict("records")
        tissues = each.morphometry[["quantity", "tissue"]].drop_duplicates().to_dict("records")
    return {
        "name": each.name, "trained": each.trained, "tested": each.tested, "leakage": each.leakage, "bone": bone,
        "specimens": each.specimens["specimen"].nunique(), "subjects": each.subjects,
        "verdict": verdict, "rule": each.rule,
        "agreement": agreement, "units": QUANTITIES, "figure": figure, "overlap": overlap, "tissues": tissues,
        "comparison": each.comparison.to_dict("records"),
        "quality": quality_figure(each.specimens),
        "panels": [(panel.specimen, panel.plane, panel_figure(panel, each.planes)) for panel in panels],
        "hidden_panels": len(each.panels) - len(panels),
        "record": shown_record(short_cards(each.record, ["weights"]), _RECORDED),
    }  # fmt: skip


def _notices(found: Sequence[Resolution]) -> list[str]:
    said = [(each.name, data_sentence(each.record, nothing_about=_ABOUT)) for each in found]
    said += [(each.name, f"LEAKAGE: {each.leakage}.") for each in found if each.leakage]
    said += [(each.name, f"scored on split {split}, not on the test: scores flatter the network.") for each in found
             if (split := str(each.record.get("split") or "test")) != "test"]  # fmt: skip
    said += [(each.name, "specimens of one subject are no independent pairs: p and intervals are too small.")
             for each in found if each.subjects < each.specimens["specimen"].nunique()]  # fmt: skip
    said += [(each.name, "bone was not measured: its slices were scaled each to its own range.")
             for each in found if each.record.get("per_slice")]  # fmt: skip
    return collect_notices(said, nothing_about=_ABOUT, between="; ")
