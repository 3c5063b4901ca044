"""OpenSupervision Lab: curate in FiftyOne, train from notebooks, look at errors and tracks, serve what you picked.

>>> import osv_lab as osv
>>> lab = osv.Lab("my_project")
>>> report = lab.upload_data("./images", "my_project")
>>> run = lab.train("yolov8n", dataset_version="v1")               # doctest: +SKIP
>>> deployment = lab.deploy("best.pt")
>>> lab.server.run_server(port=8000)                               # doctest: +SKIP

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from osv_lab.core.privacy import silence

TYPE_CHECKING = False  # typing's own takes longer to import than everything else here
if TYPE_CHECKING:
    from typing import Any

    from osv_lab.core.errors import OsvError
    from osv_lab.lab import Lab

__version__ = "0.1.0"

silence()

_PUBLIC = {
    "Lab": "osv_lab.lab",
    "OsvError": "osv_lab.core.errors",
}

__all__ = ["Lab", "OsvError", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'osv_lab' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
