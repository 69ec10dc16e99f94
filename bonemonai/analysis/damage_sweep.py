"""The sweep of a network's hyper-parameters, one varied at a time: accuracies of its cross-validations in one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.data.atomic import atomic_path
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)

_COLUMNS = ["parameter", "value", "baseline", "mean", "sd", "folds"]


def write_sweep_table(output_dir: str | Path, settings: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Write ``sweep.csv``: a row a setting, in the order given, with mean accuracy and its SD over folds.

    A setting whose cross-validation has not been pooled yet is left out, and a warning says so.

    Args:
        output_dir: of the file.
        settings: each with ``parameter`` (name), ``value``, ``folder`` (of the pooled cross-validation, see
            :func:`bonemonai.analysis.pool_damage_folds`) and, optionally, ``baseline``: whether this is the value at
            which the parameter stays while others are varied. The baseline's folder may stand under each parameter.

    Returns:
        Columns ``parameter``, ``value``, ``baseline``, ``mean`` and ``sd`` (shares in [0, 1]; sd is NaN for one
        fold), ``folds`` (count).

    Raises:
        InputError: if a setting lacks an entry or is given twice, or a folder's ``scores.csv`` is damaged.
        OutputError: if the file cannot be written.

    Source:
        Shen et al., 3.2 and Fig. 3.
    """
    rows, seen = [], set()
    for number, setting in enumerate(settings):
        if missing := [name for name in ("parameter", "value", "folder") if name not in setting]:
            raise InputError(f"settings[{number}]", f"lacks {', '.join(missing)}.")
        what = f"{setting['parameter']} = {setting['value']}"
        if what in seen:
            raise InputError(f"settings[{number}]", f"gives {what} a second time; give each setting once.")
        seen.add(what)
        scores = Path(setting["folder"]) / "scores.csv"
        if not scores.is_file():
            logger.warning("sweep: %s has not been pooled yet and is left out.", what)
            continue
        baseline = bool(setting.get("baseline", False))
        rows.append((str(setting["parameter"]), setting["value"], baseline, *_accuracy(scores)))
    table = pd.DataFrame(rows, columns=_COLUMNS)
    with atomic_path(Path(output_dir) / "sweep.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.9g")
    return table


def _accuracy(path: Path) -> tuple[float, float, int]:
    """Mean, SD and number of folds."""
    try:
        table = pd.read_csv(path)
        (row,) = table.loc[table["metric"] == "accuracy", ["mean", "sd", "folds"]].astype(float).to_numpy()
        mean, sd, folds = map(float, row)
        if not 0 <= mean <= 1:
            raise ValueError(f"the mean accuracy is {mean}")
        return mean, sd, int(folds)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(path, f"holds no accuracy over folds: {error}; pool the folds again.") from error
