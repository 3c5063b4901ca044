"""From a server's spool into a dataset: captured images with the model, its answer and the reason, once.

A captured image leaves the spool only when the store has it: its file in the lab's media folder, its sample, its
predictions. A killed import is continued by the next, two at a time do not double anything, and what cannot be
imported is reported and stays where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InterruptedJobError, InvalidDataError, OsvError, UsageError
from osv_lab.core.files import write_atomic
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.detect.confidence import least, plain_confidence
from osv_lab.serve.spool import Captured, Spool
from osv_lab.store import bulk, bulk_read
from osv_lab.store.bulk import NewSample, Writer
from osv_lab.store.bulk_read import CAPTURE
from osv_lab.store.bulk_values import TAG, captured_at, declare_capture, set_captures
from osv_lab.store.convert.supervision import labels_from
from osv_lab.store.database import connect, database_errors
from osv_lab.store.ingest import load_or_make
from osv_lab.store.ingest_items import media_folder
from osv_lab.store.media import Media, probe_image
from osv_lab.store.records import ImageClass, Label, Problem

if TYPE_CHECKING:
    import fiftyone as fo

    from osv_lab.serve.observe import Observation

VIEW = "captured"
"""The saved view of captured samples that nobody has annotated yet, the newest first."""

FIELD = "served_predictions"
"""The label field for what the server answered."""

_BATCH = 64


@dataclass(frozen=True)
class CaptureList(Report):
    """What waits in a spool.

    Attributes:
        spool: The folder.
        items: What waits, the newest first.
        problems: One entry per item that cannot be read.
    """

    spool: str
    items: tuple[Captured, ...]
    problems: tuple[Problem, ...] = ()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per image, then one per item that cannot be read."""
        found = [
            {
                "captured": _time(item).strftime("%Y-%m-%d %H:%M:%S"),
                "rules": ", ".join(item.reasons),
                "why": next(iter(item.reasons.values())),
                "model": item.observation.model,
                "detections": len(item.observation.xyxy),
                "image": f"{item.digest[:12]}{item.suffix}",
            }
            for item in self.items
        ]
        return [*found, *({"image": one.file[:12], "why": one.what} for one in self.problems)]

    def summary(self) -> str:
        """The counts in one line."""
        rules = Counter(name for item in self.items for name in item.reasons)
        parts = ", ".join(f"{name} {count:,}" for name, count in rules.most_common())
        bad = f"; {len(self.problems):,} cannot be read" if self.problems else ""
        return f"{len(self.items):,} captured images in {self.spool}{f': {parts}' if parts else ''}{bad}"


