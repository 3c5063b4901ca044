"""Look at what a model gets wrong, compare models, choose thresholds, promote, export and deploy."""

from __future__ import annotations

from typing import Any

from osv_lab.app.operators import About, Ask, LabOperator

from .budget import ErrorBudgetPanel, SlicesPanel, evaluations
from .compare import ComparePanel
from .pick import Deploy, ExportModel, Promote
from .thresholds import SaveThresholds, ThresholdsPanel


class Evaluate(LabOperator):
    about = About(
        name="evaluate",
        label="Evaluate detections",
        description="mAP by COCO's rule, per class; the matches are written into the labels",
    )

    def form(self, form: Any) -> None:
        kinds = ("Detections", "Polylines", "Keypoints")
        form.target()
        form.label_field("pred_field", "Predictions", "predictions", kinds=kinds)
        form.label_field("gt_field", "Ground truth", "ground_truth", kinds=kinds)
        form.text("key", "Name of the evaluation", "eval", help="One of the same name is replaced", required=True)
        form.number("iou", "Least IoU of a match", 0.5, low=0.05, high=1)
        form.number("confidence", "Confidence", low=0, high=1, help="Empty: where mean F1 is greatest")
        form.switch("masks", "Compare masks, not boxes")

    def run(self, ask: Ask) -> Any:
        from osv_lab.evaluate.detection import evaluate

        options = {name: ask[name] for name in ("key", "iou", "confidence", "masks")}
        return evaluate(ask.view, ask["pred_field"], ask["gt_field"], progress=ask.progress, **options)


class SaveErrorViews(LabOperator):
    about = About(
        name="save_error_views",
        label="Save a view per type of error",
        description="Write each error's type to its label, and save one view per type",
    )

    def form(self, form: Any) -> None:
        form.choice("key", "Evaluation", evaluations(form.ctx.dataset)[::-1])

    def run(self, ask: Ask) -> Any:
        from osv_lab.evaluate.error_budget import error_budget

        budget = error_budget(ask.dataset.load_evaluation_view(ask["key"]), ask["key"])
        return f"saved the views {', '.join(budget.save_views())}"


def register(plugin: Any) -> None:
    plugin.register(ComparePanel)
    plugin.register(Deploy)
    plugin.register(ErrorBudgetPanel)
    plugin.register(Evaluate)
    plugin.register(ExportModel)
    plugin.register(Promote)
    plugin.register(SaveErrorViews)
    plugin.register(SaveThresholds)
    plugin.register(SlicesPanel)
    plugin.register(ThresholdsPanel)
