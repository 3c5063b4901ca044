"""Sending samples to people, and bringing their labels back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    from osv_lab.annotate import AnnotationLoop, AnnotationTask


class AnnotateStage(LabBase):
    """The CVAT loop."""

    def annotate(self, url: str | None = None, **options: Any) -> AnnotationLoop:
        """The annotation loop of the lab's dataset; options as for :class:`osv_lab.annotate.AnnotationLoop`.

        Without a server and credentials, those of the environment (``OSV_CVAT_URL``, ...) or of ``cvat.toml``.
        """
        from osv_lab.annotate import AnnotationLoop

        return AnnotationLoop(self.dataset, url, progress=self.progress, **options)

    def send_samples_to_annotation(self, paths: Iterable[str | Path], **options: Any) -> AnnotationTask:
        """Send the samples of these media files to the CVAT server of the environment or of ``cvat.toml``."""
        with self.annotate() as loop:
            return loop.send_samples_to_annotation(paths, **options)
