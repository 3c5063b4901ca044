"""Ultralytics, quiet and killable: its trainer with atomic checkpoints, and nothing of what it does on the side."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UnavailableError, UsageError
from osv_lab.core.files import atomic_path
from osv_lab.train.run import RunFolder, metric_name

_lock = threading.Lock()


@contextlib.contextmanager
def quiet(log: Path | None = None) -> Iterator[None]:
    """Ultralytics without its side effects, for the length of a block.

    No integration (MLflow, Weights & Biases, Comet, ClearML, DVC, Ray, TensorBoard, its own platform) is called,
    no usage event is counted, no font or check weight is fetched, nothing is printed, and checkpoints are read
    weights-only, so that a stranger's file cannot run code. One block at a time per process.

    Args:
        log: Where its messages go instead of the terminal.
    """
    _import()
    import ultralytics.utils
    from ultralytics.utils.events import events

    logger = ultralytics.utils.LOGGER
    handlers, level, propagate, counting = logger.handlers[:], logger.level, logger.propagate, events.enabled
    handler: logging.Handler = (
        logging.FileHandler(log, encoding="utf-8", delay=True) if log else logging.NullHandler()
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    with _lock, contextlib.ExitStack() as stack:
        for module, name, replacement in (
            ("ultralytics.utils.callbacks", "add_integration_callbacks", _nothing),
            ("ultralytics.data.utils", "check_font", _nothing),
            ("ultralytics.utils.plotting", "check_font", _nothing),
            ("ultralytics.engine.trainer", "check_amp", _amp_is_safe),
            ("ultralytics.nn.tasks", "SAFE_LOAD", True),
            ("ultralytics.utils", "VERBOSE", False),
        ):
            stack.enter_context(_replaced(module, name, replacement))
        logger.handlers, logger.propagate, events.enabled = [handler], False, False
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            handler.close()
            logger.handlers, logger.propagate, events.enabled = handlers, propagate, counting
            logger.setLevel(level)


def _import() -> None:
    """Import Ultralytics without the lines it prints when it has no settings file yet."""
    from osv_lab.detect.ultralytics import import_ultralytics

    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        import_ultralytics()
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def _replaced(module_name: str, name: str, replacement: Any) -> Iterator[None]:
    module = importlib.import_module(module_name)
    original = getattr(module, name)
    setattr(module, name, replacement)
    try:
        yield
    finally:
        setattr(module, name, original)


def _nothing(*_: Any, **__: Any) -> None:
    """Stands in for what Ultralytics would do on the side."""


def _amp_is_safe(model: Any) -> bool:
    """Whether mixed precision can be used; Ultralytics' own check downloads a model to try it on.

    The GPUs that cannot (GTX 16xx and its kin give NaN in half precision) are those of its list.
    """
    import re

    import torch

    device = next(model.parameters()).device
    if device.type != "cuda":
        return False
    broken = r"(nvidia|geforce|quadro|tesla).*?(1660|1650|1630|t400|t550|t600|t1000|t1200|t2000|k40m)"
    return re.search(broken, torch.cuda.get_device_name(device), re.IGNORECASE) is None


class _Resumable:
    """What this lab changes in Ultralytics' trainers; mixed in before one of them."""

    folder: RunFolder

    def save_model(self) -> bool:
        """Write checkpoints so that a kill at any moment leaves a whole one.

        ``best.pt`` first: were ``last.pt`` first, a kill between them would leave a ``last.pt`` that remembers a best
        score whose weights were never written.
        """
        me: Any = self
        last, best = me.last, me.best
        last.parent.mkdir(parents=True, exist_ok=True)
        me.last, me.best = last.with_name("last.new.pt"), best.with_name("best.new.pt")
        try:
            saved: bool = super().save_model()  # type: ignore[misc]
            if me.best.exists():
                _move(me.best, best)
            if last.exists():
                last.replace(self.folder.previous)
            _move(me.last, last)
        finally:
            me.last.unlink(missing_ok=True)
            me.best.unlink(missing_ok=True)
            me.last, me.best = last, best
        return saved

    def final_eval(self) -> None:
        """Nothing: the run strips and validates its weights itself, so that it can after a kill, too."""

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """As Ultralytics, but a model that was lost in its first epoch is an error instead of a useless run."""
        import torch

        me: Any = self
        lost = epoch == me.start_epoch and not all(torch.isfinite(p).all() for p in me.model.parameters())
        if lost:
            raise diverged(epoch + 1, me.args)
        try:
            recovered: bool = super()._handle_nan_recovery(epoch)  # type: ignore[misc]
        except RuntimeError as error:
            if "NaN" in str(error):
                raise diverged(epoch + 1, me.args) from error
            raise
        return recovered


def diverged(epoch: int, settings: Any) -> OsvError:
    """The error for a loss that became NaN or infinite."""
    return OsvError(
        "training diverged",
        f"weights or loss are not finite in epoch {epoch} (lr0={settings.lr0:g}, optimizer={settings.optimizer})",
        "use a smaller lr0, or optimizer='auto'; look for extreme boxes in the labels",
    )


def _move(source: Path, target: Path) -> None:
    """Take ``source``'s whole content to disk before it takes ``target``'s place."""
    import os

    with open(source, "rb") as file:
        os.fsync(file.fileno())
    source.replace(target)


