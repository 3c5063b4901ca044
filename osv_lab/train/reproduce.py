"""Do a training run again from what was recorded of it, and see whether the same comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.train import tracking
from osv_lab.train.lineage_graph import environment_of
from osv_lab.train.recipe import Recipe
from osv_lab.train.run import TrainingRun, find_run, run_folders


@dataclass(frozen=True)
class Reproduction(Report):
    """A run done again.

    Attributes:
        original: The run.
        again: The new one.
        metric: What decides.
        tolerance: Largest difference of that metric.
        same_data: Whether the data rebuilt from the version has the digest that the original saw.
        environment: What differs: per package or machine property, then and now.
        notes: What else the user should know.
    """

    original: TrainingRun = field(repr=False)
    again: TrainingRun = field(repr=False)
    metric: str
    tolerance: float
    same_data: bool
    environment: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """Of the metric, now minus then."""
        return self.again.metrics.get(self.metric, math.nan) - self.original.metrics.get(self.metric, math.nan)

    @property
    def passed(self) -> bool:
        """Whether the same data gave the same metric within the tolerance."""
        return self.same_data and abs(self.difference) <= self.tolerance

    @property
    def exit_code(self) -> int:
        """6 where it was not reproduced."""
        return 0 if self.passed else 6

    def rows(self) -> list[Mapping[str, Any]]:
        metrics = [
            {"what": name, "then": then, "now": self.again.metrics.get(name, math.nan)}
            for name, then in self.original.metrics.items()
        ]
        digests = {"then": self.original.dataset_digest[:12], "now": self.again.dataset_digest[:12]}
        packages = [{"what": name, "then": then, "now": now} for name, (then, now) in self.environment.items()]
        return [*metrics, {"what": "data", **digests}, *packages]

    def summary(self) -> str:
        said = "reproduced" if self.passed else "NOT reproduced"
        data = "the same data" if self.same_data else "OTHER data"
        places = f"{len(self.environment)} differences" if self.environment else "no difference"
        then, now = (run.metrics.get(self.metric, math.nan) for run in (self.original, self.again))
        return (
            f"{self.original.name} {said} as {self.again.name}: {self.metric} "
            f"{then:.4f} → {now:.4f} ({self.difference:+.4f}, {self.tolerance} allowed) on {data}; "
            f"{places} of environment"
        )

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "original": self.original.name, "again": self.again.name,
                "difference": self.difference if math.isfinite(self.difference) else None,
                "passed": self.passed}  # fmt: skip

    def plot(self) -> Any:
        """The metric per epoch, then and now."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for run in (self.original, self.again):
            rows = [row for row in run.history if self.metric in row]
            figure.add_scatter(
                x=[row["epoch"] for row in rows], y=[row[self.metric] for row in rows], name=run.name,
                mode="lines+markers", line={"dash": "dash" if run is self.again else "solid"},
            )  # fmt: skip
        return figure.update_layout(
            title=self.summary(), xaxis_title="epoch", yaxis_title=self.metric, template="plotly_white"
        )


def reproduce(
    run: str | TrainingRun, tolerance: float = 0.01, *, metric: str = "mAP50-95", progress: Progress = silent
) -> Reproduction:
    """Rebuild a run's data from its dataset version, train with its recipe and seed, and compare the metric.

    The new run is tracked in the experiment ``<experiment>-reproductions``; one that was interrupted is resumed.

    Args:
        run: A finished run, by name or MLflow id.
        tolerance: Largest difference of the metric, 0 to 1. The same machine and packages give the same weights on a
            CPU; a GPU, another thread count or other packages do not.
        metric: ``mAP50-95``, ``mAP50``, ``precision`` or ``recall``.
        progress: Told of images and batches.

    Raises:
        NotFoundError: no such run, or its version or starting weights are not here.
        UsageError: it is not finished, or it was not trained on a dataset version.

    Example:
        >>> from osv_lab.store.versions import create_version
        >>> from osv_lab.train.trainer import train
        >>> run = train(create_version(dataset).ref, Recipe("best.pt", epochs=1, imgsz=32, device="cpu"))
        >>> reproduce(run.name).passed
        True
    """
    from osv_lab.store.versions import load_version
    from osv_lab.train.trainer import train

    folder, state = find_run(run if isinstance(run, str) else run.name)
    original = folder.report()
    if state.status != "finished":
        raise UsageError("only a finished run can be reproduced", f"'{original.name}' is {state.status}")
    if metric not in original.metrics:
        raise UsageError("the run has no such metric", repr(metric), nearest(metric, original.metrics))
    if not state.version:
        raise UsageError(
            "the run's data was not frozen, so it cannot be rebuilt",
            f"'{original.name}' saw {state.dataset} {state.digest[:12]}",
            "train on a version (osv train blood@v1)",
        )
    experiment = f"{state.experiment}-reproductions"
    view = load_version(f"{state.dataset}@{state.version}", progress=progress)
    begun = [
        one.path.name
        for one, other in run_folders()
        if other.experiment == experiment
        and other.status not in ("finished", "failed")
        and one.path.name.startswith(f"{original.name}-again")
    ]
    again = train(
        view,
        None if begun else Recipe.from_dict(state.recipe),
        gt_field=state.gt_field,
        resume=begun[-1] if begun else False,
        run_name=f"{original.name}-again",
        experiment=experiment,
        progress=progress,
    )
    tracking.set_tags(again.run_id, {"osv.reproduces": original.run_id})
    before = environment_of(original.run_id)
    now = tracking.environment()
    changed = {
        name: (before.get(name, "–"), now.get(name, "–"))
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    }
    pins = [f"{name}=={then}" for name, (then, _) in changed.items() if name in tracking._PACKAGES and then != "–"]
    notes = [f"for the packages of then: pip install {' '.join(pins)}"] if pins else []
    if not before:
        notes.append("what the original ran on is not known: MLflow has no environment.json of it")
    return Reproduction(
        original=original,
        again=again,
        metric=metric,
        tolerance=tolerance,
        same_data=again.dataset_digest == original.dataset_digest,
        environment=changed if before else {},
        notes=tuple(notes),
    )
