"""Two models compared, as a widget: differences with intervals, and what became of every object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osv_lab.core.report import plain
from osv_lab.evaluate.outcomes import FALSE_POSITIVES, OBJECTS
from osv_lab.widgets.base import Answer, LabWidget, action
from osv_lab.widgets.front import script, style

if TYPE_CHECKING:
    from osv_lab.evaluate.comparison_report import ComparisonReport


class ComparisonExplorer(LabWidget):
    """What changes from one model to another; a click on an outcome opens its objects.

    Args:
        report: Of :func:`~osv_lab.evaluate.comparison.compare`.
        link: A session of the App, if any.
        key: See :class:`~osv_lab.widgets.base.LabWidget`.

    Example:
        >>> explorer = ComparisonExplorer(lab.compare("predictions", "candidate"))     # shown where a cell ends with it
        >>> explorer.open_outcome("fixed")
        {'note': '2 samples as .view (no App is linked: pass link=session)'}
    """

    heading = "Comparison"
    _esm = script("chart.js", "comparison.js")
    _css = style("parts.css")

    def __init__(self, report: ComparisonReport, *, link: Any = None, key: str | None = None) -> None:
        self.report = report
        super().__init__(f"{report.dataset}, {report.keys[0]} → {report.keys[1]}", link=link, key=key)

    def _load(self) -> None:
        report = self.report
        self.data = plain(
            {
                "keys": report.keys,
                "summary": report.summary(),
                "samples": report.samples,
                "objects": report.objects,
                "false_positives": report.false_positives,
                "by_class": report.by_class,
                "cost": None if report.cost is None else report.cost.median_ms,
                "notes": report.notes,
                "metrics": list(dict.fromkeys(one.metric for one in report.differences)),
                "differences": [
                    {
                        "name": one.name,
                        "kind": one.kind,
                        "metric": one.metric,
                        "a": one.a,
                        "b": one.b,
                        "value": one.difference,
                        "low": one.low,
                        "high": one.high,
                        "p": one.p_adjusted,
                        "objects": one.objects,
                    }
                    for one in report.differences
                ],
            }
        )
        if not report.samples:
            self.say("empty", "No samples were compared", report.summary())

    @action
    def open_outcome(self, what: str) -> Answer:
        """Open the samples with objects (or false positives) of an outcome."""
        return self.show(self.report.view(what))

    @action
    def where(self) -> Answer:
        """How many objects of each outcome are in the samples that are selected in the App."""
        from osv_lab.store.catalogue import open_dataset

        report = self.report
        chosen = open_dataset(report.dataset).select(list(self.selected.get("samples") or ()))
        found: dict[str, int] = {}
        for field, outcomes in ((report.gt_field, OBJECTS), (report.fields[0], FALSE_POSITIVES[:1]),
                                (report.fields[1], FALSE_POSITIVES[1:])):  # fmt: skip
            counts = chosen.count_values(f"{field}.detections.{report.name}")
            found |= {what: counts.get(what, 0) for what in outcomes}
        return {"outcomes": found}

    def _static(self) -> str:
        return self.report._repr_html_()