def checkpoint(folder: RunFolder) -> tuple[Path, int, int | None] | None:
    """The newest whole checkpoint: its path, its epoch (from 1), and the best epoch so far; ``None`` if none is.

    A damaged ``last.pt`` falls back to the one before it.
    """
    from osv_lab.detect.ultralytics import load_checkpoint

    for path in (folder.last, folder.previous):
        with contextlib.suppress(InvalidDataError, NotFoundError):
            content = load_checkpoint(path)
            if content.get("optimizer") is not None and content.get("epoch", -1) >= 0:
                return path, int(content["epoch"]) + 1, (content.get("stopper") or {}).get("best_epoch")
    return None


def check_weights(weights: Path, task: str) -> None:
    """Make sure that a file can be started from, before a run is made for it.

    Raises:
        InvalidDataError: it is not a checkpoint, is damaged, or would run code of its own.
        UsageError: it is for another task.
    """
    from osv_lab.detect.ultralytics import load_network

    with quiet():
        network, _ = load_network(weights)
    found = getattr(network, "task", task)
    if found != task:
        raise UsageError(
            "the weights are for another task",
            f"{weights.name} is for '{found}', the recipe for '{task}'",
            f"set task='{found}'",
        )


def make_trainer(
    folder: RunFolder,
    task: str,
    settings: Mapping[str, Any],
    resume: Path | None,
    callbacks: Mapping[str, Callable[[Any], None]],
) -> Any:
    """A trainer of Ultralytics for a task, writing into a run's folder.

    Args:
        folder: The run.
        task: One of :data:`osv_lab.train.rules.TASKS`.
        settings: Ultralytics' settings.
        resume: The checkpoint to go on from, or ``None``.
        callbacks: Called with the trainer at Ultralytics' events.
    """
    from ultralytics.models import yolo
    from ultralytics.utils.callbacks import get_default_callbacks

    base = {
        "detect": yolo.detect.DetectionTrainer,
        "segment": yolo.segment.SegmentationTrainer,
        "pose": yolo.pose.PoseTrainer,
        "obb": yolo.obb.OBBTrainer,
        "classify": yolo.classify.ClassificationTrainer,
    }[task]
    overrides = {**settings, "save_dir": str(folder.path), "data": str(_data(folder, task)), "resume": False}
    if resume is not None:
        overrides |= {"model": str(resume), "resume": str(resume)}
    wanted = get_default_callbacks()
    for event, callback in callbacks.items():
        wanted[event].append(callback)
    trainer = type(f"Resumable{base.__name__}", (_Resumable, base), {"folder": folder})
    return trainer(overrides=overrides, _callbacks=wanted)


def _data(folder: RunFolder, task: str) -> Path:
    """What Ultralytics is given: its classifiers take a folder of folders, the others a file."""
    return folder.data if task == "classify" else folder.data_yaml


def strip(weights: Path) -> None:
    """Leave only what inference needs in a checkpoint, whole or not at all; again is no change.

    Raises:
        InvalidDataError: the file is not a checkpoint.
    """
    from ultralytics.utils.torch_utils import strip_optimizer

    with atomic_path(weights) as temporary:
        if not strip_optimizer(weights, str(temporary)):
            raise InvalidDataError("a checkpoint cannot be read", weights, "start the run again without resume")


def validate(folder: RunFolder, task: str, settings: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of a run's best weights on its validation split, with curves and a confusion matrix as pictures."""
    from ultralytics.models import yolo

    validator = {
        "detect": yolo.detect.DetectionValidator,
        "segment": yolo.segment.SegmentationValidator,
        "pose": yolo.pose.PoseValidator,
        "obb": yolo.obb.OBBValidator,
        "classify": yolo.classify.ClassificationValidator,
    }[task]
    kept = {
        key: settings[key]
        for key in ("imgsz", "batch", "device", "workers", "max_det", "single_cls")
        if key in settings
    }
    if kept["batch"] < 1:
        kept["batch"] = 16
    results = validator(
        save_dir=folder.validation,
        args={
            **kept,
            "task": task,
            "mode": "val",
            "model": str(folder.best),
            "data": str(_data(folder, task)),
            "rect": True,
            "plots": True,
        },
    )()
    found = {metric_name(key): float(value) for key, value in results.items() if key != "fitness"}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def plot_history(folder: RunFolder) -> None:
    """Draw losses and metrics by epoch into ``results.png``."""
    from ultralytics.utils.plotting import plot_results

    if folder.results.exists():
        plot_results(file=str(folder.results))


def device(wanted: str | None) -> str:
    """The device to train on, as Ultralytics takes it.

    Raises:
        UnavailableError: the one that was asked for is not there.
    """
    import torch

    if wanted is None:
        if torch.cuda.is_available():
            return "0"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    count = torch.cuda.device_count()
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UnavailableError("no such device", "mps", "use device='cpu'")
    if wanted.startswith("cuda"):
        index = wanted.partition(":")[2] or "0"
        if int(index) >= count:
            raise UnavailableError(
                "no such device", f"{wanted}, and {count} GPUs are there", "use device='cpu' or None"
            )
        return index
    return wanted
