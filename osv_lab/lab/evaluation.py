"""Looking at what a model gets wrong, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    from pathlib import Path

    from osv_lab.evaluate.calibration import CalibrationReport
    from osv_lab.evaluate.error_budget import ErrorBudget
    from osv_lab.evaluate.robustness import RobustnessReport
    from osv_lab.evaluate.slices import SliceReport
    from osv_lab.evaluate.thresholds import Thresholds


class EvaluationStage(LabBase):
    """Error budgets and slices of evaluations."""

    def error_budget(self, key: str | None = "eval", *, split: str | None = "test", **options: Any) -> ErrorBudget:
        """Each error of an evaluation typed, and what mending each type would bring.

        See :func:`osv_lab.evaluate.error_budget.error_budget` for the options; ``key=None, pred_field="..."`` needs
        no evaluation.
        """
        from osv_lab.evaluate.error_budget import error_budget

        return error_budget(self.view(split), key, **options)

    def slices(
        self,
        key: str | None = "eval",
        by: Sequence[str] | None = None,
        *,
        split: str | None = "test",
        **options: Any,
    ) -> SliceReport:
        """Where the model does worse beyond chance; see :func:`osv_lab.evaluate.slices.slices`."""
        from osv_lab.evaluate.slices import BY, slices

        return slices(self.view(split), key, BY if by is None else by, progress=self.progress, **options)

    def choose_thresholds(
        self, key: str = "eval", objective: str = "f1", *, split: str | None = None, **options: Any
    ) -> Thresholds:
        """The confidence thresholds to run a model at, chosen on an evaluation; ``.save(model)`` keeps them with it.

        See :func:`osv_lab.evaluate.thresholds.choose_thresholds` for the options.
        """
        from osv_lab.evaluate.thresholds import choose_thresholds

        return choose_thresholds(self.view(split), objective, key=key, **options)

    def calibration(self, key: str = "eval", *, split: str | None = None, **options: Any) -> CalibrationReport:
        """Whether scores mean what they say; see :func:`osv_lab.evaluate.calibration.calibration`."""
        from osv_lab.evaluate.calibration import calibration

        return calibration(self.view(split), key=key, **options)

    def robustness(
        self, model: str | Path | None = None, *, split: str | None = "test", **options: Any
    ) -> RobustnessReport:
        """How much worse a model, by default the deployed one, gets as images get worse.

        See :func:`osv_lab.evaluate.robustness.robustness` for the options.
        """
        from osv_lab.evaluate.robustness import robustness

        return robustness(self.view(split), self.detector(model), progress=self.progress, **options)
