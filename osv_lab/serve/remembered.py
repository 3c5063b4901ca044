"""Measurements of models, kept so that a model is measured once per machine and not at every start of a server.

They are files under ``scheduling`` in the lab's folder, one per ONNX file, options and machine. What cannot be read or
written is measured again; remove one to have its model measured anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osv_lab.core.cores import usable_cores
from osv_lab.core.digests import file_digest, value_digest
from osv_lab.core.files import write_atomic
from osv_lab.core.settings import load_settings


def recall(model: Path, options: Mapping[str, Any]) -> dict[str, float] | None:
    """Images per second by way, as :func:`remember` was told on this machine; ``None`` where it was not."""
    if model.suffix.lower() != ".onnx":
        return None  # an ensemble's file says nothing of its members
    try:
        rates = json.loads(_place(model, options).read_text("utf-8"))["images_per_s"]
        return {str(way): float(rate) for way, rate in rates.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def remember(model: Path, options: Mapping[str, Any], rates: Mapping[str, float]) -> None:
    """Keep what was measured, where the lab's folder can be written."""
    if model.suffix.lower() != ".onnx":
        return
    with contextlib.suppress(OSError):
        write_atomic(_place(model, options), json.dumps({"model": model.name, "images_per_s": dict(rates)}))


def _place(model: Path, options: Mapping[str, Any]) -> Path:
    """The file of one model, as it is loaded, on this machine.

    Raises:
        OSError: there is no such model file.
    """
    import onnxruntime

    measured = {
        "digest": file_digest(model),
        "options": {name: str(value) for name, value in options.items()},
        "machine": [platform.node(), os.uname().machine if hasattr(os, "uname") else "", usable_cores()],
        "runtime": [onnxruntime.__version__, *onnxruntime.get_available_providers()],
    }
    return load_settings().home / "scheduling" / f"{value_digest(measured)[:32]}.json"
