"""What a comparison of two models found, as a report that can be read, plotted and opened in the App."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from osv_lab.core.errors import NotFoundError, nearest
from osv_lab.core.report import Report
from osv_lab.evaluate.differences import Difference
from osv_lab.evaluate.latency import Cost
from osv_lab.evaluate.outcomes import FALSE_POSITIVES, OBJECTS


@dataclass(frozen=True)
class ComparisonReport(Report):
    """What changes from a first model to a second.

    Attributes:
        name: The field of objects and predictions that says what became of them, and the saved views' prefix.
        dataset: The dataset's name.
        keys: The two evaluations.
        fields: Their predictions.
        gt_field: The ground truth.
        samples: Images compared.
        confidence: Per model its confidence threshold per class, for objects, precision, recall and F1.
        iou: Least overlap of a match.
        objects: Objects per outcome (``fixed``, ``broken``, ``both_right``, ``both_wrong``).
        false_positives: False positives ``fp_gone``, ``fp_new`` and ``fp_kept``.
        by_class: Per outcome, objects per class.
        differences: Every metric of every slice with interval and p-values.
        cost: Latency and size of the two models; ``None`` where they are not known.
        n_boot: Resamples.
        seed: Of the resamples.
        notes: What else the user should know.
        duration_s: Seconds spent.
    """

    name: str
    dataset: str
    keys: tuple[str, str]
    fields: tuple[str, str]
    gt_field: str
    samples: int
    confidence: tuple[Mapping[str, float], Mapping[str, float]]
    iou: float
    objects: Mapping[str, int]
    false_positives: Mapping[str, int]
    by_class: Mapping[str, Mapping[str, int]]
    differences: tuple[Difference, ...]
    cost: Cost | None
    n_boot: int
    seed: int
    notes: tuple[str, ...] = ()
    duration_s: float = field(default=0.0, compare=False)

    def rows(self) -> list[Mapping[str, Any]]:
        a, b = self.keys
        return [
            {
                "slice": one.name,
                "metric": one.metric,
                a: one.a,
                b: one.b,
                "difference": one.difference,
                "low": one.low,
                "high": one.high,
                "p": one.p,
                "p, of all": one.p_adjusted,
                "objects": one.objects,
                "images": one.images,
            }
            for one in self.differences
        ]

    def highlights(self) -> list[Mapping[str, Any]]:
        """All metrics of the whole, and mAP50-95 of each slice."""
        return [
            row
            for row, one in zip(self.rows(), self.differences, strict=True)
            if one.kind == "all" or one.metric == "mAP50-95"
        ]

    def summary(self) -> str:
        one = self.of()
        fp = self.false_positives
        text = (
            f"{self.keys[1]} against {self.keys[0]} on {self.samples} samples of {self.dataset}: "
            f"mAP50-95 {one.a:.3f} → {one.b:.3f} ({one.difference:+.3f}, 95% [{one.low:+.3f}, {one.high:+.3f}]); "
            f"objects: {self.objects['fixed']} fixed, {self.objects['broken']} broken; "
            f"false positives: {fp['fp_gone']} gone, {fp['fp_new']} new"
        )
        if self.cost:
            first, second = self.cost.median_ms
            text += f"; {first:.1f} → {second:.1f} ms per image"
        return text

    def of(self, kind: str = "all", value: str = "all", metric: str = "mAP50-95") -> Difference:
        """One difference.

        Raises:
            NotFoundError: that was not compared.
        """
        for one in self.differences:
            if (one.kind, one.slice, one.metric) == (kind, value, metric):
                return one
        known = {f"{one.kind} {one.slice} {one.metric}" for one in self.differences}
        wanted = f"{kind} {value} {metric}"
        raise NotFoundError("no such difference", repr(wanted), nearest(wanted, known))

    def view(self, what: str = "broken") -> Any:
        """The samples with objects of an outcome (of :data:`OBJECTS` or :data:`FALSE_POSITIVES`), and only those.

        Raises:
            NotFoundError: there is no such outcome.
        """
        from osv_lab.store.catalogue import open_view

        if what not in (*OBJECTS, *FALSE_POSITIVES):
            raise NotFoundError("no such outcome", repr(what), nearest(what, (*OBJECTS, *FALSE_POSITIVES)))
        return open_view(self.dataset, f"{self.name}_{what}")

    def plot(self, name: str = "differences") -> Any:
        """A plotly figure: ``differences`` with their intervals, or ``objects`` by outcome and class."""
        from osv_lab.evaluate.comparison_plots import PLOTS

        if name not in PLOTS:
            raise NotFoundError("no such plot", repr(name), nearest(name, PLOTS))
        return PLOTS[name](self)

    def picture(self, samples: int = 3) -> np.ndarray:
        """The most changed samples: the truth, the first model and the second side by side, as BGR uint8."""
        from osv_lab.evaluate.side_by_side import side_by_side

        return side_by_side(self, samples)
