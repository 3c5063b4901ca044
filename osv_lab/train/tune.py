"""Tune a recipe: Optuna proposes, child processes train, and what they cost and bring is kept as they go.

The study is a journal in the lab's folder, written line by line, so that a killed tuning goes on where it was: a
trial under way is continued with its own settings, and its training run from its last checkpoint.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from osv_lab.core.digests import value_digest
from osv_lab.core.errors import InterruptedJobError, UsageError, nearest, require_extra
from osv_lab.core.files import write_atomic
from osv_lab.core.progress import Progress, silent
from osv_lab.core.settings import SEED, load_settings
from osv_lab.train.locks import exclusive
from osv_lab.train.recipe import Recipe
from osv_lab.train.tune_report import Trial, TuningReport

DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = {"accuracy": "maximize", "latency": "minimize"}
"""What can be tuned for: the validation split's main metric, and milliseconds per image of the exported model."""


def tune(
    view: Any,
    recipe: Recipe,
    space: Mapping[str, Any],
    n_trials: int = 20,
    objectives: Sequence[str] = ("accuracy", "latency"),
    *,
    name: str | None = None,
    gt_field: str = "ground_truth",
    experiment: str | None = None,
    seed: int = SEED,
    progress: Progress = silent,
) -> TuningReport:
    """Search recipe settings. The same call again goes on with a tuning that was stopped, or returns a finished one.

    A trial that diverges, runs out of memory, is killed or leaves a damaged checkpoint is reported as failed with the
    reason, and the next one starts.

    Args:
        view: A ``fiftyone.Dataset`` or view, or a dataset version (``blood@v2``).
        recipe: Where every trial starts from.
        space: What varies, by recipe setting: a list is a choice; ``(low, high)`` a range, of whole numbers where both
            are; ``{"low": 1e-4, "high": 1e-2, "log": True}`` a range on a logarithmic scale.
        n_trials: Trials in all, failed ones and those of earlier sittings included.
        objectives: Of :data:`DIRECTIONS`.
        name: The tuning's name; by default made from the data, the recipe and the space, so that the same call finds
            its own study.
        gt_field: The label field.
        experiment: MLflow's experiment; the dataset's name by default. Trials' runs are nested in one of the tuning's.
        seed: Where proposals start from.
        progress: Told of every trial.

    Raises:
        UsageError: a setting, range or objective that cannot be, or a name that was used for another tuning.
        UnavailableError: Optuna is not installed.
        InterruptedJobError: Ctrl-C; the same call goes on.

    Example:
        >>> recipe = Recipe("yolo11n", epochs=20)
        >>> report = tune("cells@v2", recipe, {"imgsz": [320, 640]}, 8)      # doctest: +SKIP
        >>> report.best.weights, report.plot()                               # doctest: +SKIP
    """
    _check(recipe, space, n_trials, objectives)
    return _Tuning(view, recipe, space, tuple(objectives), name, gt_field, experiment, seed).run(
        n_trials, progress
    )


