"""What every result object can do: become plain values, a table, or HTML."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.html import cell, report_html

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report", "cell", "plain"]


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
        shown, rows = list(self.highlights()), list(self.rows())
        said = " ".join(str(value) for row in shown for value in row.values())
        notes = [note for note in getattr(self, "notes", ()) if isinstance(note, str) and note not in said]
        return report_html(self.summary(), shown, notes, len(rows))
