"""Picking a model: comparison, promotion, lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    from osv_lab.evaluate.comparison_report import ComparisonReport
    from osv_lab.evaluate.promotion import Verdict
    from osv_lab.train.lineage import Lineage
    from osv_lab.train.registry import ModelVersion
    from osv_lab.train.reproduce import Reproduction


class PickStage(LabBase):
    """Choose between models with evidence."""

    def compare(self, key_a: str, key_b: str, *, split: str | None = "test", **options: Any) -> ComparisonReport:
        """What changes for which objects from one evaluation to another, and what of it is luck."""
        from osv_lab.evaluate.comparison import compare

        return compare(self.view(split), key_a, key_b, progress=self.progress, **options)

    def promote(
        self, candidate: str | int, over: str = "champion", *, split: str | None = "test", **options: Any
    ) -> Verdict:
        """Point the lab's alias at a version (its number, or ``models:/name/3``) if the evidence allows it."""
        from osv_lab.evaluate.promotion import promote

        ref = f"models:/{self.name}/{candidate}" if str(candidate).isdigit() else str(candidate)
        return promote(ref, over, view=self.view(split), progress=self.progress, **options)

    def rollback(self, alias: str = "champion", *, reason: str = "") -> ModelVersion:
        """Point the lab's alias back at the version before."""
        from osv_lab.train.aliases import rollback

        return rollback(self.name, alias, reason=reason)

    def lineage(self, ref: Any = None, *, digest: str | None = None) -> Lineage:
        """Where a model came from and what was made with it; by default the deployed one."""
        from osv_lab.train.lineage import lineage

        return lineage(ref if ref or digest else self._reference(None), digest=digest)

    def reproduce(self, run: str, tolerance: float = 0.01, **options: Any) -> Reproduction:
        """Do a training run again from its dataset version and recipe, and compare."""
        from osv_lab.train.reproduce import reproduce

        return reproduce(run, tolerance, progress=self.progress, **options)
