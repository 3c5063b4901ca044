"""What every result object can do: become plain values, a table, or HTML."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_STYLE = (
    "<style scoped>.osv-report{font-variant-numeric:tabular-nums;border-collapse:collapse;margin:.3em 0}"
    ".osv-report th{text-align:left;font-weight:600;opacity:.75}"
    ".osv-report th,.osv-report td{padding:.15em .8em .15em 0;border-bottom:1px solid rgba(128,128,128,.25)}"
    ".osv-report td.n{text-align:right}</style>"
)


def plain(value: Any) -> Any:
    """``value`` as JSON-able plain values: dataclasses, arrays, paths, enums and NaN (``None``) included."""
    if isinstance(value, Report):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def cell(value: Any) -> str:
    """One table cell as text: four significant decimals, an en dash for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return f"{number:.4g}" if abs(number) >= 1000 or 0 < abs(number) < 1e-3 else f"{number:.3f}"
    return str(value)


class Report:
    """Base of the frozen dataclasses that functions of the library return.

    A subclass gives :meth:`rows` (one mapping per table row) and, where useful, :meth:`summary` (one line). It
    gets :meth:`to_dict`, :meth:`to_frame` and ``_repr_html_``.
    """

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The table of the report: one mapping from column name to value per row."""
        raise NotImplementedError

    def highlights(self) -> Sequence[Mapping[str, Any]]:
        """The rows a person wants first on a terminal: all of them, unless a report knows better."""
        return self.rows()

    def summary(self) -> str:
        """The report in one line."""
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """The report's fields as JSON-able plain values."""
        return {
            field.name: plain(getattr(self, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.repr
        }

    def to_frame(self) -> pd.DataFrame:
        """The report's table as a pandas frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def _repr_html_(self) -> str:
        rows = list(self.rows())
        columns = list(dict.fromkeys(column for row in rows for column in row))
        head = "".join(f"<th>{html.escape(str(column))}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(_html_cell(row.get(column)) for column in columns) + "</tr>" for row in rows
        )
        return (
            f"{_STYLE}<p><b>{html.escape(self.summary())}</b></p>"
            f"<table class='osv-report'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _html_cell(value: Any) -> str:
    numeric = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    kind = " class='n'" if numeric else ""
    return f"<td{kind}>{html.escape(cell(value))}</td>"
