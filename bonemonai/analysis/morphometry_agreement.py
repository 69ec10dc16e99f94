"""Agreement of methods with fine scans over specimens, quantity by quantity (paper 5)."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bonemonai.analysis.agreement import Agreement, measure_agreement
from bonemonai.errors import InputError

REFERENCE = "hr"


def morphometry_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Agreement of each method with the fine scans, quantity by quantity.

    Args:
        table: ``specimen``, ``method``, ``quantity``, ``value``, ``unit``; see
            :meth:`bonemonai.analysis.MethodMorphometry.write`.

    Returns:
        A row a quantity and method: ``quantity``, ``unit``, ``method``, ``pairs``, ``missing`` (specimens that have a
        value in the fine scan and none by the method), ``reference_mean``, ``method_mean``, ``bias``, ``sd``,
        ``lower_limit``, ``upper_limit``, ``icc``, each of ``bias``, limits and ``icc`` with ``_low`` and ``_high``,
        ``t`` and ``p``. Of fewer than three pairs there is a bias only.

    Raises:
        InputError: if there is no value of the fine scans.
    """
    rows = []
    for quantity in dict.fromkeys(table["quantity"]):
        of_it = table[table["quantity"] == quantity]
        values = of_it.pivot(index="specimen", columns="method", values="value")
        if REFERENCE not in values or not np.isfinite(values[REFERENCE]).any():
            raise InputError("morphometry", f"has no {quantity} of the fine scans.")
        for method in [name for name in dict.fromkeys(of_it["method"]) if name != REFERENCE]:
            both = values[[method, REFERENCE]].dropna()
            row = {"quantity": quantity, "unit": of_it["unit"].iloc[0], "method": method, "pairs": len(both),
                   "missing": int((values[REFERENCE].notna() & values[method].isna()).sum())}  # fmt: skip
            rows.append(row | _agreement(both[method].to_numpy(), both[REFERENCE].to_numpy()))
    return pd.DataFrame(rows)


def _agreement(method: NDArray[np.float64], reference: NDArray[np.float64]) -> dict[str, float]:
    means = {"reference_mean": _mean(reference), "method_mean": _mean(method)}
    if len(method) < 3:
        return {**means, "bias": _mean(method - reference)}
    found: Agreement = measure_agreement(method, reference)
    row = {**means, "sd": found.sd, "t": found.t, "p": found.p}
    for name in ("bias", "lower_limit", "upper_limit", "icc"):
        value, low, high = getattr(found, name)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan
