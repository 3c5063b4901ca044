"""What a tuning came to: its trials, and those that no other beats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.report import Report


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: From 0.
        state: ``complete``, ``failed`` or ``unfinished``.
        settings: The recipe settings that it tried.
        accuracy: The validation split's main metric, 0 to 1; NaN where it failed.
        latency_ms: Median milliseconds per image of the exported model; NaN where not measured.
        weights: The trained weights, ``""`` where it failed.
        run_id: MLflow's id of the training run.
        problem: Why it failed.
    """

    number: int
    state: str
    settings: Mapping[str, Any]
    accuracy: float
    latency_ms: float
    weights: str
    run_id: str
    problem: str


@dataclass(frozen=True)
class TuningReport(Report):
    """A tuning: its trials, and those that no other beats in every objective.

    Attributes:
        name: The tuning's name.
        folder: Where its journal is.
        dataset: What was trained on.
        objectives: What it was tuned for.
        trials: In the order they were started.
        front: Numbers of the trials on the Pareto front, the most accurate first.
        run_id: MLflow's id of the run that the trials' runs are nested in.
    """

    name: str
    folder: Path
    dataset: str
    objectives: tuple[str, ...]
    trials: tuple[Trial, ...]
    front: tuple[int, ...]
    run_id: str

    @property
    def best(self) -> Trial:
        """The most accurate trial (the fastest, where accuracy is no objective).

        Raises:
            InvalidDataError: no trial was completed.
        """
        if not self.front:
            raise InvalidDataError(
                "no trial was completed", f"{len(self.trials)} trials failed", "see .to_frame()"
            )
        return self.trials[self.front[0]]

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per trial."""
        return [
            {
                "trial": one.number,
                "state": one.state,
                "on the front": one.number in self.front,
                "accuracy": one.accuracy,
                "latency (ms)": one.latency_ms,
                **one.settings,
                "weights": one.weights,
                "problem": one.problem,
            }
            for one in self.trials
        ]

    def summary(self) -> str:
        """How many trials, and the best."""
        failed = sum(one.state == "failed" for one in self.trials)
        text = f"{self.name}: {len(self.trials)} trials, {failed} failed, {len(self.front)} on the front"
        if not self.front:
            return text
        best = self.best
        settings = ", ".join(f"{key}={value}" for key, value in best.settings.items())
        return f"{text}; best: trial {best.number} ({settings}) with accuracy {best.accuracy:.3f}"

    def plot(self) -> Any:
        """Accuracy against latency as a Plotly figure, the front joined by a line."""
        import plotly.graph_objects as go

        done = [one for one in self.trials if one.state == "complete"]
        front = sorted((self.trials[number] for number in self.front), key=lambda one: one.latency_ms)
        figure = go.Figure()
        for name, trials, mode in (("trials", done, "markers"), ("Pareto front", front, "lines+markers")):
            figure.add_scatter(
                name=name,
                mode=mode,
                x=[one.latency_ms for one in trials],
                y=[one.accuracy for one in trials],
                text=[f"trial {one.number}<br>{dict(one.settings)}" for one in trials],
            )
        return figure.update_layout(xaxis_title="latency (ms per image)", yaxis_title="accuracy (0 to 1)")
