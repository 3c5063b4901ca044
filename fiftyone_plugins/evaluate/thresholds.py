"""Where to cut a model's confidences: precision, recall and F1 under the cursor, and what passes."""

from __future__ import annotations

from typing import Any

from osv_lab.app.kept import kept_soon
from osv_lab.app.operators import About, Ask, LabOperator
from osv_lab.app.panels import Page, PanelAbout

from .budget import EvaluationPanel, chosen_key, evaluations

_OBJECTIVES = {
    "f1": "F1",
    "f2": "F2: recall counts twice",
    "f0.5": "F0.5: recall counts half",
    "cost": "least cost of false and missed",
}
_COLUMNS = ("class", "confidence", "precision", "recall", "F1", "false", "missed")


class ThresholdsPanel(EvaluationPanel):
    about = PanelAbout(
        name="thresholds",
        label="Thresholds",
        help="Precision, recall and F1 under the cursor. A click looks at that threshold.",
        category="analyze",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        from osv_lab.evaluate.plots import curve_figure

        key = self.key(ctx, page)
        if key is None:
            return
        state = ctx.panel.state
        best = _thresholds(ctx, key)
        names = [one.name for one in best.classes]
        name = state.name if state.name in names else names[0]
        row = page.row("choices")
        row.choice("class", "Class", names, name, self.on_class)
        row.choice("objective", "Best for", _OBJECTIVES, state.objective or "f1", self.on_objective)
        page.text("summary", best.summary())
        at = state.at if isinstance(state.at, (int, float)) else None
        page.plot("curve", curve_figure(best, name, at), on_click=self.on_curve, height_px=300)
        page.text("told", _told(best, name, at))
        row = page.row("actions")
        row.button("show", "Show what passes", self.on_show, main=True)
        row.button("save", "Save with a model…", self.on_save)
        page.table("classes", best.rows(), {column: column for column in _COLUMNS})

    def on_class(self, ctx: Any) -> None:
        _choose(ctx, "name")

    def on_objective(self, ctx: Any) -> None:
        _choose(ctx, "objective")

    def on_curve(self, ctx: Any) -> None:
        ctx.panel.state.at = float(ctx.params["x"])

    def on_show(self, ctx: Any) -> None:
        from osv_lab.evaluate.thresholds import passing

        key = chosen_key(ctx)
        best = _thresholds(ctx, key)
        limits = dict(best.confidences)
        if isinstance(ctx.panel.state.at, (int, float)):
            name = ctx.panel.state.name
            limits[name if name in limits else best.classes[0].name] = float(ctx.panel.state.at)
        ctx.ops.set_view(view=passing(ctx.dataset.load_evaluation_view(key), best.pred_field, limits))

    def on_save(self, ctx: Any) -> None:
        objective = ctx.panel.state.objective or "f1"
        ctx.prompt("@osv/evaluate/save_thresholds", params={"key": chosen_key(ctx), "objective": objective})


class SaveThresholds(LabOperator):
    about = About(
        name="save_thresholds",
        label="Choose a model's thresholds",
        description="Choose confidence thresholds on an evaluation, and keep them with the model",
        changes="nothing",
    )

    def form(self, form: Any) -> None:
        form.choice("key", "Evaluation", evaluations(form.ctx.dataset)[::-1])
        form.choice("objective", "Best for", {**_OBJECTIVES, "recall": "recall, at a least precision"}, "f1")
        form.number("min_precision", "Least precision", low=0, high=1)
        form.switch("per_class", "One per class", True)
        form.model("model", help="Whatever loads it from there uses them where it is told nothing else")

    def run(self, ask: Ask) -> Any:
        from osv_lab.evaluate.thresholds import choose_thresholds

        options = {name: ask[name] for name in ("objective", "min_precision", "per_class", "key")}
        chosen = choose_thresholds(ask.dataset, **options)
        chosen.save(ask["model"])
        return chosen


def _choose(ctx: Any, name: str) -> None:
    value = ctx.params.get("value")
    if value is not None and value != ctx.panel.state.get(name):
        ctx.panel.state.set(name, value)
        ctx.panel.state.at = None


def _thresholds(ctx: Any, key: str) -> Any:
    from osv_lab.evaluate.thresholds import choose_thresholds

    objective = ctx.panel.state.objective or "f1"
    return kept_soon(
        ctx.dataset,
        lambda: choose_thresholds(ctx.dataset, objective, key=key, n_boot=200),
        "thresholds",
        key,
        objective,
    )


def _told(best: Any, name: str, at: float | None) -> str:
    point = best.curve(name).at(
        next(one.confidence for one in best.classes if one.name == name) if at is None else at
    )
    where = "the best" if at is None else "your"
    scores = {"precision": point.precision, "recall": point.recall, "F1": point.f1}
    counts = f"{point.true} found, {point.false} false, {point.missed} missed"
    told = ", ".join(f"{score} **{value:.3f}**" for score, value in scores.items())
    return f"**{name}** at {where} threshold {point.confidence:.3f}: {told} ({counts})"
