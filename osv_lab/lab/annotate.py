"""Sending samples to people, and bringing their labels back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    from osv_lab.annotate import AnnotationLoop, AnnotationTask, AutolabelReport


class AnnotateStage(LabBase):
    """The CVAT loop."""

    def annotate(self, url: str | None = None, **options: Any) -> AnnotationLoop:
        """The annotation loop of the lab's dataset; options as for :class:`osv_lab.annotate.AnnotationLoop`.

        Without a server and credentials, those of the environment (``OSV_CVAT_URL``, ...) or of ``cvat.toml``. A view
        of any kind is sent in one call: a selection, the queue of label errors, what autolabel is unsure of.

        Example:
            >>> from osv_lab.curate.label_errors import find_label_errors
            >>> suspected = find_label_errors(lab.dataset, "predictions", limit=6).view()
            >>> with lab.annotate() as loop:
            ...     task = loop.send(suspected, "errors", "ground_truth")
            ...     print(loop.status().summary())
            ...     report = loop.pull("errors")              # merged; conflicts are kept, both versions
            ...     conflicts = loop.conflicts("errors")      # loop.resolve("errors", keep="theirs") settles them
            0 of 1 jobs completed; labels: 0 edited, 0 added, 0 removed
        """
        from osv_lab.annotate import AnnotationLoop

        return AnnotationLoop(self.dataset, url, progress=self.progress, **options)

    def autolabel(
        self,
        model: str | Path | None = None,
        field: str = "ground_truth",
        *,
        split: str | None = None,
        **options: Any,
    ) -> AutolabelReport:
        """Let a model, by default the deployed one, propose labels; people's labels stay as they are.

        Options as for :func:`osv_lab.annotate.autolabel.autolabel`: ``ontology``, ``thresholds``, ``trust``.
        """
        from osv_lab.annotate.autolabel import autolabel

        return autolabel(self.view(split), self.detector(model), field, progress=self.progress, **options)

    def send_samples_to_annotation(self, paths: Iterable[str | Path], **options: Any) -> AnnotationTask:
        """Send the samples of these media files to the CVAT server of the environment or of ``cvat.toml``."""
        with self.annotate() as loop:
            return loop.send_samples_to_annotation(paths, **options)
