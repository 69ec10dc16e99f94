"""What can be set in a bundle's workflows: every id of the top level with its default, and what overlays change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bonemonai.sharing.bundle_files import METADATA

_FOLDER = "configs/"
# what these are in every bundle, where its README says no more
_COMMON = {
    "allow_missing_card": "take weights without the card beside them",
    "allow_shared_patient": "accept a patient in two splits, which is leakage",
    "also": "a copy of each result as tiff or nifti",
    "amp": "mixed precision",
    "bundle_root": "folder of this bundle",
    "cache_dir": "folder that keeps preprocessed images, for the next start to reuse; none holds them in memory",
    "checkpoint": "file of weights",
    "dataset_dir": "folder of the study; of inference, a scan or a manifest",
    "device": "where the network runs",
    "distributed": "train with the other processes that torchrun started",
    "expects": "units that grey values may be in; others are refused",
    "learning_curve": "file that takes loss and scores, epoch by epoch",
    "manifest_path": "file that lists the scans",
    "memory_budget": "bytes that inference may take besides network and libraries",
    "mlflow": "send the learning curve to MLflow, where MLFLOW_TRACKING_URI says",
    "num_workers": "processes that load data",
    "output_dir": "folder of results",
    "overwrite": "replace earlier weights or results",
    "patience": "validations without a higher score after which training ends; none trains all epochs",
    "rehearsal": "train, validate and save one batch before the first step",
    "resumable": "keep what a stopped training needs to go on",
    "seed": "of every random number",
    "tensorboard": "folder for TensorBoard's copy of the learning curve",
    "units": "of grey values, where files do not state them",
    "val_interval": "epochs from one validation to the next",
    "voxel_size_um": "edge length of voxels, where files do not state it",
}
_LISTS = ("imports", "initialize", "run", "finalize")  # of expressions: what runs, not what is set


@dataclass(frozen=True)
class Option:
    """An id of the top level of a workflow.

    Args:
        id: as it follows ``--``.
        default: as text.
        meaning: of it, as far as the bundle says; may be empty.
        is_component: whether it is built or run, rather than given.
    """

    id: str
    default: str
    meaning: str
    is_component: bool


@dataclass(frozen=True)
class Workflow:
    """A config that is complete by itself.

    Args:
        name: of its file.
        description: its ``_desc_``.
        options: in its own order.
    """

    name: str
    description: str
    options: list[Option]


@dataclass(frozen=True)
class Overlay:
    """A config that is given after another one.

    Args:
        name: of its file.
        description: its ``_desc_``, which says what it is an overlay of.
        changes: id, value in what it is an overlay of, which is empty where that has no such id, and own value.
    """

    name: str
    description: str
    changes: list[tuple[str, str, str]]


def workflows(configs: Mapping[str, Any], readme: str = "") -> list[Workflow]:
    """Configs that are complete by themselves.

    Args:
        configs: parsed JSON files of a bundle.
        readme: of the bundle; its tables that begin with the columns id and meaning explain options.
    """
    meanings = _meanings(readme)
    return [
        Workflow(name, config.get("_desc_", ""), [_option(key, value, meanings) for key, value in _entries(config)])
        for name, config in _own(configs)
        if is_complete(config)
    ]


def overlays(configs: Mapping[str, Any]) -> list[Overlay]:
    """Configs that are given after others.

    Args:
        configs: parsed JSON files of a bundle.
    """
    known = dict(_own(configs))
    return [
        Overlay(
            name,
            config.get("_desc_", ""),
            [(key, _before(key.removeprefix("+"), name, known), shown(value)) for key, value in _entries(config)],
        )
        for name, config in known.items()
        if not is_complete(config)
    ]


def shown(value: Any) -> str:
    """A value of a config as a line of text; a component as a call.

    Args:
        value: of any type.

    Example:
        >>> shown(None), shown(0.5), shown({"_target_": "torch.nn.Linear", "_desc_": "why", "in_features": "@width"})
        ('none', '0.5', 'torch.nn.Linear(in_features=@width)')
    """
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        inner = {key: part for key, part in value.items() if not key.startswith("_")}
        if "_target_" in value:
            return f"{value['_target_']}({', '.join(f'{key}={_short(part)}' for key, part in inner.items())})"
        return f"{{{', '.join(f'{key}: {_short(part)}' for key, part in inner.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(_short(part) for part in value)}]"
    is_reference = isinstance(value, str) and value.startswith(("$", "@", "%"))
    return str(value) if is_reference else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    """As part of a component: of other components, their names."""
    if isinstance(value, Mapping):
        return str(value["_target_"]) if "_target_" in value else f"{{{', '.join(value)}}}"
    return shown(value)


def _own(configs: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for file, content in sorted(configs.items()):
        if file.startswith(_FOLDER) and file != METADATA and isinstance(content, Mapping):
            yield file.removeprefix(_FOLDER), content


def is_complete(config: Mapping[str, Any]) -> bool:
    """Whether a config is a workflow by itself, and no overlay.

    Args:
        config: its content.
    """
    return "bundle_root" in config


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in config.items() if key != "_desc_")


def _option(key: str, value: Any, meanings: Mapping[str, str]) -> Option:
    said = value.get("_desc_", "") if isinstance(value, Mapping) else ""
    parts = value if isinstance(value, list) else [value]
    is_component = key in _LISTS or any(isinstance(part, Mapping) for part in parts)
    return Option(key, shown(value), meanings.get(key) or said or _COMMON.get(key, ""), is_component)


def _meanings(readme: str) -> dict[str, str]:
    """Option to its meaning, from tables of a README."""
    found: dict[str, str] = {}
    for table in re.findall(r"^\| id \| meaning \|[^\n]*\n((?:\|[^\n]*\n?)+)", readme, re.M):
        for names, meaning in re.findall(r"^\| ((?:`[\w#]+`(?:, )?)+) \| ([^|]*?) \|", table, re.M):
            found |= {name: meaning.replace("`", "") for name in re.findall(r"`([\w#]+)`", names)}
    return found


def _before(key: str, name: str, known: Mapping[str, Mapping[str, Any]], seen: Sequence[str] = ()) -> str:
    """What an id is without an overlay: in the configs that its description begins with, and in theirs."""
    for base in re.findall(r"(\w+\.json)", str(known[name].get("_desc_", "")).partition(":")[0]):
        if base not in known or base in (name, *seen):
            continue
        found, value = _find(known[base], re.split("#|::", key))
        if found:
            return shown(value)
        before = _before(key, base, known, (*seen, name))
        if before:
            return before
    return ""


def _find(value: Any, parts: Sequence[str]) -> tuple[bool, Any]:
    for part in parts:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return False, None
    return True, value
