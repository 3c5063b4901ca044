"""Train a model on a view: one call that can be stopped, killed and resumed without anything being doubled.

A run goes through stages, each of which can be done again from its start: write the data, open the MLflow run,
train epoch by epoch, then strip, validate and log. ``run.json`` in the run's folder says which are over.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import InterruptedJobError, OsvError, UnavailableError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.sidecars import sidecar_path, update_sidecar
from osv_lab.store.versions.load import load_version, version_of
from osv_lab.store.versions.model import DatasetVersion
from osv_lab.train import data, engine, tracking
from osv_lab.train.recipe import Recipe
from osv_lab.train.run import (
    RunFolder,
    RunState,
    Status,
    TrainingRun,
    find_run,
    latest_run,
    list_runs,
    new_state,
    run_folders,
)
from osv_lab.train.weights import starting_point

__all__ = ["TrainingRun", "find_run", "latest_run", "list_runs", "train"]


def train(
    view: Any,
    recipe: Recipe | None = None,
    *,
    dataset_version: str | None = None,
    gt_field: str = "ground_truth",
    resume: bool | str = False,
    run_name: str | None = None,
    experiment: str | None = None,
    progress: Progress = silent,
) -> TrainingRun:
    """Train a model and track the run in MLflow.

    Args:
        view: A ``fiftyone.Dataset`` or view of images whose splits are the tags ``train`` and ``val``, or a dataset
            version (``blood@v2``), which the run then records. Samples that nobody labelled are left out. May be
            ``None`` when ``resume`` names a run whose data is written.
        recipe: How to train. May be ``None`` when resuming.
        dataset_version: Freeze the data as the version of this name, or check that it is what that version has. See
            :func:`osv_lab.store.snapshot.freeze`.
        gt_field: The label field.
        resume: ``True`` goes on with the newest run of this dataset and experiment if it is unfinished, returns it if
            it is finished and nothing has changed, and starts one otherwise. A run's name or MLflow id goes on
            with that run.
        run_name: The run's name; made from the model and the time by default.
        experiment: MLflow's experiment; the dataset's name by default.
        progress: Told about images written and batches trained.

    Returns:
        The finished run.

    Raises:
        UsageError: the recipe, a field or a name cannot be used, or the run to resume has another recipe.
        InvalidDataError: nothing to train on, or the data has changed since the run to resume began.
        CheckFailedError: ``dataset_version`` is bound to other content.
        UnavailableError: weights, device, disk, memory or tracking store are missing.
        InterruptedJobError: Ctrl-C; the run can be resumed.
        OsvError: training diverged or failed; the message says where the log is.

    Example:
        >>> run = train(dataset, Recipe("best.pt", epochs=1, imgsz=32, device="cpu"))
        >>> sorted(run.metrics), run.weights.name
        (['mAP50', 'mAP50-95', 'precision', 'recall'], 'best.pt')
    """
    if isinstance(view, (str, DatasetVersion)):
        view = load_version(view, progress=progress)
    folder = _resumable(view, recipe, resume, run_name, experiment) if resume else None
    if folder is None:
        if view is None or recipe is None:
            raise UsageError("there is no run to resume", "no view or no recipe given", "give both to start a run")
        folder = _new(view, recipe, dataset_version, gt_field, run_name, experiment)
    with folder.lock():
        state = folder.read()
        return folder.report() if state.status == "finished" else _Job(folder, state, view, progress).run()


def _resumable(
    view: Any, recipe: Recipe | None, resume: bool | str, run_name: str | None, experiment: str | None
) -> RunFolder | None:
    """The run to go on with; ``None`` when a new one is to be started."""
    if isinstance(resume, str):
        folder, state = find_run(resume)
    else:
        if view is None:
            raise UsageError(
                "resume=True needs the view that the run is about", "None", "or name the run to resume"
            )
        dataset = data.dataset_name(view)
        runs = [
            (folder, state)
            for folder, state in run_folders()
            if (state.dataset, state.experiment) == (dataset, experiment or dataset)
            and run_name in {None, folder.path.name}
        ]
        if not runs:
            return None
        folder, state = runs[-1]
    changes = _changes(state, view, recipe)
    if state.status == "finished":
        return None if changes and resume is True else folder
    if changes:
        raise UsageError(
            f"the unfinished run '{folder.path.name}' was started otherwise",
            "; ".join(changes),
            "resume it with the same recipe and data (or with recipe=None), or start a new run without resume",
        )
    return folder


def _changes(state: RunState, view: Any, recipe: Recipe | None) -> list[str]:
    """What of recipe and data is not as it was when a run began."""
    changes = []
    if recipe is not None:
        now = recipe.to_dict()
        pairs = ((key, state.recipe.get(key), now.get(key)) for key in dict.fromkeys([*now, *state.recipe]))
        changes += [f"{key} {before!r} → {after!r}" for key, before, after in pairs if before != after]
    if view is not None:
        from osv_lab.store.snapshot import snapshot

        seen = snapshot(data.labelled(view, state.gt_field), [state.gt_field])
        if seen.digest != state.digest:
            changes.append(f"data {state.data['summary']} → {seen.summary()}")
    return changes


def _new(
    view: Any, recipe: Recipe, version: str | None, gt_field: str, run_name: str | None, experiment: str | None
) -> RunFolder:
    """A folder for a new run, after everything that could be wrong with recipe and data was looked at."""
    from osv_lab.store.snapshot import freeze, snapshot

    task = recipe.task or "detect"
    field = data.label_field(view, task, gt_field)
    _, notes = data.trainable(view, field)
    classes = data.class_names(view, field)
    if task == "classify":
        classes = sorted(classes)  # Ultralytics numbers a classifier's classes by their folders' names.
    dataset = data.dataset_name(view)
    seen = data.labelled(view, field)
    frozen = version_of(view)
    if frozen is not None and version not in (None, frozen.name):
        raise UsageError("the view is a version already", f"'{frozen.ref}'", "leave dataset_version out")
    content = freeze(seen, version, [field]) if version and frozen is None else snapshot(seen, [field])
    model, origin, note = starting_point(recipe.model)
    if origin != "scratch":
        engine.check_weights(Path(model), task)
    started = datetime.datetime.now()
    state = new_state(
        name="",
        dataset=dataset,
        version=frozen.name if frozen else version,
        experiment=experiment or dataset,
        recipe=recipe.to_dict(),
        digest=content.digest,
        data={
            **content.to_dict(),
            "summary": content.summary(),
            "version_digest": frozen.digest if frozen else content.digest if version else None,
        },
        gt_field=field,
        classes=classes,
        model=model,
        started_from=origin,
        notes=[*([note] if note else []), *notes],
    )
    return RunFolder.create(run_name or f"{Path(model).stem}-{started:%Y%m%d-%H%M%S}", state)


class _Job:
    """One sitting of a run: from wherever it is to its end."""

    def __init__(self, folder: RunFolder, state: RunState, view: Any, progress: Progress) -> None:
        self.folder = folder
        self.state = state
        self.view = view
        self.progress = progress
        self.recipe = Recipe.from_dict(state.recipe)
        self.task = self.recipe.task or "detect"
        self._began = time.monotonic()
        self._spent = state.seconds

    def run(self) -> TrainingRun:
        with self._accounted(), engine.quiet(self.folder.path / "train.log"):
            self._open_tracking()
            if not self.state.exported:
                self._write_data()
            if self.state.status != "trained":
                self._fit()
            self._finish()
        return self.folder.report()

    # -- stages ---------------------------------------------------------------------------------------------

    def _open_tracking(self) -> None:
        state = self.state
        name = f"{state.dataset}@{state.version}" if state.version else state.dataset
        tags = {
            "osv.dataset": name,
            "osv.run_folder": str(self.folder.path),
            "osv.started_from": state.started_from,
        }
        state.run_id = tracking.start_run(state.job, self.folder.path.name, state.experiment, tags)
        self._save(error="")
        tracking.log_parameters(
            state.run_id,
            {**state.recipe, "classes": ", ".join(state.classes), "dataset": name, "gt_field": state.gt_field},
        )
        source = {"dataset": state.dataset, "version": state.version, "samples": state.data["samples"]}
        profile = {key: state.data[key] for key in ("samples", "labels", "splits", "classes")}
        tracking.log_dataset(state.run_id, state.dataset, state.digest, json.dumps(source), json.dumps(profile))
        tracking.log_text(state.run_id, json.dumps(tracking.environment(), indent=2), "environment.json")
        tracking.log_text(state.run_id, json.dumps(state.recipe, indent=2), "recipe.json")
        tracking.log_text(state.run_id, "\n".join(state.classes) + "\n", "classes.txt")
        tracking.log_text(state.run_id, json.dumps(state.data, indent=2, ensure_ascii=False), "dataset.json")

    def _write_data(self) -> None:
        state = self.state
        if self.view is None:
            raise UsageError(
                "the run was stopped before its data was written, so it needs the view again",
                self.folder.path.name,
                "resume it with the view it was started with",
            )
        chosen, _ = data.trainable(self.view, state.gt_field)
        notes = data.write_data(
            chosen, self.folder.data, state.gt_field, state.classes, self.task, self.recipe.seed, self.progress
        )
        self._save(exported=True, notes=[*state.notes, *notes])

    def _fit(self) -> None:
        """Train from the newest whole checkpoint, or from the start where there is none."""
        settings = self._settings()
        for cache in self.folder.data.rglob("*.cache"):
            cache.unlink()  # Ultralytics' list of labels; a kill may have left half of one.
        found = engine.checkpoint(self.folder)
        done, best = (found[1], found[2]) if found else (0, None)
        self.folder.keep_results(done)
        self._save(status="training", epochs=done)
        self._log_history()
        stopped_early = best is not None and 0 < self.recipe.patience <= done - best
        if done < self.recipe.epochs and not stopped_early:
            if not found:
                shutil.rmtree(self.folder.checkpoints, ignore_errors=True)
                settings["model"] = self.state.model
            engine.make_trainer(self.folder, self.task, settings, found and found[0], self._callbacks()).train()
        self._save(status="trained")

    def _finish(self) -> None:
        """Strip, validate and log. Everything here can be done again."""
        folder, state = self.folder, self.state
        if not folder.best.exists():
            shutil.copyfile(folder.last, folder.best)
        for weights in (folder.best, folder.last):
            engine.strip(weights)
        folder.previous.unlink(missing_ok=True)
        self.progress("validate", 0, 1)
        metrics = engine.validate(folder, self.task, self._settings())
        engine.plot_history(folder)
        self.progress("validate", 1, 1)
        self._write_sidecars()
        self._save(metrics=metrics, epochs=max(state.epochs, len(folder.history())))
        self._log_history(strict=True)
        final = {"epoch": state.epochs, **{f"final/{name}": value for name, value in metrics.items()}}
        tracking.log_history(state.run_id, [final], int(time.time() * 1000))
        tracking.log_files(state.run_id, self._artifacts())
        tracking.set_tags(state.run_id, {"osv.epochs": str(state.epochs), "osv.notes": "\n".join(state.notes)})
        tracking.end_run(state.run_id, "FINISHED")
        self._save(status="finished")

    # -- helpers --------------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        recipe = self.recipe
        own = {
            name: getattr(recipe, name) for name in ("epochs", "imgsz", "batch", "seed", "optimizer", "patience")
        }
        if recipe.lr0 is not None:
            own["lr0"] = recipe.lr0
        device = engine.device(recipe.device)
        quiet = {"plots": False, "val": True, "save": True, "verbose": False, "workers": recipe.workers}
        if device == "cpu":
            quiet["amp"] = False
        return {**recipe.augmentation, **recipe.options, **own, **quiet, "task": self.task, "device": device}

    def _callbacks(self) -> dict[str, Callable[[Any], None]]:
        batches = 0

        def epoch_starts(_: Any) -> None:
            nonlocal batches
            batches = 0

        def batch_ends(trainer: Any) -> None:
            nonlocal batches
            batches += 1
            length = len(trainer.train_loader)
            self.progress("train", trainer.epoch * length + batches, self.recipe.epochs * length)

        def epoch_ends(trainer: Any) -> None:
            self._save(epochs=trainer.epoch + 1)
            self._log_history(newest=True)

        return {
            "on_train_epoch_start": epoch_starts,
            "on_train_batch_end": batch_ends,
            "on_fit_epoch_end": epoch_ends,
        }

    def _log_history(self, newest: bool = False, strict: bool = False) -> None:
        """Tell MLflow the epochs it does not know. While training, a store that is away is no reason to stop."""
        from mlflow.exceptions import MlflowException

        now_ms = int(time.time() * 1000)
        rows = self.folder.history()
        try:
            tracking.log_history(self.state.run_id, rows[-1:] if newest else rows, now_ms)
        except (MlflowException, OSError) as error:
            if strict:
                raise UnavailableError(
                    "the model is trained, but MLflow could not be told", error, "resume the run to try again"
                ) from error

    def _artifacts(self) -> dict[Path, str]:
        folder = self.folder
        files = {folder.best: "weights", folder.results: ""}
        files[sidecar_path(folder.best)] = "weights"
        files |= dict.fromkeys(sorted(folder.path.glob("*.png")), "curves")
        files |= dict.fromkeys(sorted(folder.validation.glob("*.png")), "curves")
        files |= dict.fromkeys(sorted(folder.validation.glob("*.jpg")), "validation")
        return {file: place for file, place in files.items() if file.is_file()}

    def _write_sidecars(self) -> None:
        state = self.state
        known = {
            "task": self.task,
            "class_names": state.classes,
            "imgsz": [self.recipe.imgsz, self.recipe.imgsz],
            "dataset": state.dataset,
            "dataset_version": state.version,
            "dataset_digest": state.digest,
            "run_id": state.run_id,
        }
        for weights in (self.folder.best, self.folder.last):
            update_sidecar(weights, {**known, "digest": file_digest(weights)})

    def _save(self, **changes: Any) -> None:
        for key, value in changes.items():
            setattr(self.state, key, value)
        self.state.seconds = self._spent + time.monotonic() - self._began
        self.folder.write(self.state)

    @contextlib.contextmanager
    def _accounted(self) -> Iterator[None]:
        """Leave the run in a state that says how it ended, and turn what went wrong into a clear error."""
        name = self.folder.path.name
        try:
            yield
        except KeyboardInterrupt as stop:
            self._ended("interrupted", "", "KILLED")
            raise InterruptedJobError(
                "training was stopped",
                f"run '{name}' after {self.state.epochs} of {self.recipe.epochs} epochs",
                f"go on with resume=True or resume='{name}'",
            ) from stop
        except OsvError as error:
            self._ended("failed", str(error), "FAILED")
            raise
        except Exception as error:
            clear = _explained(error, self.folder)
            self._ended("failed", str(clear), "FAILED")
            raise clear from error

    def _ended(self, status: Status, error: str, mlflow_status: str) -> None:
        # The disk or the tracking store may be what failed; what the user must hear is the first error.
        with contextlib.suppress(OSError):
            trained = self.state.status == "trained"
            self._save(status="trained" if trained else status, error=error)
        if self.state.run_id:
            with contextlib.suppress(Exception):
                tracking.end_run(self.state.run_id, mlflow_status)


def _explained(error: Exception, folder: RunFolder) -> OsvError:
    """What a library's error means to the user."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    again = f"then go on with resume='{folder.path.name}'"
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    if full or "disk is full" in str(error):
        free = shutil.disk_usage(folder.path).free
        return UnavailableError(
            "the disk is full", f"{free / 2**20:.0f} MiB free at {folder.path}", f"make room, {again}"
        )
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return UnavailableError("there is not enough memory to train", text, "use a smaller batch or imgsz")
    return OsvError(
        "training failed", f"{type(error).__name__}: {text}", f"see {folder.path / 'train.log'}; {again}"
    )
