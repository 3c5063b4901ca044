"""The runs of a dataset, as they are remembered here; no server is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.records import Runs
from osv_lab.core.report import Report

if TYPE_CHECKING:
    import fiftyone as fo


@dataclass(frozen=True)
class AnnotationRuns(Report):
    """The runs of a dataset, as they are remembered here."""

    runs: tuple[Mapping[str, Any], ...]

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per run."""
        return self.runs

    def summary(self) -> str:
        """One line."""
        return f"{len(self.runs)} annotation runs" if self.runs else "nothing was sent yet"


def list_runs(dataset: fo.Dataset) -> AnnotationRuns:
    """The runs of a dataset; see :meth:`osv_lab.annotate.AnnotationLoop.list`."""
    runs = Runs(dataset)
    found = [runs.get(key) for key in runs.names()]
    return AnnotationRuns(
        tuple(
            {
                "key": run.key,
                "phase": run.phase,
                "field": run.field,
                "samples": len(run.samples),
                "done": run.done,
                "pulled": run.pulled,
                "jobs": len(run.jobs),
                "conflicts": len(runs.documents(run.key, "conflicts")),
                "task": run.task,
                "server": run.url,
            }
            for run in found
        )
    )
