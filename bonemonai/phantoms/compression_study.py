"""A whole compression study on disk: scans of several samples at every loading state, truth, a manifest, a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

import bonemonai
from bonemonai.data.atomic import atomic_path
from bonemonai.data.json_file import read_json
from bonemonai.data.manifest import write_manifest
from bonemonai.data.tiff_stack_writer import TiffStackWriter
from bonemonai.errors import InputError, OutputError
from bonemonai.phantoms.srmct_compression import CompressedBone, CompressionPhantom

_NAMES: dict[CompressedBone, tuple[str, ...]] = {
    "cortical": ("CB5", "CB6", "CB8", "CB12", "CB22"),
    "trabecular": ("TB5", "TB6", "TB9", "TB11", "TB12"),
}
_DRAWN: dict[CompressedBone, str] = {
    "cortical": "canals along the load, one longitudinal crack that opens with the loading state",
    "trabecular": "rods or plates, by BV/TV, with scattered gaps across struts that open with the loading state",
}


def write_compression_study(
    folder: str | Path,
    *,
    bone: CompressedBone = "cortical",
    samples: int = 5,
    states: int = 4,
    shape: tuple[int, int, int] = (64, 64, 64),
    seed: int = 0,
    voxel_size_um: float = 6.5,
    artefacts: bool = True,
    motion_voxels: float = 0.0,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write bone samples compressed step by step, each a :class:`bonemonai.phantoms.CompressionPhantom`.

    Each sample gets a folder and each of its loading states one in it, ``CB5/state_01``, with ``image`` (float32),
    ``crack`` and ``ring`` (uint8 truth) as TIFF stacks. The first five samples bear the names of the paper's, without
    being like them in anything else. ``manifest.csv`` has a row per scan: ``patient`` (the sample), ``image``,
    ``crack``, ``ring``, ``load_state`` (1 is unloaded, the last failed), ``bone``, ``voxel_size_um`` and ``site``; who
    trains on what is for a fold to say. ``manifest.json`` is the data card. The same call again writes the same
    files; a folder that holds another study is refused.

    Args:
        folder: where to write.
        bone: "cortical" or "trabecular"; the paper never mixes them.
        samples: how many, at least 1.
        states: loading states of each, at least 2; the paper has 20 (cortical) and 15 (trabecular).
        shape: of each scan, (planes, rows, columns), each at least 16.
        seed: of the study; no two studies share a sample, see :func:`sample_seed`.
        voxel_size_um: edge length of a voxel.
        artefacts: draw what the scanner does differently from state to state.
        motion_voxels: how far samples move between states, in voxels; 0 writes registered scans.
        overwrite: replace another study, whose list and card go first.
        progress: show a bar on standard error.

    Returns:
        The path of the manifest.

    Raises:
        InputError: if an argument is out of its range.
        OutputError: if the folder holds another study, or cannot be written to.

    Source: Shen et al., "Deep learning approach to assess damage mechanics of bone tissue", section 2.1.
    """
    if samples < 1:
        raise InputError("samples", f"must be >= 1, got {samples!r}.")
    folder = Path(folder)
    phantoms = [
        CompressionPhantom(bone, shape, sample_seed(seed, index), states, voxel_size_um, artefacts, motion_voxels)
        for index in range(samples)
    ]
    names = [sample_name(bone, index) for index in range(samples)]
    card = _data_card(names, phantoms, seed)
    _make_room(folder, card, overwrite=overwrite)
    rows = []
    with tqdm(total=samples * states, desc="phantom scans", disable=not progress) as bar:
        for name, phantom in zip(names, phantoms, strict=True):
            for number in range(1, states + 1):
                place = f"{name}/state_{number:02d}"
                scan = phantom.state(number)
                for part in ("image", "crack", "ring"):
                    _write_stack(folder / place / part, getattr(scan, part), voxel_size_um)
                rows.append(
                    {
                        "patient": name,
                        "image": f"{place}/image",
                        "crack": f"{place}/crack",
                        "ring": f"{place}/ring",
                        "load_state": str(number),
                        "bone": bone,
                        "voxel_size_um": f"{voxel_size_um:g}",
                        "site": "phantom",
                    }
                )
                bar.update()
    # the card first: a list without one could be of any study
    with atomic_path(folder / "manifest.json") as partial:
        partial.write_text(json.dumps(card, indent=2) + "\n")
    write_manifest(pd.DataFrame(rows), folder / "manifest.csv")
    return folder / "manifest.csv"


