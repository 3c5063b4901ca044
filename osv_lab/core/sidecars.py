"""What is known about a model file, beside it: ``<file>.osv.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.files import write_atomic


def sidecar_path(model: str | Path) -> Path:
    """Where a model file's sidecar is."""
    path = Path(model)
    return path.with_name(f"{path.name}.osv.json")


def read_sidecar(model: str | Path) -> dict[str, Any]:
    """The sidecar's content; empty where there is none that can be read."""
    try:
        return _content(sidecar_path(model))
    except (OSError, ValueError):
        return {}


def update_sidecar(model: str | Path, values: Mapping[str, Any]) -> Path:
    """Set values in a model file's sidecar, keeping the others. Returns the sidecar's path.

    Raises:
        InvalidDataError: there is one that cannot be read; it stays as it is.
    """
    from osv_lab.core.report import plain

    path = sidecar_path(model)
    try:
        known = _content(path) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InvalidDataError(
            "the model's sidecar cannot be read", f"{path}: {error}", "mend or remove it"
        ) from None
    write_atomic(path, json.dumps({**known, **plain(values)}, indent=2, ensure_ascii=False))
    return path


def _content(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text("utf-8"))
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content