class _Tuning:
    """One sitting of a tuning."""

    def __init__(
        self,
        view: Any,
        recipe: Recipe,
        space: Mapping[str, Any],
        objectives: tuple[str, ...],
        name: str | None,
        gt_field: str,
        experiment: str | None,
        seed: int,
    ) -> None:
        from osv_lab.store.snapshot import snapshot
        from osv_lab.store.versions.load import load_version, version_of
        from osv_lab.store.versions.model import DatasetVersion
        from osv_lab.train import data

        view = load_version(view) if isinstance(view, (str, DatasetVersion)) else view
        version = version_of(view)
        self.field = data.label_field(view, recipe.task or "detect", gt_field)
        self.dataset = version.ref if version else data.dataset_name(view)
        self.version = version.ref if version else ""
        self.recipe, self.space, self.objectives, self.seed = recipe, space, objectives, seed
        self.experiment = experiment or data.dataset_name(view)
        content = snapshot(data.labelled(view, self.field), [self.field]).digest
        about = [content, recipe.to_dict(), json.loads(json.dumps(dict(space))), list(objectives)]
        self.digest = value_digest(about)
        self.name = name or f"tune-{self.digest[:10]}"
        self.folder = load_settings().home / "tunings" / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ids = view.values("id")

    def run(self, n_trials: int, progress: Progress) -> TuningReport:
        busy = UsageError("this tuning is under way in another process", self.name, "wait for it, or stop it")
        with exclusive(self.folder / ".lock", otherwise=busy):
            study = self._study()
            parent = self._parent_run()
            write_atomic(self.folder / "samples.json", json.dumps(self.ids))
            try:
                self._search(study, parent, n_trials, progress)
            except KeyboardInterrupt as stop:
                raise InterruptedJobError(
                    "tuning was stopped", self.name, "make the same call again to go on"
                ) from stop
            report = self._report(study, parent)
            self._log(report)
        return report

    def _study(self) -> Any:
        try:
            import optuna
        except ImportError:
            raise require_extra("optuna", "train") from None
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(self.folder / "study.journal")))
        study = optuna.create_study(
            storage=storage,
            study_name=self.name,
            directions=[DIRECTIONS[one] for one in self.objectives],
            load_if_exists=True,
        )
        # After a resume the sampler must not draw the same numbers again.
        study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(study.trials))
        known = study.user_attrs.get("digest", self.digest)
        if known != self.digest:
            raise UsageError(
                "a tuning of this name exists with other data, recipe, space or objectives", self.name, "rename it"
            )
        study.set_user_attr("digest", self.digest)
        return study

    def _parent_run(self) -> str:
        from osv_lab.train import tracking

        tags = {"osv.dataset": self.dataset, "osv.kind": "tuning"}
        run_id = tracking.start_run(f"tune-{self.name}-{self.digest}", self.name, self.experiment, tags)
        tracking.log_parameters(run_id, {"space": json.dumps(dict(self.space)), **self.recipe.to_dict()})
        return run_id

    def _search(self, study: Any, parent: str, n_trials: int, progress: Progress) -> None:
        import optuna

        running = [one for one in study.trials if one.state == optuna.trial.TrialState.RUNNING]
        queue = [optuna.trial.Trial(study, one._trial_id) for one in running]
        done = sum(one.state.is_finished() for one in study.trials)
        progress("tune", done, n_trials)
        while queue or len(study.trials) < n_trials:
            trial = queue.pop(0) if queue else study.ask()
            # Asked again after a kill, a parameter that has its value keeps it.
            settings = {name: _suggest(trial, name, one) for name, one in self.space.items()}
            answer = self._try(trial.number, settings, parent)
            for key, value in answer.items():
                trial.set_user_attr(key, value)
            if "problem" in answer:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial.number, [answer[name] for name in self.objectives])
            done += 1
            progress("tune", done, n_trials)

    def _try(self, number: int, settings: Mapping[str, Any], parent: str) -> dict[str, Any]:
        """Run one trial in a child process; what went wrong is its answer."""
        try:
            recipe = Recipe.from_dict({**self.recipe.to_dict(), **settings})
        except UsageError as error:
            return {"problem": str(error)}
        order, answer = (self.folder / f"{number}.{kind}.json" for kind in ("order", "answer"))
        answer.unlink(missing_ok=True)
        content = {
            "recipe": recipe.to_dict(),
            "version": self.version,
            "dataset": self.dataset,
            "samples": str(self.folder / "samples.json"),
            "gt_field": self.field,
            "run_name": f"{self.name}-{number}",
            "experiment": self.experiment,
            "objectives": list(self.objectives),
            "parent": parent,
            "number": number,
            "answer": str(answer),
        }
        write_atomic(order, json.dumps(content))
        command = [sys.executable, "-m", "osv_lab.train.trial", str(order)]
        log = self.folder / f"{number}.log"
        with (
            open(log, "ab") as output,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output) as child,
        ):
            try:
                # Not communicate(), which would close the pipe: the child lives as long as it is open.
                code = child.wait()
            except KeyboardInterrupt:
                child.kill()
                raise
        try:
            found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        except (OSError, ValueError):
            return {"problem": _death(code, log)}
        return found

    def _report(self, study: Any, parent: str) -> TuningReport:
        nan = float("nan")
        trials = tuple(
            Trial(
                number=one.number,
                state={"COMPLETE": "complete", "FAIL": "failed"}.get(one.state.name, "unfinished"),
                settings=dict(one.params),
                accuracy=one.user_attrs.get("accuracy", nan),
                latency_ms=one.user_attrs.get("latency", nan),
                weights=one.user_attrs.get("weights", ""),
                run_id=one.user_attrs.get("run_id", ""),
                problem=one.user_attrs.get("problem", ""),
            )
            for one in study.trials
        )
        best = study.best_trials if any(one.state == "complete" for one in trials) else []
        order = sorted((one.number for one in best), key=lambda number: -trials[number].accuracy)
        return TuningReport(self.name, self.folder, self.dataset, self.objectives, trials, tuple(order), parent)

    def _log(self, report: TuningReport) -> None:
        from osv_lab.train import tracking

        tracking.log_text(report.run_id, json.dumps(report.to_dict(), indent=2), "tuning.json")
        if report.front:
            row = {"epoch": 0, "best/accuracy": report.best.accuracy, "best/trial": report.best.number}
            tracking.log_history(report.run_id, [row], 0)
        tracking.end_run(report.run_id, "FINISHED")


def _death(code: int, log: Path) -> str:
    """Why a child left no answer."""
    if code == -signal.SIGKILL:
        return "killed by the system, most likely out of memory: use a smaller batch or imgsz"
    if code < 0:
        return f"crashed with signal {-code} ({signal.Signals(-code).name}); see {log}"
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return f"ended with exit code {code}: {lines[-1] if lines else 'no message'}; see {log}"


def _suggest(trial: Any, name: str, one: Any) -> Any:
    if isinstance(one, list):
        return trial.suggest_categorical(name, one)
    low, high, log = _range(one)
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, float(low), float(high), log=log)


def _range(one: Any) -> tuple[float, float, bool]:
    if isinstance(one, Mapping):
        return one["low"], one["high"], bool(one.get("log", False))
    low, high = one
    return low, high, False


def _check(recipe: Recipe, space: Mapping[str, Any], n_trials: int, objectives: Sequence[str]) -> None:
    """Refuse what would fail in every trial."""
    if n_trials < 1:
        raise UsageError("n_trials must be at least 1", n_trials)
    if not objectives or len(set(objectives)) < len(objectives):
        raise UsageError("objectives must be different and at least one", list(objectives))
    for name in objectives:
        if name not in DIRECTIONS:
            raise UsageError("no such objective", repr(name), nearest(name, DIRECTIONS))
    if not space:
        raise UsageError("there is nothing to vary", "the space is empty", 'for example {"imgsz": [320, 640]}')
    for name, one in space.items():
        fix = "give a list of choices, (low, high), or {'low': ..., 'high': ..., 'log': True}"
        try:
            values = one if isinstance(one, list) else _range(one)[:2]
            sound = len(values) > 0 and (isinstance(one, list) or values[0] < values[1])
        except (TypeError, ValueError, KeyError):
            sound = False
        if not sound:
            raise UsageError(f"not a range for '{name}'", repr(one), fix)
        for value in values:
            Recipe.from_dict({**recipe.to_dict(), name: value})