@dataclass(frozen=True)
class CaptureReport(Report):
    """The result of :func:`import_captures`.

    Attributes:
        dataset: The dataset's name.
        spool: The folder.
        added: Images that became samples.
        updated: Images that the dataset had, which got their capture.
        known: Images whose capture the dataset had already, or a newer one.
        rules: Images imported now, by rule.
        view: The saved view that shows them.
        problems: One entry per item that stayed in the spool.
    """

    dataset: str
    spool: str
    added: int = 0
    updated: int = 0
    known: int = 0
    rules: Mapping[str, int] = field(default_factory=dict)
    view: str = VIEW
    problems: tuple[Problem, ...] = ()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per rule, then one per item that stayed."""
        found = [{"what": name, "images": count, "why": ""} for name, count in self.rules.items()]
        return [*found, *({"what": one.file, "images": None, "why": one.what} for one in self.problems)]

    def summary(self) -> str:
        """The counts in one line."""
        bad = f", {len(self.problems):,} stayed in the spool" if self.problems else ""
        return (
            f"{self.added + self.updated:,} captured images into '{self.dataset}' ({self.added:,} new, "
            f"{self.updated:,} it had), {self.known:,} known{bad}; look: osv app {self.dataset} --view {self.view}"
        )


def list_captures(spool: str | Path | None = None) -> CaptureList:
    """What waits in a spool; by default in the lab's.

    Raises:
        NotFoundError: there is no such folder.
    """
    folder = Spool(spool or load_settings().captures_dir)
    items, problems = [], []
    for digest in sorted(folder.names()):
        try:
            items.append(folder.describe(digest))
        except InvalidDataError as error:
            if folder.has(digest):
                problems.append(_problem(digest, error))
    items.sort(key=lambda item: item.captured_at, reverse=True)
    return CaptureList(str(folder.folder), tuple(items), tuple(problems))


def import_captures(
    spool: str | Path | None,
    dataset: str | fo.Dataset,
    *,
    field: str = FIELD,
    tags: Sequence[str] = (),
    progress: Progress = silent,
) -> CaptureReport:
    """Bring what waits in a spool into a dataset, and empty the spool of it.

    Each sample gets the tag ``captured``, the server's answer as labels, and ``capture`` with ``rules``, ``why``,
    ``at``, ``model``, ``digest``, ``dataset_version``, ``threshold``, ``brightness`` and ``score`` (the least sure
    detection's). An image that the dataset has is not doubled and keeps its labels. The saved view ``captured`` shows
    those without annotation.

    Args:
        spool: The folder; ``None`` for the lab's.
        dataset: A dataset or the name of one, which is made if need be.
        field: The label field for what the server answered. Of a classifier it holds the best class; of other models
            boxes, since the spool keeps no masks, keypoints or corners.
        tags: Further tags.
        progress: Told about images.

    Raises:
        NotFoundError: there is no such spool.
        UsageError: the dataset or field cannot take them.
        UnavailableError: the database cannot be used.
        InterruptedJobError: the user stopped it. Running it again continues.

    Example:
        >>> print(import_captures("captures", "cells").summary())
        12 captured images into 'cells' (12 new, 0 it had), 0 known; look: osv app cells --view captured
    """
    if isinstance(tags, str):
        raise UsageError("tags must be a list of names", repr(tags), f"give [{tags!r}]")
    folder = Spool(spool or load_settings().captures_dir)
    digests = sorted(folder.names())
    connect()
    run = _Import(folder, load_or_make(dataset), field, (TAG, *tags))
    try:
        with database_errors():
            for done, batch in enumerate(bulk_read.batches(digests, _BATCH)):
                progress("import", done * _BATCH, len(digests))
                run.take(batch)
            progress("import", len(digests), len(digests))
            return run.finish()
    except KeyboardInterrupt:
        done_now = f"{run.counts['added'] + run.counts['updated']:,} images were done"
        raise InterruptedJobError("import was stopped", done_now, "run the same again: it continues") from None


class _Import:
    """One import under way."""

    def __init__(self, spool: Spool, dataset: fo.Dataset, field: str, tags: Sequence[str]) -> None:
        if dataset.media_type == "video":
            raise UsageError(
                "captured images need a dataset of images", f"'{dataset.name}' holds videos", "take another"
            )
        if dataset.media_type is None:
            dataset.media_type = "image"
        declare_capture(dataset)
        self.counts: Counter[str] = Counter()
        self._spool, self._dataset, self._field, self._tags = spool, dataset, field, tags
        self._writer = Writer(dataset)
        self._rules: Counter[str] = Counter()
        self._problems: list[Problem] = []

    def take(self, digests: Sequence[str]) -> None:
        """Import some items: files, samples, labels, and only then out of the spool."""
        stored = bulk_read.find_by_digest(self._dataset, digests)
        items: dict[str, Captured] = {}
        new: list[NewSample] = []
        for digest, item, image in self._read(digests):
            try:
                path, media = self._kept(item, image, stored.get(digest))
            except (InvalidDataError, OSError) as error:
                self._problems.append(_problem(digest, error))
                continue
            items[digest] = item
            if digest not in stored:
                new.append(NewSample(str(path), digest, media.metadata, labelled=False))
            elif str(path) != stored[digest].filepath:
                bulk.set_filepath(self._dataset, stored[digest].id, str(path))
        added = {one.digest for one, id in zip(new, self._writer.insert(new), strict=True) if id is not None}
        ids = {digest: found.id for digest, found in bulk_read.find_by_digest(self._dataset, items).items()}
        have = captured_at(self._dataset, list(ids.values()))
        fresh = {digest: item for digest, item in items.items() if _is_newer(item, have.get(ids[digest]))}
        self._label({ids[digest]: item.observation for digest, item in fresh.items()})
        # What marks a sample as imported comes last.
        captures = {ids[digest]: _capture_document(item) for digest, item in fresh.items()}
        set_captures(self._dataset, captures, self._tags)
        for digest, item in items.items():
            self.counts["added" if digest in added else "updated" if digest in fresh else "known"] += 1
            self._spool.remove(item)
        self._rules.update(name for item in fresh.values() for name in item.reasons)

    def finish(self) -> CaptureReport:
        """Save the view, and report."""
        from fiftyone import ViewField

        self._writer.finish()
        waiting = self._dataset.match_tags(TAG).match(ViewField("labelled") != True)  # noqa: E712 - an expression
        self._dataset.save_view(
            VIEW,
            waiting.sort_by(f"{CAPTURE}.at", reverse=True),
            description="Captured by a server, not annotated yet",
            overwrite=True,
        )
        return CaptureReport(
            dataset=self._dataset.name,
            spool=str(self._spool.folder),
            added=self.counts["added"],
            updated=self.counts["updated"],
            known=self.counts["known"],
            rules=dict(self._rules.most_common()),
            problems=tuple(self._problems),
        )

    def _read(self, digests: Sequence[str]) -> Iterator[tuple[str, Captured, bytes]]:
        for digest in digests:
            try:
                yield digest, *self._spool.read(digest)
            except InvalidDataError as error:
                # Another import may have been faster.
                if self._spool.has(digest):
                    self._problems.append(_problem(digest, error))

    def _kept(self, item: Captured, image: bytes, stored: bulk_read.Stored | None) -> tuple[Path, Media]:
        """Where the image stays: where the dataset has it, else in the lab's media folder."""
        path = Path(stored.filepath) if stored is not None else None
        if path is None or not path.is_file():
            path = media_folder(self._dataset.name) / TAG / f"{item.digest}{item.suffix}"
            write_atomic(path, image)
        media = probe_image(path)
        seen = item.observation
        if (media.width, media.height) != (seen.width, seen.height):
            found = f"{seen.width} x {seen.height}, the image has {media.width} x {media.height}"
            raise InvalidDataError("what is known about it belongs to another image", found)
        return path, media

    def _label(self, observations: Mapping[str, Observation]) -> None:
        by_container: dict[str, dict[str, list[Label]]] = {}
        for sample_id, seen in observations.items():
            container = "Classification" if seen.task == "classify" else "Detections"
            by_container.setdefault(container, {})[sample_id] = _labels(seen)
        for container, labels in by_container.items():
            self._writer.set_labels(self._field, labels, container)


def _labels(seen: Observation) -> list[Label]:
    """What the server answered, relative to the image."""
    import supervision as sv

    if seen.task == "classify":
        # The most confident class comes first, and is the image's.
        return [ImageClass(seen.class_name[0], seen.confidence[0])] if seen.class_name else []
    ids = seen.class_id if len(seen.class_id) == len(seen.xyxy) else (0,) * len(seen.xyxy)
    detections = sv.Detections(
        xyxy=np.array(seen.xyxy, np.float32).reshape(-1, 4),
        confidence=np.array(seen.confidence, np.float64),
        class_id=np.array(ids, int),
        tracker_id=None if seen.tracker_id is None else np.array(seen.tracker_id, int),
        data={"class_name": np.array(seen.class_name, str)},
    )
    return labels_from(detections, (seen.width, seen.height), kind="box")


def _capture_document(item: Captured) -> dict[str, Any]:
    seen = item.observation
    return {
        "rules": list(item.reasons),
        "why": "; ".join(f"{name}: {why}" for name, why in item.reasons.items()),
        "at": _time(item),
        "model": seen.model,
        "digest": seen.digest,
        "dataset_version": seen.dataset_version,
        "threshold": least(seen.threshold),
        **({"thresholds": plain_confidence(seen.threshold)} if isinstance(seen.threshold, Mapping) else {}),
        "partial": bool(seen.partial),
        "brightness": float(seen.brightness),
        "score": min(seen.confidence, default=None),
    }


def _is_newer(item: Captured, stored: datetime | None) -> bool:
    return stored is None or _time(item) > stored


def _time(item: Captured) -> datetime:
    """To the millisecond, as the store keeps it."""
    at = datetime.fromtimestamp(item.captured_at, UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _problem(digest: str, error: OsvError | OSError) -> Problem:
    what = f"{error.what}: {error.found}" if isinstance(error, OsvError) else str(error)
    return Problem(digest, what, "", "file skipped")
