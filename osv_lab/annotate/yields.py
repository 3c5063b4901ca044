"""How good the proposals were, by what annotators made of them: a table, a plot and views; from records of pulls."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.outcomes import KINDS, Outcome, outcomes
from osv_lab.annotate.records import Runs
from osv_lab.core.errors import NotFoundError, nearest
from osv_lab.core.report import Report

if TYPE_CHECKING:
    import fiftyone as fo


@dataclass(frozen=True)
class YieldReport(Report):
    """What annotators made of what a run sent.

    Attributes:
        key: The run.
        images: Images, or frames, of finished jobs that were pulled.
        outcomes: One per object and job, in the words of :class:`osv_lab.annotate.outcomes.Outcome`.
        annotators: Who had which job, by CVAT's id of it; ``""`` for nobody.
    """

    key: str
    images: int
    outcomes: tuple[Outcome, ...]
    annotators: Mapping[int, str]
    dataset: Any = dataclasses.field(default=None, repr=False, compare=False)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per class, and one for all."""
        return self._table("class", lambda one: one.label)

    def by_trust(self) -> Sequence[Mapping[str, Any]]:
        """One row for what autolabel trusted, one for what it did not, and one for all."""
        names = {True: "trusted", False: "to look at", None: "not autolabelled"}
        return self._table("proposals", lambda one: names[one.trusted], added=False)

    def by_annotator(self) -> Sequence[Mapping[str, Any]]:
        """One row per annotator, and one for all."""
        return self._table("annotator", lambda one: self.annotators.get(one.job) or "nobody")

    def relabels(self) -> Sequence[Mapping[str, Any]]:
        """Which class became which, the most frequent first."""
        counts = Counter((one.label, one.became) for one in self.outcomes if one.kind == "relabelled")
        return [{"from": a, "to": b, "count": count} for (a, b), count in counts.most_common()]

    def summary(self) -> str:
        """One line."""
        every = self._row("", "all", self.outcomes)
        if not every["sent"]:
            return (
                f"{self.key}: nothing was sent on the {self.images} images that came back; {every['added']} added"
            )
        told = {kind: f"{every[kind] / every['sent']:.0%} {kind}" for kind in KINDS[:-1] if every[kind]}
        if every["median IoU"] is not None:
            told["moved"] += f" (median IoU {every['median IoU']:.2f})"
        shares = ", ".join(told.values())
        return f"{self.key}: {every['sent']:,} on {self.images:,} images: {shares}; {every['added']:,} added"

    def view(self, kind: str, label: str | None = None) -> Any:
        """The images where an outcome happened, those with the most first.

        Args:
            kind: One of :data:`osv_lab.annotate.outcomes.KINDS`.
            label: Only of this class.

        Raises:
            NotFoundError: no such outcome.
        """
        if kind not in KINDS:
            raise NotFoundError("no such outcome", repr(kind), nearest(kind, KINDS))
        counts = Counter(
            one.sample for one in self.outcomes if one.kind == kind and label in (None, one.label, one.became)
        )
        return self.dataset.select([sample for sample, _ in counts.most_common()], ordered=True)

    def plot(self) -> Any:
        """Bars of the outcomes per class, and how far objects were moved, as a plotly figure."""
        from osv_lab.annotate.plots import yield_figure

        return yield_figure(self)

    def _table(
        self, name: str, group: Callable[[Outcome], str], *, added: bool = True
    ) -> Sequence[Mapping[str, Any]]:
        some = [one for one in self.outcomes if added or one.kind != "added"]
        groups: dict[str, list[Outcome]] = {}
        for one in some:
            groups.setdefault(group(one), []).append(one)
        found = [self._row(name, key, groups[key]) for key in sorted(groups, key=lambda key: -len(groups[key]))]
        return [*found, self._row(name, "all", some)] if len(found) != 1 else found

    @staticmethod
    def _row(name: str, key: str, some: Iterable[Outcome]) -> dict[str, Any]:
        some = list(some)
        counts = Counter(one.kind for one in some)
        sent = len(some) - counts["added"]
        moved = [one.iou for one in some if one.kind == "moved" and one.iou is not None]
        kept = counts["accepted"] + counts["described"] + counts["moved"]
        return {
            name: key,
            "sent": sent,
            **{kind: counts[kind] for kind in KINDS},
            "kept": kept / sent if sent else None,
            "median IoU": statistics.median(moved) if moved else None,
        }


def yield_of(dataset: fo.Dataset, key: str) -> YieldReport:
    """What annotators made of a run; see :meth:`osv_lab.annotate.AnnotationLoop.yields`."""
    runs = Runs(dataset)
    run = runs.get(key)
    returned = runs.returned(key)
    if not returned:
        raise NotFoundError("nothing of this run was pulled yet", repr(key), "pull it when a job is finished")
    return YieldReport(
        key,
        len({place for _, place in returned}),
        tuple(outcomes(runs.sent(key).shapes, returned)),
        {int(job["id"]): str(job["annotator"] or job["assignee"]) for job in run.jobs},
        dataset,
    )
