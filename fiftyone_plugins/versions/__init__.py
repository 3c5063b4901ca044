"""Freeze a dataset, see what changed between two versions, and export one."""

from __future__ import annotations

from typing import Any

from .operators import CreateVersion, ExportVersion, ShowChanges
from .panel import Versions


def register(plugin: Any) -> None:
    for one in (CreateVersion, ShowChanges, ExportVersion, Versions):
        plugin.register(one)
