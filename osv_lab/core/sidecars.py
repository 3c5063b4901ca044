"""What is known about a model file, beside it: ``<file>.osv.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osv_lab.core.files import write_atomic


def sidecar_path(model: str | Path) -> Path:
    """Where a model file's sidecar is."""
    path = Path(model)
    return path.with_name(f"{path.name}.osv.json")


def read_sidecar(model: str | Path) -> dict[str, Any]:
    """The sidecar's content; empty where there is none that can be read."""
    try:
        content = json.loads(sidecar_path(model).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def update_sidecar(model: str | Path, values: Mapping[str, Any]) -> Path:
    """Set values in a model file's sidecar, keeping the others. Returns the sidecar's path."""
    from osv_lab.core.report import plain

    path = sidecar_path(model)
    write_atomic(path, json.dumps({**read_sidecar(model), **plain(values)}, indent=2, ensure_ascii=False))
    return path
