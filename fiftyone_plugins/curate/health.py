"""The labels as a whole."""

from __future__ import annotations

from typing import Any

from osv_lab.app.form import label_fields
from osv_lab.app.kept import kept_soon
from osv_lab.app.panels import LabPanel, Page, PanelAbout

PLOTS = {
    "classes": "classes",
    "splits": "splits",
    "density": "objects per image",
    "sizes": "sizes",
    "places": "places",
}
FINDINGS = {"finding": "finding", "samples": "samples", "labels": "labels"}


class Health(LabPanel):
    about = PanelAbout(
        name="health",
        label="Health",
        help="The labels as a whole: balance, splits, sizes, places, and what looks wrong. A bar sets the view.",
        category="curate",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        report = self._report(ctx)
        if report is None:
            page.note("none", "No field holds boxes", "warning", "Ingest labels, or predict, first")
            return
        page.text("summary", report.summary())
        which = self._which(ctx)
        page.choice("which", "Plot", PLOTS, which, self.on_plot)
        page.plot("plot", report.plot(which), on_click=self.on_bar)
        row = page.row("buttons")
        row.button("quality", "Find bad images and duplicates", self.on_quality, icon="search")
        row.button("all", "Show all samples", self.on_all, icon="grid_view")
        if report.findings:
            actions = [("show", "Show these", "visibility", self.on_finding)]
            page.table("findings", report.rows()[:20], FINDINGS, actions, on_row=self.on_finding)
        else:
            page.note("fine", "Nothing looks wrong with the labels", "success")

    def on_plot(self, ctx: Any) -> None:
        """Another plot was chosen; it is drawn anew."""

    def on_bar(self, ctx: Any) -> None:
        mark = ctx.params
        view = self._report(ctx).part(self._which(ctx), mark.get("x"), mark.get("y"), mark.get("trace") or "")
        ctx.ops.set_view(view=view)

    def on_finding(self, ctx: Any) -> None:
        report = self._report(ctx)
        ctx.ops.set_view(view=report.view(report.findings[ctx.params["row"]].kind))

    def on_all(self, ctx: Any) -> None:
        ctx.ops.clear_view()

    def on_quality(self, ctx: Any) -> None:
        ctx.prompt("@osv/curate/quality")

    @staticmethod
    def _which(ctx: Any) -> str:
        return str(ctx.panel.get_state("which") or "classes")

    @staticmethod
    def _report(ctx: Any) -> Any:
        from osv_lab.curate.health import health

        fields = label_fields(ctx.dataset)
        if not fields:
            return None
        field = "ground_truth" if "ground_truth" in fields else fields[0]
        return kept_soon(ctx.dataset, lambda: health(ctx.dataset, field), "health", field)
