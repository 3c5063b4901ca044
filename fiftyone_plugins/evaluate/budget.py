"""What kinds of error a model makes, and where it makes them: every number opens the objects behind it."""

from __future__ import annotations

from typing import Any

from osv_lab.app.kept import kept_soon
from osv_lab.app.panels import LabPanel, Page, PanelAbout

_MOST = 1000
"""Objects that a click opens: nobody looks at more, and the ids of tens of thousands take the App seconds."""

_SHARES = {"error": "error", "count": "objects", "gain": "mAP it would bring", "worst": "most in"}


class EvaluationPanel(LabPanel):
    """A panel about one of the dataset's evaluations."""

    def key(self, ctx: Any, page: Page) -> Any:
        """The evaluation that is looked at, with a dropdown to choose another; ``None`` where there is none."""
        keys = evaluations(ctx.dataset)
        if not keys:
            page.note(
                "none", "Nothing is evaluated yet.", "notice", "An evaluation matches predictions with objects."
            )
            page.button("evaluate", "Evaluate detections", self.on_evaluate, main=True)
            return None
        chosen = ctx.panel.state.chosen
        now = chosen if chosen in keys else keys[-1]
        if len(keys) > 1:
            page.choice("evaluation", "Evaluation", keys, now, self.on_key)
        return now

    def on_key(self, ctx: Any) -> None:
        if ctx.params.get("value"):
            ctx.panel.state.chosen = ctx.params["value"]

    def on_evaluate(self, ctx: Any) -> None:
        ctx.prompt("@osv/evaluate/evaluate", on_success=self.osv_again)


class ErrorBudgetPanel(EvaluationPanel):
    about = PanelAbout(
        name="error_budget",
        label="Error budget",
        help="What kinds of error the model makes, and what mending each would bring. A bar or a row opens them.",
        category="analyze",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        key = self.key(ctx, page)
        if key is None:
            return
        budget = _budget(ctx, key)
        page.text("summary", f"**{budget.pred_field}**: {budget.summary()}")
        figure = budget.plot().update_layout(title=None, showlegend=True)
        page.plot("gains", figure, on_click=self.on_bar, height_px=300)
        page.table(
            "shares", _rows(budget), _SHARES, [("show", "Show these", "visibility", self.on_row)], self.on_row
        )
        if any(share.count > _MOST for share in budget.shares):
            page.text("most", f"A click opens at most {_MOST:,} objects, the surest first; a saved view has all.")
        row = page.row("more")
        row.button("save", "Save a view per type", self.on_save)
        row.button("all", "Show all samples", self.on_all)

    def on_bar(self, ctx: Any) -> None:
        self._show(ctx, str(ctx.params["x"]), ctx.params.get("trace"))

    def on_row(self, ctx: Any) -> None:
        budget = _budget(ctx, chosen_key(ctx))
        self._show(ctx, _rows(budget)[ctx.params["row"]]["error"])

    def _show(self, ctx: Any, kind: str, name: str | None = None) -> None:
        ctx.ops.set_view(view=_budget(ctx, chosen_key(ctx)).view(kind, name, limit=_MOST))

    def on_save(self, ctx: Any) -> None:
        ctx.prompt("@osv/evaluate/save_error_views", params={"key": chosen_key(ctx)})

    def on_all(self, ctx: Any) -> None:
        ctx.ops.clear_view()


class SlicesPanel(EvaluationPanel):
    about = PanelAbout(
        name="slices",
        label="Slices",
        help="Where the model does worse than elsewhere, and whether that is beyond chance. A point or a row opens it.",
        category="analyze",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        key = self.key(ctx, page)
        if key is None:
            return
        report = _slices(ctx, key)
        page.text("summary", report.summary())
        if report.slices:
            figure = report.plot().update_layout(title=None)
            page.plot("slices", figure, on_click=self.on_point, height_px=int(figure.layout.height or 300))
            columns = {name: name for name in ("slice", "images", report.metric, "difference", "p")}
            page.table("rows", report.rows()[1:13], columns, on_row=self.on_row)

    def on_point(self, ctx: Any) -> None:
        self._show(ctx, str(ctx.params["y"]).rpartition(" (")[0])

    def on_row(self, ctx: Any) -> None:
        self._show(ctx, _slices(ctx, chosen_key(ctx)).slices[ctx.params["row"]].name)

    def _show(self, ctx: Any, name: str) -> None:
        ctx.ops.set_view(view=_slices(ctx, chosen_key(ctx)).view(name))


def evaluations(dataset: Any) -> list[str]:
    """The keys of a dataset's evaluations, the newest last."""
    return sorted(dataset.list_evaluations(), key=lambda key: dataset.get_evaluation_info(key).timestamp)


def chosen_key(ctx: Any) -> str:
    """The evaluation that a panel looks at."""
    keys = evaluations(ctx.dataset)
    chosen = ctx.panel.state.chosen
    return str(chosen if chosen in keys else keys[-1])


def _budget(ctx: Any, key: str) -> Any:
    from osv_lab.evaluate.error_budget import error_budget

    dataset = ctx.dataset
    return kept_soon(dataset, lambda: error_budget(dataset.load_evaluation_view(key), key), "budget", key)


def _slices(ctx: Any, key: str) -> Any:
    from osv_lab.evaluate.slices import slices

    dataset = ctx.dataset
    return kept_soon(dataset, lambda: slices(dataset.load_evaluation_view(key), key, n_boot=500), "slices", key)


def _rows(budget: Any) -> list[dict[str, Any]]:
    """One row per type of error, with the class that has most of them."""
    rows = []
    for share in (one for one in budget.shares if one.by == "all"):
        own = [one for one in budget.shares if one.by == "class" and one.kind == share.kind and one.count]
        worst = max(own, key=lambda one: one.count, default=None)
        told = f"{worst.group} ({worst.count})" if worst else ""
        rows.append({"error": share.kind, "count": share.count, "gain": share.gain, "worst": told})
    return rows
