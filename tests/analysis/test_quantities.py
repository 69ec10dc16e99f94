from __future__ import annotations

import csv
import json

from bonemonai.analysis import Quantity, format_quantities


def test_formats() -> None:
    rows = [
        Quantity("BV/TV", 0.123456789, "1"),
        Quantity("DA.MIL", float("nan"), "1"),
        Quantity("Tb.Sp.plate", float("inf"), "mm"),
        Quantity("bone", "grey > 6", "-"),
    ]
    assert format_quantities(rows) == "BV/TV 0.123457 1\nDA.MIL nan 1\nTb.Sp.plate inf mm\nbone grey_>_6 -"
    assert format_quantities(rows, "csv").splitlines()[:2] == ["name,value,unit", "BV/TV,0.123456789,1"]
    assert json.loads(format_quantities(rows, "json")) == [
        {"name": "BV/TV", "value": 0.123456789, "unit": "1"},
        {"name": "DA.MIL", "value": None, "unit": "1"},
        {"name": "Tb.Sp.plate", "value": None, "unit": "mm"},
        {"name": "bone", "value": "grey > 6", "unit": "-"},
    ]


def test_csv_quotes_words() -> None:
    text = format_quantities([Quantity("bone", "non-zero, all", "-")], "csv")
    assert list(csv.reader(text.splitlines()))[1] == ["bone", "non-zero, all", "-"]
