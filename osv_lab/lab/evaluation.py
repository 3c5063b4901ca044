"""Looking at what a model gets wrong, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    from osv_lab.evaluate.error_budget import ErrorBudget
    from osv_lab.evaluate.slices import SliceReport


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