def _make_room(folder: Path, card: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder of another study, or take away what would list its scans beside those of this one."""
    there = [path for path in (folder / "manifest.csv", folder / "manifest.json") if path.exists()]
    known, wanted = read_json(folder / "manifest.json") or {}, json.loads(json.dumps(card))
    # another version of bonemonai draws the same study
    other = [name for name in {**wanted, **known} if name != "source" and known.get(name) != wanted.get(name)]
    if there and other and not overwrite:
        names = ", ".join("samples" if name == "bv_tv" else name for name in other)
        said = f"other {names}" if known else "no card beside it says which"
        raise OutputError(there[0], f"is of another study ({said}); say --overwrite, or choose another folder.")
    try:
        for path in there if other else ():
            path.unlink()
    except OSError as error:
        raise OutputError(path, f"cannot be replaced: {error.strerror or error}.") from error


def sample_name(bone: CompressedBone, index: int) -> str:
    """Name of a sample: the paper's five, then CB_06 or TB_06 and on.

    Args:
        bone: "cortical" or "trabecular".
        index: from 0.

    Example:
        >>> sample_name("cortical", 3), sample_name("cortical", 5)
        ('CB12', 'CB_06')
    """
    names = _NAMES[bone]
    return names[index] if index < len(names) else f"{names[0][:2]}_{index + 1:02d}"


def _write_stack(path: Path, volume: NDArray[np.float32] | NDArray[np.uint8], voxel_size_um: float) -> None:
    size = (voxel_size_um,) * 3
    planes, rows, columns = volume.shape
    with TiffStackWriter(
        path, shape=(planes, rows, columns), dtype=volume.dtype, voxel_size_um=size, overwrite=True
    ) as writer:
        writer.write(volume)


def sample_seed(seed: int, index: int) -> int:
    """Seed of a sample; counting on from the study's would give studies 0 and 1 four samples of five in common.

    Args:
        seed: of the study.
        index: of the sample.
    """
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _data_card(names: list[str], phantoms: list[CompressionPhantom], seed: int) -> dict[str, object]:
    first = phantoms[0]
    return {
        "name": f"bonemonai compression phantom, {first.bone} bone",
        "kind": "synthetic",
        "source": f"bonemonai.phantoms.write_compression_study, version {bonemonai.__version__}",
        "doi": None,
        "licence": "Apache-2.0",
        "drawn": _DRAWN[first.bone],
        "limits": "nothing deforms, cracked bone is replaced by fluid, canals and struts are no measured ones",
        "shape": list(first.shape),
        "seed": seed,
        "voxel_size_um": [first.voxel_size_um] * 3,
        "units": "raw (arbitrary grey values)",
        "states": first.states,
        "crack_visible_from_state": first.visible_from,
        "opening_voxels": [round(first.opening_voxels(number), 3) for number in range(1, first.states + 1)],
        "artefacts": first.artefacts,
        "motion_voxels": first.motion_voxels,
        "bv_tv": {name: round(phantom.bone_volume_fraction, 5) for name, phantom in zip(names, phantoms, strict=True)},
        **(
            {"to_first": {name: _transforms(phantom) for name, phantom in zip(names, phantoms, strict=True)}}
            if first.motion_voxels
            else {}
        ),
    }


def _transforms(phantom: CompressionPhantom) -> list[list[list[float]]]:
    """Of each state, the rigid motion to undo: 4 x 4, voxel indices of its scan to those of the first."""
    return [np.round(phantom.to_first(number), 6).tolist() for number in range(1, phantom.states + 1)]
