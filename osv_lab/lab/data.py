"""Getting data in, and what the curation room says of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    from osv_lab.curate.health import HealthReport
    from osv_lab.curate.label_errors import LabelErrorReport
    from osv_lab.curate.quality import QualityReport
    from osv_lab.curate.review import LabelReview
    from osv_lab.curate.select import SelectReport
    from osv_lab.store.captures import CaptureReport
    from osv_lab.store.erase import EraseReport
    from osv_lab.store.ingest_report import IngestReport


class DataStage(LabBase):
    """Ingest, look, clean, choose."""

    def upload_data(self, source: str | Path, dataset: str | None = None, **options: Any) -> IngestReport:
        """Ingest a folder, file or zip into a dataset, which becomes the lab's dataset.

        Args:
            source: A folder of images, with or without labels in any known format, a video, or a zip of these.
            dataset: The dataset's name; the lab's own name by default.
            options: As for :func:`osv_lab.store.ingest.ingest` (``format``, ``split``, ``tags``, ``on_duplicate``).
        """
        from osv_lab.store.ingest import ingest

        report = ingest(source, dataset or self.dataset_name, progress=self.progress, **options)
        self.dataset_name = dataset or self.dataset_name
        return report

    def erase(self, samples: Any = None, **options: Any) -> EraseReport:
        """Erase a view's samples and all that the lab has of their media; see :func:`osv_lab.store.erase.erase`."""
        from osv_lab.store.erase import erase

        return erase(samples, progress=self.progress, **options)

    def health(self, gt_field: str = "ground_truth", *, split: str | None = None) -> HealthReport:
        """Look at the labels as a whole: counts, balance, splits, boxes that cannot be."""
        from osv_lab.curate.health import health

        return health(self.view(split), gt_field)

    def quality(self, *, split: str | None = None, **options: Any) -> QualityReport:
        """Find broken, dark, blurred and odd images, duplicates, and leaks between splits."""
        from osv_lab.curate.quality import quality

        return quality(self.view(split), progress=self.progress, **options)

    def find_label_errors(
        self, pred_field: str = "predictions", *, split: str | None = None, **options: Any
    ) -> LabelErrorReport:
        """Rank the labels that are probably wrong; the App shows them as ``label_errors``."""
        from osv_lab.curate.label_errors import find_label_errors

        return find_label_errors(self.view(split), pred_field, progress=self.progress, **options)

    def review(self, key: str = "label_errors") -> LabelReview:
        """Walk through what :meth:`find_label_errors` suggested: accept, fix, skip, undo."""
        from osv_lab.curate.review import LabelReview

        return LabelReview(self.dataset, key)

    def select(self, n: int, strategy: str = "mix", *, split: str | None = None, **options: Any) -> SelectReport:
        """Pick the images most worth labelling: by uncertainty, diversity, class need, or their mix."""
        from osv_lab.curate.select import select

        return select(self.view(split), n, strategy, progress=self.progress, **options)

    def query(self, text: str, **options: Any) -> Any:
        """The samples that match ``"class:RBC>=10 conf<0.4 -tag:reviewed split:train"``, as a FiftyOne view."""
        from osv_lab.curate.query import query

        return query(self.dataset, text, **options)

    def import_captures(
        self, spool: str | Path | None = None, dataset: str | None = None, **options: Any
    ) -> CaptureReport:
        """Bring what a server captured (``capture="random=0.01,near=0.1"``) into the lab's dataset, once.

        The App shows it as the saved view ``captured``, with the server's answers in ``served_predictions``.
        """
        from osv_lab.store.captures import import_captures

        return import_captures(spool, dataset or self.dataset_name, progress=self.progress, **options)
