"""HTML of reports: a table that reads well in light and dark notebooks, needs no script and travels with a file."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

MAX_ROWS = 30
"""Rows of a table that are shown; a line says how many there are besides."""

# Colours come from the page's text colour, so that they fit any theme; JupyterLab's own table rules are outdone by
# naming the element and its class.
STYLE = (
    "<style>.osv-report{color:inherit;font-size:13px;line-height:1.45;max-width:100%;margin:.2em 0}"
    ".osv-report>p{margin:.2em 0 .4em}.osv-report>p.note{opacity:.75}"
    ".osv-report>div{overflow-x:auto}"
    ".osv-report table.osv{border-collapse:collapse;border:0;margin:0;font-variant-numeric:tabular-nums;"
    "color:inherit;background:none;table-layout:auto}"
    ".osv-report table.osv :is(th,td){text-align:left;vertical-align:top;max-width:none;padding:.2em 1.2em .2em 0;"
    "border:0;border-bottom:1px solid color-mix(in srgb,currentColor 18%,transparent);white-space:nowrap;"
    "color:inherit;background:none}"
    ".osv-report table.osv tr{background:none}"
    ".osv-report table.osv th{font-weight:600;opacity:.7}"
    ".osv-report table.osv :is(th,td).n{text-align:right}"
    ".osv-report table.osv td.long{white-space:normal;overflow-wrap:anywhere;min-width:14em;max-width:60em}"
    ".osv-report table.osv td.key{font-weight:600;opacity:.7}"
    ".osv-report .none{opacity:.45}</style>"
)


def cell(value: Any) -> str:
    """One table cell as text: four significant decimals, an en dash for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return f"{number:.4g}" if abs(number) >= 1000 or 0 < abs(number) < 1e-3 else f"{number:.3f}"
    return str(value)


def is_number(value: Any) -> bool:
    """Whether a cell is set as a number."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def report_html(summary: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = (), total: int = 0) -> str:
    """A summary line, a table and notes.

    Args:
        summary: The line above the table.
        rows: One mapping from column name to value per row; the first :data:`MAX_ROWS` are shown. A first column
            without a name holds the names of values.
        notes: Lines below it.
        total: How many rows there are, where ``rows`` are not all of them.

    Example:
        >>> "RBC" in report_html("cells", [{"class": "RBC", "AP": 0.5}])
        True
    """
    shown = list(rows[:MAX_ROWS])
    total = max(total, len(rows))
    more = [f"{len(shown):,} of {total:,} rows; .to_frame() has all"] if len(shown) < total else []
    return (
        f"{STYLE}<div class='osv-report'><p><b>{escaped(summary)}</b></p>{_table(shown)}"
        + "".join(f"<p class='note'>{escaped(note)}</p>" for note in (*more, *notes))
        + "</div>"
    )


def escaped(text: str) -> str:
    """Text for HTML; names that are not UTF-8 become readable."""
    return html.escape(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        return ""
    numeric = {
        column: all(is_number(row.get(column)) or row.get(column) is None for row in rows) for column in columns
    }
    # A column of names and one of values has nothing to say in a heading.
    headed = columns != ["", "value"]
    head = "".join(f"<th{_kind(numeric[name] and 'n')}>{escaped(str(name))}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(_cell(row.get(name), name, numeric[name]) for name in columns) + "</tr>" for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if headed else ""
    return f"<div><table class='osv'>{head}<tbody>{body}</tbody></table></div>"


def _cell(value: Any, column: str, numeric: bool) -> str:
    text = _text(value, column)
    kind = "n" if numeric else "key" if column == "" else "long" if len(text) > 48 else ""
    said = "<span class='none'>–</span>" if text == "–" else escaped(text)
    return f"<td{_kind(kind)}>{said}</td>"


def _text(value: Any, column: str) -> str:
    """A cell's value for a person: counts in groups of three, containers without their brackets, paths as they are."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item, column)}" for key, item in value.items()) or "–"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_text(item, column) for item in value) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)) and abs(int(value)) >= 10_000 and not _is_name(column):
        return f"{int(value):,}"
    if isinstance(value, PurePath):
        return str(value)
    return cell(value) if value != "" else ""


def _is_name(column: str) -> bool:
    """Whether the column's numbers are names: ids, ports, years are not counted."""
    words = column.lower().replace("_", " ").split()
    return bool({"id", "job", "task", "port", "version", "track", "seed", "index"} & set(words))


def _kind(name: str | bool) -> str:
    return f" class='{name}'" if name else ""
