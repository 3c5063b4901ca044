"""A tracking run over the clips of a view: detect or read, follow, write, clip by clip."""

from __future__ import annotations

import dataclasses
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.digests import value_digest
from osv_lab.core.errors import InvalidDataError, OsvError, UnavailableError, UsageError
from osv_lab.core.progress import Progress
from osv_lab.core.report import Report, plain
from osv_lab.detect.confidence import plain_confidence
from osv_lab.store.bulk import Writer
from osv_lab.store.bulk_tracks import is_made_by, replace_field
from osv_lab.store.clips import Clip, clips_of
from osv_lab.store.convert.tracks import frame_labels
from osv_lab.store.database import connect
from osv_lab.store.following import Followed, decoded, follow, stored
from osv_lab.store.records import Problem
from osv_lab.store.track_journal import check_replaceable, replacing
from osv_lab.track.refinement import refine as refined
from osv_lab.track.tracker import ObjectTracker
from osv_lab.track.tracks import Tracks

if TYPE_CHECKING:
    import fiftyone as fo

    from osv_lab.detect.detector import Detector

FRAME_RATE = 30.0
"""Frames per second of image sequences, unless told otherwise."""


@dataclass(frozen=True)
class TrackedClip:
    """What was tracked in one clip: frames, identities, boxes with one, and what the tracker chose and why."""

    name: str
    frames: int
    tracks: int
    boxes: int
    settings: str


