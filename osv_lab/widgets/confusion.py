"""The confusion matrix as a widget: a click on a cell opens its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from osv_lab.core.errors import UsageError
from osv_lab.core.report import plain
from osv_lab.evaluate.confusion import NONE
from osv_lab.widgets.base import Answer, LabWidget, action
from osv_lab.widgets.crops import crops
from osv_lab.widgets.front import script, style

if TYPE_CHECKING:
    from osv_lab.evaluate.detection import EvaluationReport

MOST_LABELS = 2000
"""Labels of a cell that are looked through for pictures."""


class ConfusionExplorer(LabWidget):
    """Which class is found as which; a cell's objects open in the App and are shown beside it.

    What is selected in the App is outlined: the cells that its objects and predictions fall into.

    Args:
        report: An evaluation's report.
        link: A session of the App, if any.
        key: See :class:`~osv_lab.widgets.base.LabWidget`.

    Attributes:
        cell_chosen: The classes of the cell that was opened last: of the objects, and what they were found as.

    Example:
        >>> explorer = ConfusionExplorer(lab.evaluate())          # shown where a cell ends with it
        >>> explorer.load()
        >>> explorer.data["summary"]
        '7 right, 1 as another class, 1 missed, 0 false; at confidence 0.35 and IoU 0.5'
    """

    heading = "Confusion"
    _esm = script("gallery.js", "confusion.js")
    _css = style("parts.css", "confusion.css")

    cell_chosen = traitlets.List().tag(sync=True)

    def __init__(self, report: EvaluationReport, *, link: Any = None, key: str | None = None) -> None:
        self.report = report
        super().__init__(f"{report.dataset}, {report.key}", link=link, key=key)

    def _load(self) -> None:
        matrix = self.report.confusion
        self.data = {
            "labels": list(matrix.labels),
            "counts": plain(matrix.counts),
            "none": NONE,
            "summary": f"{matrix.summary()}; at confidence {self.report.confidence:.2f} and IoU {self.report.iou:g}",
        }
        if not matrix.counts.sum():
            self.say(
                "empty",
                "Nothing was counted",
                f"no object and no prediction above {self.report.confidence:.2f}",
                "predict, then evaluate",
            )

    @action
    def cell(self, row: int, column: int) -> Answer:
        """Open a cell."""
        labels = self.report.confusion.labels
        if not (0 <= int(row) < len(labels) and 0 <= int(column) < len(labels)):
            raise UsageError("no such cell", f"{row}, {column}")
        label, found_as = labels[int(row)], labels[int(column)]
        view = self.report.confused(label, found_as)
        self.cell_chosen = [label, found_as]
        said = self.show(view)
        pairs = self.report.confusion.ids_of(label, found_as)[:MOST_LABELS]
        cut = crops(view.limit(12), self.report.gt_field, self.report.pred_field, map(tuple, pairs.tolist()))
        what = f"{len(pairs):,} {_name(label, 'no object')} found as {_name(found_as, 'nothing')}"
        told = [{"text": _said(one.label)} for one in cut]
        return {"note": f"{what}: {said['note']}", "pictures": told}, [one.jpeg for one in cut]

    @action
    def where(self) -> Answer:
        """The cells of what is selected in the App."""
        matrix, report = self.report.confusion, self.report
        ids = set(self.selected.get("labels") or ())
        if samples := self.selected.get("samples"):
            chosen = report.view().select(samples)
            for field in (report.gt_field, report.pred_field):
                path = chosen._get_label_field_path(field, "id")[1]
                ids |= {str(one) for one in chosen.values(path, unwind=True) if one}
        rows = np.isin(matrix.ids, list(ids)).any(axis=1) if ids else np.zeros(len(matrix.ids), bool)
        return {"cells": np.unique(matrix.cells[rows], axis=0).tolist()}

    def _static(self) -> str:
        return self.report.confusion._repr_html_()


def _name(label: str, none: str) -> str:
    return none if label == NONE else label


def _said(label: Any) -> str:
    score = label.get("confidence")
    return f"{label.get('label')}{f' {score:.2f}' if score is not None else ''}"
