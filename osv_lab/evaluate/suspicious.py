"""Where tracks probably went wrong, without truth: events that the App lists, filters and plays as clips."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from osv_lab.core.errors import InvalidDataError, OsvError, UnavailableError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.evaluate.track_fields import (
    StoredEvent,
    begin_run,
    events_clips,
    events_view,
    write_events,
    write_scores,
)
from osv_lab.store.bulk_tracks import check_field
from osv_lab.store.clips import Clip, clips_of
from osv_lab.store.convert.tracks import LabelledTracks
from osv_lab.store.database import connect
from osv_lab.store.records import Problem
from osv_lab.store.tracks import labelled_tracks
from osv_lab.track.suspicion import suspicious_events
from osv_lab.track.tracks import Tracks


@dataclass(frozen=True)
class SuspiciousEvent:
    """One suspicious event.

    Attributes:
        clip: The video or sequence.
        kind: See :class:`osv_lab.track.suspicion.Suspicion`.
        first_frame, last_frame: Where it is.
        first_s, last_s: The same in seconds from the video's start; ``None`` where the frame rate is not known.
        tracks: The identities concerned.
        score: How sure, 0 to 1.
        reason: The evidence in words.
    """

    clip: str
    kind: str
    first_frame: int
    last_frame: int
    first_s: float | None
    last_s: float | None
    tracks: tuple[int, ...]
    score: float
    reason: str


@dataclass(frozen=True)
class SuspicionReport(Report):
    """Where tracks probably went wrong.

    Attributes:
        key: The name of the field with the events, and the prefix of the others.
        dataset: The dataset's name.
        field: The tracks looked at.
        samples: Ids of the samples (of a sequence of images: its first), the most suspicious first.
        tracks: How many tracks were looked at.
        events: The events, the surest first.
        notes: What else the user should know.
        problems: Clips that could not be looked at, and why.
        duration_s: Seconds spent.
    """

    key: str
    dataset: str
    field: str
    samples: tuple[str, ...] = dataclasses.field(repr=False)
    tracks: int
    events: tuple[SuspiciousEvent, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    duration_s: float = dataclasses.field(default=0.0, compare=False)

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per event, the surest first."""
        return [
            {
                "clip": one.clip,
                "kind": one.kind,
                "frames": f"{one.first_frame}-{one.last_frame}",
                "at": None if one.first_s is None else f"{one.first_s:.1f} s",
                "tracks": ", ".join(map(str, one.tracks)),
                "score": one.score,
                "reason": one.reason,
            }
            for one in self.events
        ]

    def highlights(self) -> list[Mapping[str, Any]]:
        return self.rows()[:20]

    def summary(self) -> str:
        kinds = Counter(one.kind for one in self.events)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing suspicious"
        return f"{self.key}: {told} in {self.tracks} tracks of '{self.field}' of '{self.dataset}'"

    def view(self, kind: str | None = None) -> Any:
        """The samples, the most suspicious first; with a kind, those with such events only, and only those events."""
        return events_view(connect().load_dataset(self.dataset), self.samples, f"{self.key}_events", kind)

    def clips(self, kind: str | None = None) -> Any:
        """A view with one clip per event (of one kind) of the videos."""
        return events_clips(connect().load_dataset(self.dataset), self.samples, f"{self.key}_events", kind)


