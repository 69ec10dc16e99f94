"""Where a classifier of bone damage looks: Grad-CAM of slices over all loading states, and its share on cracks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from monai.data import DataLoader
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset

from bonemonai.analysis.classification_results import clear_results
from bonemonai.analysis.gradcam import gradcam_maps, share_on_mask
from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.json_file import write_json
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)

_PLACE = ("subject", "load_state", "plane", "index")
_MASKS = ("crack", "ring")


class _Slice(NamedTuple):
    """A slice's row of the table, and what a figure shows of it, each (H, W)."""

    row: dict[str, Any]
    image: NDArray[np.float16]
    map: NDArray[np.float16]
    crack: NDArray[np.bool_]


def write_damage_gradcam(
    network: nn.Module,
    layer: str,
    dataset: Dataset[Any],
    classes: Sequence[str],
    output_dir: str | Path,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 20,
    about: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Write ``gradcam.csv``, a row a slice, ``gradcam_states.npz``, images and maps for a figure, and ``gradcam.json``.

    Columns: ``subject``, ``load_state``, ``plane``, ``index``, ``decision``, and for either mask, crack and ring,
    ``crack_share`` (of the map's mass on the mask; empty where the map is 0 everywhere) and ``crack_area`` (of the
    slice inside the mask: what chance would give); both empty where a slice has no such mask. Ring artefacts differ
    between scans as damage does: a network that looks at them has learned the scanner. Maps are of the class decided
    for, before the softmax, so a slice that is taken for pristine shows what speaks for pristine.

    The second file holds, of all slices in their order, ``image`` (n, H, W) float16; ``map`` (n, H, W) float16, 0 to 1,
    each one's highest value being 1, or 0 everywhere; ``crack`` (n, H, W) bool, False where there is no mask;
    ``subject``, ``plane`` and ``decision`` (n,) str; ``load_state`` and ``index`` (n,) int64. All of it is held in
    memory: give the few slices that a figure shows, such as one index in each plane at all loading states.

    Args:
        network: takes (B, 1, H, W) and gives (B, classes) logits in evaluation, such as
            :class:`bonemonai.networks.DamageCNN`.
        layer: see :func:`gradcam_maps`; the network's ``cam_layer``.
        dataset: items with ``image`` (1, H, W) float32 in [0, 1], ``subject`` (str), ``load_state`` (int), ``plane``
            ("XY", "XZ" or "YZ"), ``index`` (int, of the slice in its plane) and, if there are any, the masks ``crack``
            and ``ring`` (1, H, W), non-zero inside. Slices are all of one size.
        classes: names, in the order of the network's outputs.
        output_dir: of both files.
        device: of the network.
        batch_size: slices at once.
        about: provenance for ``gradcam.json``; JSON values. By the sha256 of its ``weights``, the weights' card, a
            report tells which fold of a cross-validation the maps are of.

    Returns:
        The table; NaN is what the file leaves empty.

    Raises:
        InputError: if there is no slice, or an image or mask is not of the first image's size.
        ValueError: if the network has no such layer.
        OutputError: if a file cannot be written.

    Source:
        Shen et al., 2.3 and Figure 7; the shares are ours.
    """
    slices = list(_visualise(network, layer, dataset, classes, device, batch_size))
    if not slices:
        raise InputError("dataset", "is empty: it has no slice.")
    table = pd.DataFrame([each.row for each in slices])
    folder = Path(output_dir)
    with atomic_path(folder / "gradcam.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.6g")
    _write_states(folder / "gradcam_states.npz", slices, table)
    write_json(folder / "gradcam.json", {"note": NOT_A_DEVICE, "layer": layer, **(about or {})})
    silent = sum(not each.map.any() for each in slices)
    logger.info("Grad-CAM: %d of %d slices show nothing that speaks for the decision.", silent, len(slices))
    return table


def clear_damage_gradcam(output_dir: str | Path, *, overwrite: bool = False) -> None:
    """Remove earlier maps, all their files, see :func:`bonemonai.analysis.classification_results.clear_results`.

    Args:
        output_dir: of the files.
        overwrite: must be said where there are any.
    """
    clear_results(output_dir, overwrite=overwrite, files=("gradcam.csv", "gradcam_states.npz", "gradcam.json"))


def summarise_damage_gradcam(table: pd.DataFrame) -> dict[str, float]:
    """Mean shares of Grad-CAM mass on cracks and on rings, over slices decided to be failed that have mask and map.

    Maps speak for the decision: one of a slice decided to be pristine says nothing of what damage looks like.

    Args:
        table: as :func:`write_damage_gradcam` returns it or ``gradcam.csv`` holds it.

    Returns:
        For either mask, crack and ring: ``crack_share``; ``crack_area``, what chance would give; ``crack_enrichment``,
        the first over the second (1 is chance); ``crack_slices`` that count, whose mask is not empty and whose map is
        not 0 everywhere; ``crack_slices_without_map``, whose mask is not empty, but whose map is. Means are NaN where
        no slice counts.
    """
    summary: dict[str, float] = {}
    for name in _MASKS:
        with_mask = table[(table[f"{name}_area"] > 0) & (table["decision"] == "failed")]
        counted = with_mask.dropna(subset=[f"{name}_share"])
        share, area = (float(counted[f"{name}_{column}"].mean()) for column in ("share", "area"))
        summary |= {
            f"{name}_share": share, f"{name}_area": area, f"{name}_enrichment": share / area,
            f"{name}_slices": len(counted), f"{name}_slices_without_map": len(with_mask) - len(counted),
        }  # fmt: skip
    return summary


def _visualise(
    network: nn.Module,
    layer: str,
    dataset: Dataset[Any],
    classes: Sequence[str],
    device: torch.device | str,
    batch_size: int,
) -> Iterator[_Slice]:
    """Each slice of a data set with its map, a batch at a time."""
    size: tuple[int, ...] | None = None
    for items in DataLoader(dataset, batch_size=batch_size, collate_fn=list):
        size = size or np.shape(items[0]["image"])[1:]
        for item in items:
            _refuse_other_sizes(item, size)
        patches = torch.stack([torch.as_tensor(item["image"], dtype=torch.float32) for item in items]).to(device)
        found, decisions = gradcam_maps(network, layer, patches)
        for item, cam, number in zip(items, found, decisions, strict=True):
            yield _describe(item, cam, classes[number])


def _describe(item: Mapping[str, Any], cam: NDArray[Any], decision: str) -> _Slice:
    row = {"subject": str(item["subject"]), "load_state": int(item["load_state"])}
    row |= {"plane": str(item["plane"]), "index": int(item["index"]), "decision": decision}
    for name in _MASKS:
        row[f"{name}_share"], row[f"{name}_area"] = _share(cam, item.get(name))
    return _Slice(
        row,
        np.asarray(item["image"])[0].astype(np.float16),
        # of each its own highest value is 1: half precision holds no map of 1e-8
        (cam / (cam.max() or 1)).astype(np.float16),
        np.asarray(item["crack"])[0] != 0 if "crack" in item else np.zeros(cam.shape, dtype=bool),
    )


def _write_states(path: Path, slices: Sequence[_Slice], table: pd.DataFrame) -> None:
    columns: dict[str, Any]
    columns = {name: np.stack([getattr(each, name) for each in slices]) for name in ("image", "map", "crack")}
    columns |= {name: table[name].to_numpy(dtype=str) for name in ("subject", "plane", "decision")}
    columns |= {name: table[name].to_numpy(dtype=np.int64) for name in ("load_state", "index")}
    with atomic_path(path) as partial, open(partial, "wb") as stream:
        np.savez_compressed(stream, **columns)


def _share(cam: NDArray[Any], mask: Any) -> tuple[float, float]:
    """Share on a mask and its area, both NaN without one."""
    if mask is None:
        return float("nan"), float("nan")
    share, area = share_on_mask(cam[None], np.asarray(mask))
    return float(share[0]), float(area[0])


def _refuse_other_sizes(item: Mapping[str, Any], size: tuple[int, ...]) -> None:
    """Refuse what would be broadcast to another size, or could not be stacked."""
    for name in ("image", *_MASKS):
        if name in item and (shape := tuple(np.shape(item[name]))) != (1, *size):
            place = ", ".join(f"{key} {item[key]}" for key in _PLACE)
            raise InputError(place, f"{name} must be {(1, *size)}, as the first image is, got {shape}.")
