"""A report on disk: one page that needs no other file, and the tables that it shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from bonemonai.data.atomic import atomic_path
from bonemonai.errors import OutputError


def refuse_earlier_report(files: Iterable[Path], *, overwrite: bool) -> None:
    """Raise if a report stands where another is to be written.

    Args:
        files: of the new one.
        overwrite: replace them.

    Raises:
        OutputError: naming the first file that is there.
    """
    for path in files:
        if path.exists() and not overwrite:
            raise OutputError(path, "exists already; say --overwrite True, or choose another --output_dir.")


def render_page(template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **content: Any) -> str:
    """Fill a template of this folder; what it names and is not given is an error, and text is escaped.

    Args:
        template: name of its file.
        filters: of the template, by name.
        content: its variables.
    """
    environment = Environment(loader=PackageLoader("bonemonai.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters |= filters or {}
    return environment.get_template(template).render(**content)


def write_report(
    files: Sequence[Path], page: str, tables: Iterable[pd.DataFrame], *, float_format: str | None = None
) -> None:
    """Write tables, then the page, each whole or not at all.

    Args:
        files: of the page, then of each table.
        page: HTML.
        tables: as CSV.
        float_format: of their numbers; by default as many digits as they have.

    Raises:
        OutputError: if the folder cannot be written to.
    """
    for path, table in zip(files[1:], tables, strict=True):
        with atomic_path(path) as partial:
            table.to_csv(partial, index=False, float_format=float_format, lineterminator="\n")
    with atomic_path(files[0]) as partial:
        partial.write_text(_with_run_records(page, files[0].parent), encoding="utf-8")


def _with_run_records(page: str, folder: Path) -> str:
    """With links to what ``bonemonai run`` wrote beside it."""
    names = sorted(path.name for path in folder.glob("*.run.json"))
    links = ", ".join(f'<a href="{quote(name)}">{escape(name)}</a>' for name in names)
    return page.replace("</body>", f"<p>Records of runs: {links}</p>\n</body>") if names else page


def number_filter(default: str) -> Callable[..., str]:
    """A template's filter for numbers; what is not known is n/a.

    Args:
        default: format of a number, where the template says no other.

    Example:
        >>> number = number_filter("{:.2f}")
        >>> number(0.5), number(12.0, "{:.0f} %"), number(float("nan")), number(None)
        ('0.50', '12 %', 'n/a', 'n/a')
    """

    def number(value: Any, form: str = default) -> str:
        return "n/a" if value is None or pd.isna(value) else form.format(value)

    return number


def shown_record(record: Mapping[str, Any], names: Iterable[str]) -> str:
    """How a result came about, as a page shows it.

    Args:
        record: JSON values.
        names: of its entries that are shown, where it has them, with the name of the record of its run.
    """
    return json.dumps({name: record[name] for name in (*names, "run_record") if name in record}, indent=2)
