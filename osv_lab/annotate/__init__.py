"""The annotation loop with CVAT: what is sent, what comes back, and how the two are merged.

with AnnotationLoop("cells", "http://localhost:8080", ("ann", "secret")) as loop:
    loop.send(view, "first_batch", "predictions")
    loop.status("first_batch")
    loop.pull("first_batch")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from osv_lab.annotate.agreement import AgreementReport
    from osv_lab.annotate.autolabel_report import AutolabelReport
    from osv_lab.annotate.conflicts import ConflictReport
    from osv_lab.annotate.cvat_function import DetectorFunction
    from osv_lab.annotate.listing import AnnotationRuns
    from osv_lab.annotate.loop import AnnotationLoop
    from osv_lab.annotate.predict_task import TaskPredictions
    from osv_lab.annotate.pull import SyncReport
    from osv_lab.annotate.send import AnnotationTask
    from osv_lab.annotate.status import AnnotationStatus
    from osv_lab.annotate.yields import YieldReport

__all__ = [
    "AgreementReport",
    "AnnotationLoop",
    "AnnotationRuns",
    "AnnotationStatus",
    "AnnotationTask",
    "AutolabelReport",
    "ConflictReport",
    "DetectorFunction",
    "SyncReport",
    "TaskPredictions",
    "YieldReport",
]

_HOME = {
    "AgreementReport": "agreement",
    "AutolabelReport": "autolabel_report",
    "ConflictReport": "conflicts",
    "DetectorFunction": "cvat_function",
    "TaskPredictions": "predict_task",
    "YieldReport": "yields",
    "AnnotationLoop": "loop",
    "AnnotationRuns": "listing",
    "AnnotationStatus": "status",
    "AnnotationTask": "send",
    "SyncReport": "pull",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOME:
        return getattr(importlib.import_module(f"osv_lab.annotate.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