def suspicious(
    view: Any,
    field: str = "frames.tracks",
    key: str = "suspicious",
    *,
    least_length: int = 5,
    progress: Progress = silent,
) -> SuspicionReport:
    """Find where tracks probably went wrong, without truth, and write it where the App shows it.

    Teleports, flicker, class flips, merges, swaps in an overlap and tracks that are too short; see
    :mod:`osv_lab.track.suspicion`. ``<key>_events`` holds them as ``TemporalDetections`` with their score as
    confidence, the identities and the reason (for sequences of images: ``Classifications`` of the image they end at);
    ``<key>_count`` and ``<key>_score`` (the sum of scores) of samples sort by them. A run of the same key is replaced.

    Args:
        view: Videos, or images with the fields ``sequence`` and ``frame_number``.
        field: The tracks, a field of ``Detections``.
        key: The name of what is written.
        least_length: Tracks of fewer boxes are suspicious.
        progress: Told about clips.

    Raises:
        NotFoundError: no such field.
        UsageError: a field of another kind, or a key that cannot be used.
        InvalidDataError: no tracks.

    Example:
        >>> report = suspicious(videos, "frames.tracks")
        >>> print(report.summary())
        suspicious: 2 teleport in 3 tracks of 'frames.tracks' of 'cars'
        >>> len(report.clips("teleport"))                    # a view to look at in the App
        2
    """
    started = time.monotonic()
    connect()
    if least_length < 1:
        raise UsageError("least_length must be at least 1", least_length)
    name = field.removeprefix("frames.")
    path = f"frames.{name}" if view.media_type == "video" else name
    check_field(view, path)
    clips, events, problems, tracks = [], [], [], 0
    todo = clips_of(view)
    progress("look for suspicious events", 0, len(todo))
    for number, clip in enumerate(todo, start=1):
        try:
            found = labelled_tracks(view, clip, name)
            events.append(_events(clip, found, least_length))
            clips.append(clip)
            tracks += len(set(found.tracks.track_id.tolist()))
        except UnavailableError:
            raise
        except OsvError as error:
            problems.append(Problem(clip.name, str(error), "", "file skipped"))
        progress("look for suspicious events", number, len(todo))
    if not tracks:
        why = f"{problems[0].file}: {problems[0].what}" if problems else f"'{path}' has no labels with an index"
        raise InvalidDataError("there are no tracks to look at", why, "track first")
    own = [f"{key}_{end}" for end in ("events", "count", "score")]
    begin_run(view, key, own, {}, {"field": path, "least_length": least_length})
    dataset = view._dataset
    score = [float(sum(event.score for event in some)) for some in events]
    numbers = [{own[1]: len(some), own[2]: total} for some, total in zip(events, score, strict=True)]
    write_scores(dataset, clips, numbers)
    notes = write_events(dataset, own[0], clips, [[_stored(event) for event in some] for some in events])
    dataset.reload()
    order = sorted(range(len(clips)), key=lambda k: -score[k])
    return SuspicionReport(
        key=key,
        dataset=str(dataset.name),
        field=path,
        samples=tuple(clips[k].sample_id for k in order),
        tracks=tracks,
        events=tuple(sorted((event for some in events for event in some), key=lambda event: -event.score)),
        notes=tuple(notes),
        problems=tuple(problems),
        duration_s=time.monotonic() - started,
    )


def _events(clip: Clip, found: LabelledTracks, least_length: int) -> list[SuspiciousEvent]:
    as_detected = Tracks(
        found.tracks.frame,
        found.tracks.track_id,
        found.tracks.xyxy,
        found.tracks.confidence,
        found.detected,
    )
    rate = clip.frame_rate
    return [
        SuspiciousEvent(
            clip.name,
            event.kind,
            event.first_frame,
            event.last_frame,
            (event.first_frame - 1) / rate if rate else None,
            (event.last_frame - 1) / rate if rate else None,
            tuple(found.named(identity)[0] or 0 for identity in event.track_ids),
            event.score,
            _named(event.reason, found.classes) if event.kind == "class_flip" else event.reason,
        )
        for event in suspicious_events(as_detected, least_length=least_length)
    ]


def _named(reason: str, classes: tuple[str, ...]) -> str:
    """The reason of a class flip with class names for numbers."""
    head, sep, numbers = reason.partition("classes ")
    return head + sep + ", ".join(classes[int(number)] for number in numbers.split(", ")) if sep else reason


def _stored(event: SuspiciousEvent) -> StoredEvent:
    told = {"tracks": ", ".join(map(str, event.tracks)), "reason": event.reason}
    return StoredEvent(event.kind, event.first_frame, event.last_frame, event.score, told)
