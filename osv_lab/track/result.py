"""What tracking a video gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.core.report import Report
from osv_lab.track.source import VideoEvent
from osv_lab.track.spool import BOX, Rows, chunks
from osv_lab.track.suspicion import Suspicion, suspicious_events
from osv_lab.track.tracks import Tracks
from osv_lab.track.zones import ZoneEvent


@dataclass(frozen=True)
class Identity:
    """One track.

    Attributes:
        track_id: From 1.
        class_id: The class with the highest sum of confidences.
        class_name: Its name.
        first_frame, last_frame: Where it is seen.
        length: In how many frames it is seen.
        confidence: Mean confidence of its boxes.
    """

    track_id: int
    class_id: int
    class_name: str
    first_frame: int
    last_frame: int
    length: int
    confidence: float


@dataclass(frozen=True, eq=False)
class TrackResult(Report):
    """The tracks of a video.

    Attributes:
        source: The video.
        model: The detector's reference.
        tracker: The tracker and its thresholds, in one line.
        frame_rate: Frames per second of the source.
        size: (width, height) of its frames.
        frames: How many frames were looked at.
        identities: The tracks, by identity.
        seconds: How long this run took.
        files: What was written, by format.
        codec: Of the written video, ``""`` without one.
        resumed_at: The frame at which an earlier run was taken up, 0 when there was none.
        events: What happened to the source.
        zone_events: Lines crossed, zones entered and left, by frame.
    """

    source: str
    model: str
    tracker: str
    frame_rate: float
    size: tuple[int, int]
    frames: int
    identities: tuple[Identity, ...]
    seconds: float
    files: Mapping[str, Path] = field(default_factory=dict)
    codec: str = ""
    resumed_at: int = 0
    events: tuple[VideoEvent, ...] = ()
    zones: tuple[str, ...] = ()
    zone_events: tuple[ZoneEvent, ...] = ()
    class_names: tuple[str, ...] = field(default=(), repr=False)
    boxes: Rows = field(default_factory=lambda: np.empty(0, BOX), repr=False)

    @property
    def tracks(self) -> Tracks:
        """All boxes, each with its track's class."""
        return track_rows(self.boxes, self._class_of())

    def suspicious(self, *, least_length: int = 5) -> list[Suspicion]:
        """Where tracks probably went wrong (:func:`osv_lab.track.suspicion.suspicious_events`)."""
        return suspicious_events(track_rows(self.boxes), least_length=least_length)

    def counts(self) -> dict[str, dict[str, Any]]:
        """Per line and zone: how many of what happened, the same by class, and of zones the mean dwell time.

        Example of one entry: ``{"in": 2, "out": 1, "classes": {"car": {"in": 2, "out": 1}}}``.
        """
        return zone_counts(self.zones, self.zone_events, self.class_names)

    def rows(self) -> list[dict[str, Any]]:
        """One row per track."""
        return [
            {
                "id": item.track_id,
                "class": item.class_name,
                "first": item.first_frame,
                "last": item.last_frame,
                "length": item.length,
                "seconds": (item.last_frame - item.first_frame + 1) / self.frame_rate,
                "confidence": item.confidence,
            }
            for item in self.identities
        ]

    def summary(self) -> str:
        """Frames, tracks, counts, files, and what went wrong."""
        pace = (
            f" ({self.frames / self.seconds:.1f} per second)" if self.seconds > 0 and not self.resumed_at else ""
        )
        said = [f"{len(self.identities)} tracks in {self.frames} frames of {self.source}{pace}"]
        for name, count in self.counts().items():
            numbers = ", ".join(f"{value} {what}" for what, value in count.items() if what != "classes")
            said.append(f"{name}: {numbers}")
        said += [f"{event.kind} at frame {event.frame}: {event.detail}" for event in self.events[:5]]
        if len(self.events) > 5:
            said.append(f"{len(self.events) - 5} more events")
        if self.files:
            written = ", ".join(
                f"{path} ({self.codec})" if kind == "video" else str(path) for kind, path in self.files.items()
            )
            said.append(f"wrote {written}")
        return "; ".join(said)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, with the counts; the boxes are in the files."""
        return {**super().to_dict(), "counts": self.counts()}

    def _class_of(self) -> dict[int, int]:
        return {item.track_id: item.class_id for item in self.identities}


def track_rows(rows: Rows, class_of: Mapping[int, int] | None = None) -> Tracks:
    """Rows of :data:`osv_lab.track.spool.BOX` as tracks, with the track's class instead of the detection's."""
    rows = np.asarray(rows)
    classes = rows["class_id"] if class_of is None else track_classes(rows["track_id"], class_of)
    return Tracks(rows["frame"], rows["track_id"], rows["xyxy"], rows["confidence"], classes)


def track_classes(track_id: npt.NDArray[Any], class_of: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """(n,) the class of each identity."""
    unique, index = np.unique(track_id, return_inverse=True)
    return np.array([class_of[k] for k in unique.tolist()], dtype=np.int64)[index]


def identities_of(rows: Rows, class_names: Sequence[str]) -> tuple[Identity, ...]:
    """The tracks in rows of :data:`osv_lab.track.spool.BOX`, read in parts."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    length: Counter[int] = Counter()
    votes: dict[int, Counter[int]] = {}
    for part in chunks(rows):
        pairs, index = np.unique(
            np.column_stack((part["track_id"], part["class_id"])), axis=0, return_inverse=True
        )
        weight = np.bincount(index.reshape(-1), weights=part["confidence"])
        for (identity, kind), vote in zip(pairs.tolist(), weight.tolist(), strict=True):
            votes.setdefault(identity, Counter())[kind] += vote
        ids, begin, count = np.unique(part["track_id"], return_index=True, return_counts=True)
        end = len(part) - 1 - np.unique(part["track_id"][::-1], return_index=True)[1]
        for identity, a, b, n in zip(ids.tolist(), begin.tolist(), end.tolist(), count.tolist(), strict=True):
            first.setdefault(identity, int(part["frame"][a]))
            last[identity] = int(part["frame"][b])
            length[identity] += n
    found = []
    for identity in sorted(votes):
        kind = max(votes[identity].items(), key=lambda item: (item[1], -item[0]))[0]
        name = class_names[kind] if 0 <= kind < len(class_names) else str(kind)
        mean = sum(votes[identity].values()) / length[identity]
        found.append(Identity(identity, kind, name, first[identity], last[identity], length[identity], mean))
    return tuple(found)


def zone_counts(
    zones: Sequence[str], events: Sequence[ZoneEvent], class_names: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """See :meth:`TrackResult.counts`. A zone of which nothing is known (no event) has no counts."""
    counts: dict[str, dict[str, Any]] = {name: {} for name in zones}
    for name in zones:
        own = [event for event in events if event.zone == name]
        whats = ("enter", "leave") if any(event.what in ("enter", "leave") for event in own) else ("in", "out")
        by_class: dict[str, dict[str, int]] = {}
        for event in own:
            known = 0 <= event.class_id < len(class_names)
            kind = class_names[event.class_id] if known else str(event.class_id)
            of_class = by_class.setdefault(kind, dict.fromkeys(whats, 0))
            of_class[event.what] += 1
        counts[name] = {what: sum(event.what == what for event in own) for what in whats}
        dwell = [event.dwell_s for event in own if event.dwell_s is not None]
        if dwell:
            counts[name]["mean_dwell_s"] = round(sum(dwell) / len(dwell), 2)
        counts[name]["classes"] = by_class
    return counts
