"""Get data in, look at it as a whole, mend its labels, and choose from it."""

from __future__ import annotations

from typing import Any

from .health import Health
from .label_queue import LabelQueue
from .operators import AnnotateLabelErrors, FindLabelErrors, Ingest, Quality, Query, Select


def register(plugin: Any) -> None:
    for one in (Ingest, Quality, FindLabelErrors, AnnotateLabelErrors, Select, Query, Health, LabelQueue):
        plugin.register(one)