@dataclass(frozen=True)
class TrackingReport(Report):
    """The result of :func:`track`.

    Attributes:
        dataset: The dataset's name.
        field: The field written, with ``frames.`` for videos.
        source: What the detections came from: a detector's reference, or a field.
        tracker: The tracker's name.
        made_by: The key stored with the tracks, the same for the same detector, tracker and settings.
        clips: What was tracked now.
        kept: How many clips had these tracks already.
        problems: What went wrong, one entry per clip.
        seconds: Wall time.
    """

    dataset: str
    field: str
    source: str
    tracker: str
    made_by: str
    clips: tuple[TrackedClip, ...] = ()
    kept: int = 0
    problems: tuple[Problem, ...] = ()
    seconds: float = dataclasses.field(default=0.0, compare=False)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per clip, then one per problem."""
        done = [
            {"clip": one.name, "frames": one.frames, "tracks": one.tracks, "boxes": one.boxes, "why": one.settings}
            for one in self.clips
        ]
        failed = [
            {"clip": one.file, "frames": None, "tracks": None, "boxes": None, "why": one.what}
            for one in self.problems
        ]
        return [*done, *failed]

    def summary(self) -> str:
        frames, tracks = sum(one.frames for one in self.clips), sum(one.tracks for one in self.clips)
        rate = f", {frames / self.seconds:.1f} frames per second" if self.seconds and frames else ""
        kept = f", {self.kept} had theirs already" if self.kept else ""
        problems = f", {len(self.problems)} problems" if self.problems else ""
        return (
            f"{len(self.clips)} clips tracked into '{self.field}' of '{self.dataset}' "
            f"({frames:,} frames, {tracks:,} tracks{rate}){kept}{problems}"
        )

    def view(self) -> Any:
        """The dataset, to look at the tracks in the App."""
        return connect().load_dataset(self.dataset).view()


class TrackingRun:
    """One call of :func:`track` under way."""

    def __init__(
        self,
        view: fo.SampleCollection,
        detector: Detector | None,
        options: Mapping[str, Any],
        field: str,
        progress: Progress,
    ) -> None:
        self.view = view
        self.dataset = view._dataset
        self.detector = detector
        self.options = options
        self.field = field
        self.progress = progress
        self.from_field: str | None = None
        self.settings: Mapping[str, Any] = {}
        self.done: list[TrackedClip] = []
        self.problems: list[Problem] = []
        self.kept = 0
        self._frames = 0
        self._writer = Writer(self.dataset)
        self._start = time.perf_counter()

    def all(self, overwrite: bool) -> TrackingReport:
        """Track every clip, note in the dataset how, and report."""
        if self.field == self.from_field:
            raise UsageError("tracks cannot replace the detections they come from", repr(self.field))
        clips = clips_of(self.view)
        about = self._about()
        made_by = value_digest(about)[:16]
        todo = []
        for clip in clips:
            # Detections in the store may have changed, and tracking them takes little.
            if not overwrite and self.detector is not None and is_made_by(self.dataset, clip, self.field, made_by):
                self.kept += 1
                continue
            if not overwrite:
                check_replaceable(self.dataset, clip, self.field)
            todo.append(clip)
        lengths = [clip.frames for clip in todo]
        total = None if None in lengths else sum(length or 0 for length in lengths)
        for clip in todo:
            try:
                self.one(clip, made_by, total, overwrite)
            except UnavailableError:
                raise
            except (OsvError, OSError) as error:
                self.problems.append(Problem(clip.name, str(error), "", "file skipped"))
        prefix = "frames." if self.view.media_type == "video" else ""
        made = dict(self.dataset.info.get("tracks", {}))
        made[prefix + self.field] = {**made.get(prefix + self.field, {}), made_by: about}
        self.dataset.info["tracks"] = made
        self.dataset.save()
        self._writer.finish()
        return TrackingReport(
            dataset=str(self.dataset.name),
            field=prefix + self.field,
            source=self.detector.ref if self.detector else prefix + str(self.from_field),
            tracker=str(self.options.get("algorithm", "botsort")),
            made_by=made_by,
            clips=tuple(self.done),
            kept=self.kept,
            problems=tuple(self.problems),
            seconds=time.perf_counter() - self._start,
        )

    def _about(self) -> dict[str, Any]:
        """What makes the tracks, as plain values."""
        detector = plain(self.detector.describe()) if self.detector else {"field": self.from_field}
        # Without a digest two detectors cannot be told apart, and what one did must not pass for the other's.
        unique = {} if self.detector is None or detector.get("digest") else {"run": uuid.uuid4().hex}
        settings = {name: plain(value) for name, value in self.settings.items() if name != "batch_size"}
        settings["confidence"] = plain_confidence(self.settings["confidence"])
        return {"detector": detector, "tracker": plain(self.options), **settings, **unique}

    def one(self, clip: Clip, made_by: str, total: int | None, overwrite: bool) -> None:
        """Track one clip and write it."""
        rate = self.settings["frame_rate"] or clip.frame_rate or FRAME_RATE
        refine = self.settings["refine"]
        options = {"frame_rate": rate, **self.options, "keep_untracked": bool(refine)}
        tracker = ObjectTracker(options)
        frames = decoded(clip) if self.detector or tracker.embedder else None
        if self.detector is not None:
            assert frames is not None
            source: Iterable[Any] = self._detected(clip, frames)
        else:
            source = stored(self.view, clip, str(self.from_field), self.settings, frames)

        def tell(frame: int) -> None:
            self._frames += 1
            self.progress("track", self._frames, total)

        followed = follow(tracker, source, tell)
        if not followed.frames:
            raise InvalidDataError("no frame can be read", clip.name)
        self._complain(clip, followed)
        tracks = followed.tracks
        if refine:
            changes = refine if isinstance(refine, Mapping) else {}
            tracks = refined(tracks, followed.untracked, **{"frame_rate": rate, **changes})
        names = voted(tracks, followed.classes)
        length = max(clip.samples) if not clip.video else followed.frames
        # Tracking takes long, and someone may have edited meanwhile.
        with replacing(self.dataset, clip, self.field, overwrite=overwrite):
            replace_field(
                self._writer,
                self.dataset,
                clip,
                self.field,
                frame_labels(tracks, followed.size or clip.size(), names, length, followed.classes),
                [(name, identity) for identity, name in names.items()],
                made_by,
            )
        self.done.append(
            TrackedClip(clip.name, followed.frames, len(names), len(tracks), followed.explained or "")
        )

    def _complain(self, clip: Clip, followed: Followed) -> None:
        stated = clip.frames
        if clip.video and stated and followed.frames < stated and self.detector is not None:
            what = f"it ends early: {followed.frames} of {stated} frames could be read"
            self.problems.append(Problem(clip.name, what, "", "label kept"))
        if followed.failed:
            numbers = ", ".join(map(str, list(followed.failed)[:5]))
            why = next(iter(followed.failed.values()))
            what = f"{len(followed.failed)} frames without detections ({numbers}): {why}"
            self.problems.append(Problem(clip.name, what, "", "label kept"))

    def _detected(self, clip: Clip, frames: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any, Any]]:
        """Every frame with its detections (or why there are none) and its image."""
        while batch := list(itertools.islice(frames, self.settings["batch_size"])):
            readable = [image for _, image in batch if not isinstance(image, OsvError)]
            found = iter(self._infer(readable))
            answers = [image if isinstance(image, OsvError) else next(found) for _, image in batch]
            nothing = not self._frames and not self.done
            if nothing and readable and all(isinstance(answer, OsvError) for answer in answers):
                raise UnavailableError(
                    "the detector fails on every image", answers[0].found, "try it on one image"
                )
            for (number, image), answer in zip(batch, answers, strict=True):
                yield number, answer, image

    def _infer(self, images: list[Any]) -> list[Any]:
        assert self.detector is not None
        if not images:
            return []
        try:
            found = self.detector.predict(
                images, confidence=self.settings["confidence"], classes=self.settings["classes"]
            )
        except (RuntimeError, ValueError, MemoryError, OsvError) as error:
            if len(images) == 1:
                return [InvalidDataError("the detector failed", error)]
            # One image that a detector cannot take must not cost its batch.
            return [one for image in images for one in self._infer([image])]
        names = dict(enumerate(self.detector.class_names))
        for one in found:
            one.data.setdefault("class_name", np.array([names.get(i, f"class_{i}") for i in _ids(one)], dtype=str))
        return list(found)


def _ids(detections: Any) -> list[int]:
    return [0] * len(detections) if detections.class_id is None else detections.class_id.tolist()


def voted(tracks: Tracks, classes: Mapping[int, str]) -> dict[int, str]:
    """The class name of each identity: the class with the greatest sum of confidence over the whole track."""
    votes: dict[int, Counter[int]] = {}
    for identity, class_id, confidence in zip(
        tracks.track_id.tolist(), tracks.class_id.tolist(), tracks.confidence.tolist(), strict=True
    ):
        votes.setdefault(identity, Counter())[class_id] += confidence
    return {identity: classes[some.most_common(1)[0][0]] for identity, some in sorted(votes.items())}
