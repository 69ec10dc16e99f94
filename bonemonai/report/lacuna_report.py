"""The report of paper 1's segmentation: one page that needs no other file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from bonemonai.analysis.lacuna_table import LacunaSummary, measure_lacunae, summarise_lacunae
from bonemonai.analysis.overlap import Overlap, measure_overlap
from bonemonai.analysis.threshold_baseline import Scan, ThresholdBaseline, score_thresholds
from bonemonai.data.data_card import read_data_card
from bonemonai.data.fingerprint import fingerprint
from bonemonai.data.labels import ORIGIN_COLUMN, refuse_predicted, truth_items
from bonemonai.data.manifest import manifest_items, read_manifest
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError
from bonemonai.report.figures import overlay_figure, volume_figure
from bonemonai.report.report_files import render_page, write_report

LEAST_VOLUME_UM3 = 20.0

# Poles et al., Table I (a), percent: model, DSC of lacunae, DSC of background
PAPER_TABLE_1A = (
    ("vgg16-1", "57.48", "99.39"),
    ("U-Net-1", "58.52", "99.12"),
    ("vgg16-2", "61.92", "99.42"),
    ('U-Net-2, "ours"', "63.12", "99.37"),
)


class _Measured(NamedTuple):
    overlap: Overlap
    predicted: pd.DataFrame
    true: pd.DataFrame
    predicted_summary: LacunaSummary
    true_summary: LacunaSummary
    baselines: list[ThresholdBaseline]


def write_lacuna_report(
    results: str | Path, *, manifest: str | Path, patient: str, progress: bool = False
) -> tuple[Path, Path, Path]:
    """Score a segmented scan and write ``report.html``, ``scores.csv`` and ``lacunae.csv`` beside it.

    Args:
        results: output folder of the bundle's inference: ``lacunae.ome.zarr``, ``bone.ome.zarr``, ``run.json``.
        manifest: the study; its training subjects tune the thresholds the network is compared with.
        patient: whose scan was segmented. No output names the patient.
        progress: show a bar on standard error.

    Returns:
        The three files.

    Raises:
        InputError: if a file is missing, the results are of another scan, shapes or voxel sizes differ, or the
            manifest does not hold the patient out. Whether the weights were trained on this patient under another
            manifest cannot be told from here.
    """
    results = Path(results)
    table = read_manifest(manifest)
    row = _held_out_row(manifest, table, patient)
    if row.get("label"):
        refuse_predicted(row["label"], str(row.get(ORIGIN_COLUMN) or ""))
    predicted, bone = (open_volume(results / f"{name}.ome.zarr") for name in ("lacunae", "bone"))
    with tqdm(total=4, desc="scoring", disable=not progress) as bar:
        truth, image, true_bone = (_open(row, key) for key in ("label", "image", "mask"))
        record = _read_record(results / "run.json", image)
        overlap = measure_overlap(predicted, truth)
        bar.update()
        found, true = measure_lacunae(predicted), measure_lacunae(truth)
        bar.update()
        found_summary = summarise_lacunae(found, bone, least_volume_um3=LEAST_VOLUME_UM3)
        true_summary = summarise_lacunae(true, true_bone, least_volume_um3=LEAST_VOLUME_UM3)
        bar.update()
        train = [Scan(_open(item, "image"), _open(item, "label")) for item in truth_items(table, "train")]
        baselines = score_thresholds(train, Scan(image, truth))
        bar.update()
    measured = _Measured(overlap, found, true, found_summary, true_summary, baselines)
    files = results / "report.html", results / "scores.csv", results / "lacunae.csv"
    page = _page(measured, (image, truth, predicted), read_data_card(manifest), record)
    write_report(files, page, [_scores(measured), measured.predicted.round(3)])
    return files


def _held_out_row(manifest: str | Path, table: pd.DataFrame, patient: str) -> dict[Any, Any]:
    rows = table[table["patient"] == patient]
    if len(rows) != 1:
        raise InputError(manifest, f"has {len(rows)} images of patient {patient!r}; a report is of one.")
    row = manifest_items(rows)[0]
    if row.get("split") != "test":
        raise InputError(manifest, f"patient {patient!r} is in split {row.get('split')!r}; only 'test' is held out.")
    return row


def _read_record(path: Path, image: Volume) -> dict[str, Any]:
    """Read how the results came about, and refuse results of another scan than the patient's."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        segmented = record["inputs"]["dataset_dir"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(path, "is no record of an inference run; scores without it could be of any scan.") from error
    if segmented != fingerprint(image.path):
        raise InputError(path, "belongs to another scan than this patient's in the manifest.")
    return record


