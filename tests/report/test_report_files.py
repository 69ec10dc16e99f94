from __future__ import annotations

from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pytest

from bonemonai.errors import OutputError
from bonemonai.report.report_files import (
    number_filter,
    refuse_earlier_report,
    render_page,
    shown_record,
    write_report,
)


def test_files_are_written_and_an_earlier_report_is_refused(tmp_path: Path) -> None:
    files = [tmp_path / "new" / name for name in ("report.html", "one.csv", "two.csv")]
    refuse_earlier_report(files, overwrite=False)
    one, two = pd.DataFrame({"a": [1 / 3, np.nan]}), pd.DataFrame({"b": ["\u00b5"]})
    write_report(files, "<p>\u00b5</p>", [one, two], float_format="%.3g")
    assert [file.read_bytes() for file in files] == [
        "<p>\u00b5</p>".encode(),
        b'a\n0.333\n""\n',
        "b\n\u00b5\n".encode(),
    ]
    write_report(files, "", [one, two])
    assert files[1].read_text() == 'a\n0.3333333333333333\n""\n'
    files[0].unlink()
    with pytest.raises(OutputError, match=r"one\.csv: exists already; say --overwrite True, or choose another"):
        refuse_earlier_report(files, overwrite=False)
    refuse_earlier_report(files, overwrite=True)
    with pytest.raises(ValueError, match="zip"):
        write_report(files, "", [one])


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_report([tmp_path / "file" / "report.html"], "", [])


def test_templates_want_all_they_name() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render_page("damage_report.html.j2", {"number": number_filter("{:.3f}"), "named": str})
    with pytest.raises(jinja2.TemplateNotFound):
        render_page("no_report.html.j2")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.12345, "0.12"), (None, "n/a"), (np.nan, "n/a"), (pd.NA, "n/a"), (np.float32(2), "2.00")]
)
def test_numbers(value: object, shown: str) -> None:
    assert number_filter("{:.2f}")(value) == shown
    if shown != "n/a":
        assert number_filter("{:.2f}")(value, "{:.0f} %").endswith(" %")


def test_record_shows_what_it_has_in_the_order_asked_for() -> None:
    assert shown_record({"seed": 3, "path": "/home", "model": "cnn"}, ("model", "none", "seed")) == (
        '{\n  "model": "cnn",\n  "seed": 3\n}'
    )
    assert shown_record({}, ["model"]) == "{}"


def test_records_of_runs_beside_the_page_are_linked(tmp_path: Path) -> None:
    page = "<html><body><p>x</p></body></html>"
    write_report([tmp_path / "report.html"], page, [])
    assert (tmp_path / "report.html").read_text() == page
    for name in ("report.run.json", "a <b>.run.json", "other.json"):
        (tmp_path / name).write_text("{}")
    write_report([tmp_path / "report.html"], page, [])
    links = '<a href="a%20%3Cb%3E.run.json">a &lt;b&gt;.run.json</a>, <a href="report.run.json">report.run.json</a>'
    assert (tmp_path / "report.html").read_text() == page.replace(
        "</body>", f"<p>Records of runs: {links}</p>\n</body>"
    )


def test_the_record_of_the_run_is_shown() -> None:
    assert shown_record({"seed": 3, "run_record": "evaluate.run.json", "more": 1}, ("seed",)) == (
        '{\n  "seed": 3,\n  "run_record": "evaluate.run.json"\n}'
    )
