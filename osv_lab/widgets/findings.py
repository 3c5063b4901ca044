"""Health and slices as widgets: lists of what stands out, each a click from its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osv_lab.core.report import plain
from osv_lab.widgets.base import Answer, LabWidget, action
from osv_lab.widgets.front import script, style

if TYPE_CHECKING:
    from osv_lab.curate.findings import FindingsReport
    from osv_lab.evaluate.slices import SliceReport


class HealthExplorer(LabWidget):
    """Findings about a dataset, worst first; a click opens what a finding is about.

    Findings that hold what is selected in the App are marked.

    Args:
        report: Of :func:`~osv_lab.curate.health.health`, :func:`~osv_lab.curate.quality.quality` or any other list of
            findings.
        link: A session of the App, if any.
        key: See :class:`~osv_lab.widgets.base.LabWidget`.

    Example:
        >>> explorer = HealthExplorer(lab.quality())              # shown where a cell ends with it
        >>> explorer.open_finding("leak")
        {'note': '10 samples as .view (no App is linked: pass link=session)'}
    """

    heading = "Health"
    _esm = script("chart.js", "health.js")
    _css = style("parts.css")

    def __init__(self, report: FindingsReport, *, link: Any = None, key: str | None = None) -> None:
        self.report = report
        super().__init__(report.dataset, link=link, key=key)

    def _load(self) -> None:
        report = self.report
        by_split = getattr(report, "by_split", {})
        self.data = plain(
            {
                "summary": report.summary(),
                "findings": [
                    {
                        "kind": one.kind,
                        "text": one.text,
                        "severity": one.severity,
                        "samples": len(one.samples),
                        "labels": len(one.labels) if one.label_field else None,
                    }
                    for one in report.findings
                ],
                "objects": getattr(report, "objects", {}),
                "images": getattr(report, "images", {}),
                "splits": {name or "no split": counts for name, counts in by_split.items()},
            }
        )
        if not report.findings and not self.data["objects"]:
            self.say("empty", "Nothing stands out", report.summary())

    @action
    def open_finding(self, kind: str) -> Answer:
        """Open the samples of a finding."""
        return self.show(self.report.view(kind))

    @action
    def where(self) -> Answer:
        """The findings that hold what is selected in the App."""
        chosen = {*(self.selected.get("samples") or ()), *(self.selected.get("labels") or ())}
        return {"kinds": [one.kind for one in self.report.findings if chosen & {*one.samples, *one.labels}]}

    def _static(self) -> str:
        return self.report._repr_html_()


class SliceExplorer(LabWidget):
    """Where a model does worse, worst first, with intervals; a click opens a slice.

    Args:
        report: Of :func:`~osv_lab.evaluate.slices.slices`.
        link: A session of the App, if any.
        key: See :class:`~osv_lab.widgets.base.LabWidget`.

    Example:
        >>> report = lab.evaluate(split=None)
        >>> explorer = SliceExplorer(lab.slices(split=None, by=["density"]))    # shown where a cell ends with it
        >>> explorer.open_slice("density 2 objects")
        {'note': '10 samples as .view (no App is linked: pass link=session)'}
    """

    heading = "Slices"
    _esm = script("chart.js", "slices.js")
    _css = style("parts.css")

    def __init__(self, report: SliceReport, *, link: Any = None, key: str | None = None) -> None:
        self.report = report
        super().__init__(f"{report.dataset}, {report.pred_field}", link=link, key=key)

    def _load(self) -> None:
        report = self.report
        sure = {one.name for one in report.significant()}
        self.data = plain(
            {
                "summary": report.summary(),
                "metric": report.metric,
                "overall": report.overall.values[report.metric],
                "notes": report.notes,
                "slices": [
                    {
                        "name": one.name,
                        "by": one.by,
                        "images": one.images,
                        "objects": one.objects,
                        "value": one.values[report.metric],
                        "low": one.intervals[report.metric][0],
                        "high": one.intervals[report.metric][1],
                        "difference": one.difference,
                        "p": one.p_corrected,
                        "note": one.note,
                        "sure": one.name in sure,
                    }
                    for one in report.slices
                ],
            }
        )
        if not report.slices:
            self.say("empty", "No slice has enough images", report.summary(), "slice by something coarser")

    @action
    def open_slice(self, name: str) -> Answer:
        """Open the samples of a slice."""
        return self.show(self.report.view(name))

    @action
    def where(self) -> Answer:
        """The slices that hold what is selected in the App."""
        chosen = set(self.selected.get("samples") or ())
        return {"names": [one.name for one in self.report.slices if chosen & set(self.report.members(one.name))]}

    def _static(self) -> str:
        return self.report._repr_html_()
