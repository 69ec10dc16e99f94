from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis.agreement import measure_agreement
from bonemonai.analysis.morphometry_agreement import morphometry_agreement
from bonemonai.errors import InputError


def table(**values: list[float]) -> pd.DataFrame:
    """Tb.Th of specimens by method."""
    return pd.DataFrame(
        [{"specimen": f"s{number}", "method": method, "quantity": "Tb.Th", "value": value, "unit": "mm"}
         for method, of_it in values.items() for number, value in enumerate(of_it)]
    )  # fmt: skip


def test_it_is_that_of_pairs() -> None:
    hr, dl = [0.1, 0.2, 0.3, 0.25], [0.12, 0.21, 0.33, 0.24]
    row = morphometry_agreement(table(hr=hr, dl=dl)).iloc[0]
    expected = measure_agreement(dl, hr)
    for name in ("bias", "lower_limit", "upper_limit", "icc"):
        assert [row[name], row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx(list(getattr(expected, name)))
    assert row["p"] == pytest.approx(expected.p)
    assert (row["pairs"], row["missing"], row["unit"]) == (4, 0, "mm")


def test_missing_is_what_a_method_lacks_and_the_fine_scan_has() -> None:
    nan = np.nan
    found = morphometry_agreement(table(hr=[0.1, nan, 0.3, 0.4], dl=[nan, 0.2, 0.3, 0.4], lr=[0.1, 0.2, 0.3, 0.4]))
    rows = found.set_index("method")
    assert rows["missing"].to_dict() == {"dl": 1, "lr": 0}
    assert rows["pairs"].to_dict() == {"dl": 2, "lr": 3}


def test_of_two_specimens_there_is_a_bias_only() -> None:
    found = morphometry_agreement(table(hr=[0.1, 0.2], dl=[0.12, 0.24])).iloc[0]
    assert found["bias"] == pytest.approx(0.03)
    assert "lower_limit" not in found or np.isnan(found["lower_limit"])
    with pytest.raises(InputError, match=r"no Tb\.Th of the fine scans"):
        morphometry_agreement(table(dl=[0.1, 0.2]))
