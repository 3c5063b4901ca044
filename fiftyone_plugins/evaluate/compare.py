"""Two evaluations side by side: what is fixed and broken, object by object, and what of it is luck."""

from __future__ import annotations

from typing import Any

from osv_lab.app.kept import kept_soon
from osv_lab.app.panels import LabPanel, Page, PanelAbout

from .budget import evaluations

_TOLD = {
    "fixed": "missed before, found now",
    "broken": "found before, missed now",
    "both_right": "found by both",
    "both_wrong": "missed by both",
    "fp_gone": "false positives that are gone",
    "fp_new": "new false positives",
    "fp_kept": "false positives of both",
}
_ALL = "all classes"


class ComparePanel(LabPanel):
    about = PanelAbout(
        name="compare",
        label="Compare models",
        help="Which objects the second model wins and loses, and which differences are beyond chance.",
        category="analyze",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        keys = evaluations(ctx.dataset)
        if len(keys) < 2:
            page.note("few", "Comparing takes two evaluations.", "notice", f"There is {len(keys) or 'none'}.")
            page.button("evaluate", "Evaluate detections", self.on_evaluate, main=True)
            return
        first, second = _pair(ctx)
        row = page.row("pair")
        row.choice("before", "From", keys, first, self.on_before)
        row.choice("after", "To", keys, second, self.on_after)
        if first == second:
            page.note("same", "Choose two evaluations.")
            return
        if ctx.panel.state.compared != [first, second]:
            page.button("compare", f"Compare {second} with {first}", self.on_compare, main=True)
            return
        report = _report(ctx)
        page.text("summary", report.summary())
        page.table("outcomes", _rows(report), _COLUMNS, on_row=self.on_row)
        for name, on_click in (("objects", self.on_bar), ("differences", None)):
            figure = report.plot(name)
            page.plot(name, figure, on_click=on_click, height_px=int(figure.layout.height or 300))

    def on_before(self, ctx: Any) -> None:
        if ctx.params.get("value"):
            ctx.panel.state.first = ctx.params["value"]

    def on_after(self, ctx: Any) -> None:
        if ctx.params.get("value"):
            ctx.panel.state.second = ctx.params["value"]

    def on_compare(self, ctx: Any) -> None:
        ctx.panel.state.compared = list(_pair(ctx))

    def on_row(self, ctx: Any) -> None:
        report = _report(ctx)
        ctx.ops.set_view(view=report.view(_rows(report)[ctx.params["row"]]["outcome"]))

    def on_bar(self, ctx: Any) -> None:
        ctx.ops.set_view(view=_report(ctx).view(str(ctx.params["trace"])))

    def on_evaluate(self, ctx: Any) -> None:
        ctx.prompt("@osv/evaluate/evaluate", on_success=self.osv_again)


_COLUMNS = {"told": "what", "count": "objects", "share": "of all"}


def _pair(ctx: Any) -> tuple[str, str]:
    """The two evaluations: as chosen, else the last two."""
    keys = evaluations(ctx.dataset)
    first, second = ctx.panel.state.first, ctx.panel.state.second
    return first if first in keys else keys[-2], second if second in keys else keys[-1]


def _report(ctx: Any) -> Any:
    from osv_lab.evaluate.comparison import compare

    first, second = _pair(ctx)
    dataset = ctx.dataset
    return kept_soon(dataset, lambda: compare(dataset, first, second), "compare", first, second)


def _rows(report: Any) -> list[dict[str, Any]]:
    counts = {**report.objects, **report.false_positives}
    every = sum(report.objects.values()) or 1
    return [
        {
            "outcome": what,
            "told": f"{what.replace('_', ' ')}: {told}",
            "count": counts[what],
            "share": f"{counts[what] / every:.1%}" if what in report.objects else "",
        }
        for what, told in _TOLD.items()
    ]
