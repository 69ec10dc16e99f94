"""Masks that a model predicted become a manifest that says so."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from bonemonai.data.data_card import copy_data_card
from bonemonai.data.labels import ORIGIN_COLUMN, predicted_by
from bonemonai.data.manifest import read_manifest, write_manifest
from bonemonai.data.scan_dataset import ScanDataset
from bonemonai.errors import InputError, OutputError
from bonemonai.inferers.ranks import agree

logger = logging.getLogger(__name__)


def write_predicted_masks(
    manifest_path: str | Path,
    dataset: ScanDataset,
    results: str | Path,
    path: str | Path,
    *,
    column: str = "label",
    name: str = "lacunae.ome.zarr",
    overwrite: bool = False,
) -> pd.DataFrame:
    """Write a manifest anew with the masks that were inferred for some of its rows.

    As ``label``, masks are pseudo-labels: ``label_origin`` gives the sha256 of the model that made them, so that
    :func:`bonemonai.data.truth_items` refuses to score against them. As ``lacunae``, they guide a classifier's
    attention. ``<column>_plane`` is the plane within the mask, whose file holds the chosen planes only. The data card
    beside the manifest is copied, with the model's sha256.

    Args:
        manifest_path: the manifest that was inferred.
        dataset: its scans that were inferred.
        results: folder that holds a folder of results a scan.
        path: of the new manifest; scans and results must lie in its folder or below.
        column: "label" or "lacunae".
        name: of the result.
        overwrite: replace a manifest that differs.

    Returns:
        The new manifest.

    Raises:
        InputError: if a result is missing, or was made by no known model, or a row has a label already.
        OutputError: if there is another manifest of that name.
    """
    if column not in ("label", "lacunae"):
        raise InputError("column", f"must be label or lacunae, got {column!r}.")
    manifest = read_manifest(manifest_path)
    plane_column, origins = f"{column}_plane", f"{column}_origin"
    for needed in (column, plane_column, origins):
        if needed not in manifest:
            manifest[needed] = ""
    for scan in dataset.scans:
        mask = Path(results, scan.name, name)
        origin = predicted_by(mask) if mask.exists() else ""
        if not origin:
            raise InputError(mask, "is no mask that a known model made: has inference ended without an error?")
        for index, row in enumerate(scan.rows):
            same = str(manifest.loc[row, "image"]) == str(scan.path)
            if scan.planes:
                same &= str(manifest.loc[row, "plane"]).lstrip("0") == str(scan.planes[index]).lstrip("0")
            if not same:
                raise InputError(manifest_path, "has changed since its scans were inferred; run the step again.")
            if manifest.loc[row, column]:
                raise InputError(manifest_path, f"row {row} of column {column!r} has a mask already.")
            manifest.loc[row, [column, origins]] = [str(mask.resolve()), origin]
            manifest.loc[row, plane_column] = str(index) if scan.planes else ""
    agree(lambda: _write(manifest, Path(manifest_path), Path(path), overwrite=overwrite))
    logger.info("%d rows have masks by a model.", int((manifest[origins] != "").sum()))
    return manifest


def _write(manifest: pd.DataFrame, source: Path, path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite and read_manifest(path).to_dict("records") != manifest.to_dict("records"):
        raise OutputError(path, "exists already and differs; say --overwrite True, or choose another name.")
    write_manifest(manifest, path)
    origins = sorted({origin for name in (ORIGIN_COLUMN, "lacunae_origin") if name in manifest
                      for origin in manifest[name] if origin})  # fmt: skip
    copy_data_card(source, path, masks_predicted_by=origins)
