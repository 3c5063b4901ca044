"""The annotation loop with CVAT: what is sent, what comes back, and how the two are merged.

with AnnotationLoop("cells", "http://localhost:8080", ("ann", "secret")) as loop:
    loop.send(view, "first_batch", "predictions")
    loop.status("first_batch")
    loop.pull("first_batch")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from osv_lab.annotate.loop import AnnotationLoop, AnnotationRuns
    from osv_lab.annotate.pull import SyncReport
    from osv_lab.annotate.send import AnnotationTask
    from osv_lab.annotate.status import AnnotationStatus

__all__ = ["AnnotationLoop", "AnnotationRuns", "AnnotationStatus", "AnnotationTask", "SyncReport"]

_HOME = {
    "AnnotationLoop": "loop",
    "AnnotationRuns": "loop",
    "AnnotationStatus": "status",
    "AnnotationTask": "send",
    "SyncReport": "pull",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOME:
        return getattr(importlib.import_module(f"osv_lab.annotate.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
