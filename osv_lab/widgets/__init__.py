"""Notebook widgets: a form, a call and a result one can touch, each usable alone or beside the App.

    from osv_lab.widgets import ConfusionExplorer
    ConfusionExplorer(report, link=session)      # a click on a cell opens its objects in the App

They need the extra ``notebook``. Everything a page needs travels with the widget: no other host is asked for anything,
and no port is opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from osv_lab.widgets.annotation import AnnotationBoard
    from osv_lab.widgets.base import LabWidget
    from osv_lab.widgets.comparison import ComparisonExplorer
    from osv_lab.widgets.confusion import ConfusionExplorer
    from osv_lab.widgets.findings import HealthExplorer, SliceExplorer
    from osv_lab.widgets.link import AppLink
    from osv_lab.widgets.progress import cell_progress
    from osv_lab.widgets.thresholds import ThresholdExplorer
    from osv_lab.widgets.tracks import TrackInspector
    from osv_lab.widgets.training import TrainingBoard
    from osv_lab.widgets.versions import VersionBrowser

_MODULES = {
    "AnnotationBoard": "annotation",
    "AppLink": "link",
    "ComparisonExplorer": "comparison",
    "ConfusionExplorer": "confusion",
    "HealthExplorer": "findings",
    "LabWidget": "base",
    "SliceExplorer": "findings",
    "ThresholdExplorer": "thresholds",
    "TrackInspector": "tracks",
    "TrainingBoard": "training",
    "VersionBrowser": "versions",
    "cell_progress": "progress",
}

__all__ = [
    "AnnotationBoard",
    "AppLink",
    "ComparisonExplorer",
    "ConfusionExplorer",
    "HealthExplorer",
    "LabWidget",
    "SliceExplorer",
    "ThresholdExplorer",
    "TrackInspector",
    "TrainingBoard",
    "VersionBrowser",
    "cell_progress",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from osv_lab.core.errors import require_extra

    try:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name in {"IPython", "anywidget", "ipywidgets", "traitlets"}:
            raise require_extra(error.name, "notebook") from error
        raise


def __dir__() -> list[str]:
    return sorted(__all__)
