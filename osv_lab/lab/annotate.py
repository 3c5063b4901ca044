"""Sending samples to people, and bringing their labels back."""

from __future__ import annotations

from typing import Any

from osv_lab.core.errors import UnavailableError
from osv_lab.lab.base import LabBase


class AnnotateStage(LabBase):
    """The CVAT loop."""

    def annotate(self, *args: Any, **options: Any) -> Any:
        """Not here yet: the CVAT loop (send, status, pull) comes with the annotation room."""
        raise UnavailableError(
            "the annotation loop is not part of this version",
            "osv_lab.annotate (CVAT: send, status, pull, three-way merge) is the room that will hold it",
            "until then label elsewhere and bring labels in with lab.upload_data(..., on_duplicate='update')",
        )
