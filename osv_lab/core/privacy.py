"""No telemetry: what each library needs to be told before it is imported."""

from __future__ import annotations

import os

_OFF = {
    "DO_NOT_TRACK": "1",
    "FIFTYONE_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    # Ultralytics otherwise opens a connection while it is being imported, only to learn whether it could.
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
}


def silence() -> None:
    """Turn every telemetry switch off that the user has not set themselves. Costs microseconds."""
    for name, value in _OFF.items():
        os.environ.setdefault(name, value)


def turned_on() -> list[str]:
    """Switches that the user has set otherwise, as ``NAME=value``."""
    return [
        f"{name}={os.environ[name]}"
        for name, off in _OFF.items()
        if name in os.environ and _truth(os.environ[name]) != _truth(off)
    ]


def _truth(value: str) -> bool:
    return value.strip().lower() in {"1", "true", "yes", "on"}
