"""Which models a form offers."""

from __future__ import annotations

import time
from collections.abc import Mapping

from osv_lab.core.errors import OsvError
from osv_lab.core.settings import load_settings

SUFFIXES = (".onnx", ".xml", ".tflite", ".pt")
ARCHITECTURES = ("yolo11n", "yolo11s", "yolo11m", "yolov8n", "yolov8s")
MOST_FILES = 200
KEEP_S = 10.0
"""A form is built again at every keystroke; the registry is not asked that often."""

_kept: tuple[float, dict[str, str]] = (0.0, {})


def model_choices(*, anew: bool = False) -> Mapping[str, str]:
    """Registered models by reference, newest first, the best weights of training runs, and model files in the lab's
    folder of models; and how each is told of.

    Args:
        anew: Look now, whatever is kept.
    """
    global _kept
    if anew or time.monotonic() > _kept[0]:
        _kept = (time.monotonic() + KEEP_S, {**_registered(), **_trained(), **_files()})
    return _kept[1]


def _registered() -> dict[str, str]:
    from osv_lab.train.registry import list_models

    try:
        versions = sorted(list_models(), key=lambda one: one.created, reverse=True)
    except OsvError:
        return {}
    return {one.ref: f"{one.ref} (version {one.version}, {one.file})" for one in versions}


def _trained() -> dict[str, str]:
    from osv_lab.train.run import run_folders

    found = [(folder.best, state.name) for folder, state in reversed(run_folders()) if folder.best.is_file()]
    return {str(best): f"{name} (best weights)" for best, name in found[:MOST_FILES]}


def _files() -> dict[str, str]:
    settings = load_settings()
    folder = settings.models_dir
    found = sorted(path for suffix in SUFFIXES for path in folder.glob(f"**/*{suffix}")) if folder.is_dir() else []
    return {str(path): str(path.relative_to(settings.home)) for path in found[:MOST_FILES]}


def start_choices(task: str) -> Mapping[str, str]:
    """What a training may start from: small architectures for a task, weights of earlier runs, registered weights."""
    suffix = {"segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}.get(task, "")
    offered = {f"{name}{suffix}": f"{name}{suffix}" for name in ARCHITECTURES}
    offered |= {f"{name}{suffix}.yaml": f"{name}{suffix}, from scratch" for name in ARCHITECTURES[:2]}
    return {**offered, **_trained()}