def _open(row: dict[Any, Any], key: str) -> Volume:
    if not row.get(key):
        raise InputError("manifest", f"gives no {key!r} of {row.get('image')}, which the report needs.")
    return open_volume(row[key], voxel_size_um=row.get("voxel_size_um") or None)


def _scores(measured: _Measured) -> pd.DataFrame:
    rows: list[tuple[str, str, float, str]] = [
        ("U-Net", "dsc_lacunae", measured.overlap.dsc, "1"),
        ("U-Net", "dsc_background", measured.overlap.background_dsc, "1"),
    ]
    rows += [(f"threshold: {b.name}", "dsc_lacunae", b.dsc, "1") for b in measured.baselines]
    units = {"number": "1", "bone_volume_mm3": "mm3", "number_density_per_mm3": "1/mm3", "median_volume_um3": "um3"}
    for who, summary in (("U-Net", measured.predicted_summary), ("truth", measured.true_summary)):
        rows += [(who, name, value, units.get(name, "1")) for name, value in summary._asdict().items()]
    return pd.DataFrame(rows, columns=["method", "quantity", "value", "unit"])


def _page(
    measured: _Measured, volumes: tuple[Volume, Volume, Volume], card: dict[str, Any], record: dict[str, Any]
) -> str:
    trained_on = (record.get("weights") or {}).get("trained_on")
    return render_page(
        "lacuna_report.html.j2",
        synthetic=card.get("kind") == "synthetic",
        data=card.get("name", "not described (no data card)"),
        trained_on=_training_sentence(trained_on),
        overlap=measured.overlap,
        voxels=f"{math.prod(volumes[0].shape):,}",
        baselines=measured.baselines,
        paper=PAPER_TABLE_1A,
        gain=measured.overlap.dsc - measured.baselines[0].dsc,
        overlay=overlay_figure(_shown_planes(*volumes)),
        least_volume=f"{LEAST_VOLUME_UM3:g}",
        morphometry=_morphometry(measured),
        volumes=volume_figure({"truth": _kept(measured.true), "prediction": _kept(measured.predicted)}),
        record=json.dumps(record, indent=2),
    )


def _training_sentence(trained_on: dict[str, Any] | None) -> str:
    if not trained_on:
        return "What the model was trained on is not known: no card lies beside its weights."
    patients = trained_on.get("patients", {})
    kind = f" ({trained_on['kind']} data)" if trained_on.get("kind") else ""
    leakage = trained_on.get("leakage")
    leakage = f" LEAKAGE: {leakage}; scores say nothing of other patients." if leakage else ""
    return (
        f"The model was trained on {patients.get('train', '?')} and chosen on {patients.get('val', '?')} subjects of: "
        f"{trained_on.get('data')}{kind}."
        f"{leakage}"
    )


def _kept(table: pd.DataFrame) -> np.ndarray[Any, Any]:
    whole = ~table["touches_first"] & ~table["touches_last"] & (table["volume_um3"] >= LEAST_VOLUME_UM3)
    return table["volume_um3"][whole].to_numpy()


def _shown_planes(image: Volume, truth: Volume, predicted: Volume) -> list[dict[str, Any]]:
    planes = []
    for share in (0.2, 0.5, 0.8):
        index = int(share * image.shape[0])
        shown = {name: v.read(index, index + 1)[0] for name, v in (("truth", truth), ("prediction", predicted))}
        planes.append({"image": image.read(index, index + 1)[0], "title": f"plane {index}", **shown})
    return planes


def _morphometry(measured: _Measured) -> list[dict[str, str]]:
    names = {
        "number": ("Lc.N", "", "{:,.0f}"),
        "bone_volume_mm3": ("BV", "mm³", "{:.4f}"),
        "number_density_per_mm3": ("Lc.N/BV", "1/mm³", "{:,.0f}"),
        "median_volume_um3": ("median Lc.V", "µm³", "{:.0f}"),
        "porosity": ("lacunar porosity Lc.V/BV", "%", "{:.2%}"),
    }
    return [
        {
            "name": name,
            "unit": "" if unit == "%" else unit,
            "predicted": form.format(getattr(measured.predicted_summary, key)),
            "true": form.format(getattr(measured.true_summary, key)),
        }
        for key, (name, unit, form) in names.items()
    ]
