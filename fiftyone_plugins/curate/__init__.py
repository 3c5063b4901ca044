"""Get data in, look at it as a whole, and choose from it."""

from __future__ import annotations

from typing import Any

from osv_lab.app.operators import About, Ask, LabOperator
from osv_lab.app.panels import LabPanel, Page, PanelAbout


class Quality(LabOperator):
    about = About(
        name="quality",
        label="Find bad images and duplicates",
        description="Unreadable, dark, bright, blurred or odd images, duplicates, and leaks between splits",
    )

    def form(self, form: Any) -> None:
        form.target()
        form.number(
            "least_similarity",
            "Least similarity of near duplicates",
            0.9,
            low=0,
            high=1,
            help="Correlation of two pictures after the best shift and scale",
        )

    def run(self, ask: Ask) -> Any:
        from osv_lab.curate.quality import quality

        return quality(ask.view, least_similarity=ask["least_similarity"], progress=ask.progress)


class Query(LabOperator):
    about = About(
        name="query",
        label="Query samples",
        description="The samples that match, such as class:RBC>=10 conf<0.4 -tag:reviewed split:train",
        jobs="never",
        changes="nothing",
        risk="low",
    )

    def form(self, form: Any) -> None:
        from osv_lab.curate.query import query

        text = form.text(
            "query", "Query", help="Words are ANDed: class:RBC>=10 conf<0.4 -tag:reviewed split:train"
        )
        if text:
            form.check("query", query, form.ctx.dataset, text)

    def run(self, ask: Ask) -> Any:
        from osv_lab.curate.query import query

        ask.found = query(ask.dataset, ask["query"])
        return f"{len(ask.found):,} of {len(ask.dataset):,} samples match"

    def view(self, ask: Ask, result: Any) -> Any:
        return ask.found


class FindLabelErrors(LabOperator):
    about = About(
        name="find_label_errors",
        label="Find label errors",
        description="Rank the labels that are probably missing, spurious, of the wrong class or badly placed",
    )

    def form(self, form: Any) -> None:
        form.target()
        form.label_field(
            "pred_field", "Predictions", "predictions", help="Best out of fold, down to confidence 0.05"
        )
        form.label_field("gt_field", "Labels to judge", "ground_truth")
        form.text("key", "Field and saved view to write", "label_errors")
        form.number("limit", "Most suggestions", 1000, low=1, whole=True)

    def run(self, ask: Ask) -> Any:
        from osv_lab.curate.label_errors import find_label_errors

        names = ("pred_field", "gt_field")
        fields = [ask[name] for name in names]
        return find_label_errors(ask.view, *fields, key=ask["key"], limit=ask["limit"], progress=ask.progress)


class Health(LabPanel):
    about = PanelAbout(
        name="health", label="Health", help="The labels as a whole. A bar or a finding sets the view."
    )

    def draw(self, ctx: Any, page: Page) -> None:
        report = self._report(ctx)
        page.text("summary", report.summary())
        page.plot("classes", report.plot("classes"), on_click=self.on_class)
        page.table(
            "findings", report.rows()[:20], _FINDINGS, [("show", "Show these", "visibility", self.on_finding)]
        )

    def on_class(self, ctx: Any) -> None:
        from osv_lab.curate.query import query

        ctx.ops.set_view(view=query(ctx.dataset, f'class:"{ctx.params["x"]}"'))

    def on_finding(self, ctx: Any) -> None:
        report = self._report(ctx)
        ctx.ops.set_view(view=report.view(report.findings[ctx.params["row"]].kind))

    def _report(self, ctx: Any) -> Any:
        from osv_lab.curate.health import health

        return health(ctx.dataset)


_FINDINGS = {"finding": "finding", "samples": "samples", "labels": "labels"}


def register(plugin: Any) -> None:
    plugin.register(FindLabelErrors)
    plugin.register(Health)
    plugin.register(Quality)
    plugin.register(Query)
