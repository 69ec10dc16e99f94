"""What the report of paper 5 shows: folders that evaluations left, read and checked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bonemonai.analysis.bone_verdict import Verdict, judge_network
from bonemonai.analysis.image_quality import QUALITY_METRICS
from bonemonai.analysis.method_morphometry import METHODS
from bonemonai.analysis.morphometry_agreement import REFERENCE
from bonemonai.data.json_file import read_json
from bonemonai.errors import InputError
from bonemonai.report.data_notices import as_mapping
from bonemonai.report.screening_inputs import read_table

TITLES = {"hr": "fine scan", "lr": "coarse scan", "bicubic": "cubic interpolation", "dl": "network"}

_CURE = "evaluate the network again"
_AGREEMENT = (
    "pairs", "missing", "reference_mean", "method_mean", "bias", "bias_low", "bias_high", "lower_limit",
    "lower_limit_low", "lower_limit_high", "upper_limit", "upper_limit_low", "upper_limit_high", "p", "icc", "icc_low",
    "icc_high",
)  # fmt: skip


class Panel(NamedTuple):
    """A plane of a specimen by every method.

    Attributes:
        specimen: its name.
        plane: its number.
        grey: method, "hr" among them, to (H, W) in [0, 1].
        bone: the same to (H, W), bool.
    """

    specimen: str
    plane: int
    grey: dict[str, NDArray[np.float32]]
    bone: dict[str, NDArray[np.bool_]]


class Resolution(NamedTuple):
    """What an evaluation left; None, or empty, where bone was not measured.

    Attributes:
        name: of the result.
        record: how it came about (``results.json``).
        planes: a row a plane and method: ``specimen``, ``method``, ``plane``, ``psnr_db``, ``ssim``.
        specimens: a row a specimen and method, the same.
        comparison: paired tests of the network against each other method.
        morphometry: ``specimen``, ``method``, ``quantity``, ``value``, ``unit``, ``tissue``.
        agreement: see :func:`bonemonai.analysis.morphometry_agreement`.
        overlap: ``specimen``, ``method``, ``dice``, ``lost``, ``invented``.
        panels: planes to look at.
        rule: what bone is, in words.
    """

    name: str
    record: dict[str, Any]
    planes: pd.DataFrame
    specimens: pd.DataFrame
    comparison: pd.DataFrame
    morphometry: pd.DataFrame | None
    agreement: pd.DataFrame | None
    overlap: pd.DataFrame | None
    panels: list[Panel]
    rule: str

    @property
    def trained(self) -> str:
        """Site and frame averages that the network was trained on."""
        return _scans(as_mapping(as_mapping(self.record.get("weights")).get("trained_on")))

    @property
    def tested(self) -> str:
        """Site and frame averages that were scored, and the split, if it is not that of the test."""
        split = str(self.record.get("split") or "test")
        return _scans(self.record) + ("" if split == "test" else f", split {split}")

    @property
    def subjects(self) -> int:
        """How many subjects the specimens are of: of one they are no independent pairs."""
        return int(self.specimens["specimen"].str.split(" ").str[0].nunique())

    @property
    def leakage(self) -> str:
        """What is wrong with the split; "" if nothing is."""
        trained = as_mapping(as_mapping(self.record.get("weights")).get("trained_on"))
        return str(self.record.get("leakage") or trained.get("leakage") or "")

    @property
    def verdict(self) -> Verdict | None:
        """By bone first; None where it was not measured."""
        if self.agreement is None or self.overlap is None:
            return None
        return judge_network(self.agreement, self.overlap, self.specimens)


def read_resolutions(given: Mapping[str, str | Path]) -> list[Resolution]:
    """Read evaluations.

    Args:
        given: name to folder of ``evaluate.json``; a folder that holds several such folders gives one result each.

    Raises:
        InputError: if that is no mapping, or a folder lacks a file, or a file is damaged.
    """
    if not isinstance(given, Mapping) or not given:
        raise InputError("results", "has nothing to show: give results, name to folder.")
    found = []
    for name, path in given.items():
        if not isinstance(path, str | Path) or not Path(path).is_dir():
            raise InputError(f"results {name}", f"{path} is no folder.")
        folder = Path(path)
        inner = sorted(each.parent for each in folder.glob("*/results.json"))
        if (folder / "results.json").is_file() or not inner:
            found.append(_read(str(name), folder))
        else:
            found += [_read(f"{name}: {each.name}", each) for each in inner]
    return found


def _read(name: str, folder: Path) -> Resolution:
    record = read_json(folder / "results.json")
    if record is None:
        raise InputError(folder / "results.json", f"is not there, or is no JSON object; {_CURE}.")
    planes = _table(folder / "planes.csv", ("specimen", "method"), ("plane", *QUALITY_METRICS))
    specimens = _table(folder / "specimens.csv", ("specimen", "method"), QUALITY_METRICS)
    numbers = ("first_mean", "second_mean", "difference", "low", "high", "p", "specimens")
    comparison = _table(folder / "comparison.csv", ("metric", "first", "second"), numbers)
    morphometry = read_table(
        folder / "morphometry.csv", ("specimen", "method", "quantity", "unit", "tissue"), ["value"], _CURE
    )
    agreement = read_table(folder / "agreement.csv", ("quantity", "unit", "method"), (), _CURE, more=True)
    overlap = read_table(folder / "overlap.csv", ("specimen", "method"), ("dice", "lost", "invented"), _CURE)
    there = [table is not None for table in (morphometry, agreement, overlap)]
    if any(there) and not all(there):
        raise InputError(folder, f"holds only a part of its bone morphometry; {_CURE}.")
    if agreement is not None:
        # of few specimens there are no limits
        agreement = agreement.reindex(columns=["quantity", "unit", "method", *_AGREEMENT])
    measured = read_json(folder / "morphometry.json") or {}
    rule = as_mapping(measured.get("rule"))
    scored, of_bone = (as_mapping(each.get("weights")).get("sha256") for each in (record, measured))
    other = morphometry is not None and set(morphometry["specimen"]) != set(specimens["specimen"])
    if agreement is not None and (scored != of_bone or other):
        raise InputError(folder, f"holds the bone of one evaluation and the images of another; {_CURE}.")
    panels = _panels(folder / "panels.npz") if agreement is not None else []
    return Resolution(
        name, record, planes, specimens, comparison, morphometry, agreement, overlap, panels,
        str(rule.get("bone", "")),
    )  # fmt: skip


def _table(path: Path, words: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    table = read_table(path, words, numbers, _CURE)
    if table is None:
        raise InputError(path, f"is not there, and the report needs it; {_CURE}.")
    return table


def _scans(described: Mapping[str, Any]) -> str:
    frames = described.get("frames")
    parts = [str(described.get("site") or "all sites"), f"{frames} frame{'s' if frames != 1 else ''}" if frames else ""]
    return ", ".join(filter(None, parts))


def _panels(path: Path) -> list[Panel]:
    if not path.is_file():
        return []
    try:
        # a file of our own: NumPy leaves a damaged one open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            names, numbers = stored["specimen"].tolist(), stored["plane"].tolist()
            panels = []
            for index, (name, number) in enumerate(zip(names, numbers, strict=True)):
                grey = {m: stored[f"{index}/{m}"].astype(np.float32) for m in (*METHODS, REFERENCE)}
                bone = {m: stored[f"{index}/{m}/bone"].astype(bool) for m in (*METHODS, REFERENCE)}
                shapes = {each.shape for each in (*grey.values(), *bone.values())}
                if len(shapes) > 1 or len(next(iter(shapes))) != 2:
                    raise ValueError(f"planes have shapes {sorted(shapes)}")
                panels.append(Panel(str(name), int(number), grey, bone))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(path, f"holds no planes to show: {error}; {_CURE}.") from error
    return panels
