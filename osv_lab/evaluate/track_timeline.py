"""What a timeline of tracks shows: when each identity is seen, and what happened to it where.

    timeline = track_timeline(dataset.first(), "frames.tracks")
    timeline.lines[0].runs          # (r, 2): first and last frame of every stretch it is seen in
    timeline.of_kind("switch")      # where to look

Events come from the evaluations and searches that the dataset remembers (:func:`osv_lab.evaluate.evaluate_tracks`,
:func:`osv_lab.evaluate.suspicious`); gaps need none. No label is fetched: 300 tracks of a thousand frames take a
fraction of a second.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import NotFoundError, nearest
from osv_lab.core.report import Report
from osv_lab.evaluate.track_fields import TrackRun, track_runs
from osv_lab.store.bulk_tracks import check_field, read_indices
from osv_lab.store.clips import Clip
from osv_lab.store.database import database_errors
from osv_lab.store.track_journal import last_edited
from osv_lab.store.tracks import one_clip

if TYPE_CHECKING:
    import fiftyone as fo

GAP = "gap"
"""The kind of events that need no evaluation: an identity is not seen, and seen again later."""

_SCORES = ("HOTA", "IDF1", "MOTA", "IDSW")


@dataclass(frozen=True, eq=False)
class TrackLine:
    """One identity.

    Attributes:
        identity: Its ``index``.
        label: Its most frequent class.
        runs: (r, 2) int64: first and last frame of every stretch of frames it is seen in, in order.
        boxes: How many labels it has.
    """

    identity: int
    label: str
    runs: npt.NDArray[np.int64]
    boxes: int

    @property
    def first_frame(self) -> int:
        """The first frame it is seen in."""
        return int(self.runs[0, 0])

    @property
    def last_frame(self) -> int:
        """The last frame it is seen in."""
        return int(self.runs[-1, 1])


@dataclass(frozen=True)
class TimelineEvent:
    """One event.

    Attributes:
        id: The id of its ``TemporalDetection`` (of images: ``Classification``), which is also that of its clip in
            ``dataset.to_clips(f"{key}_events")``; ``""`` for a gap.
        key: The key of the evaluation or search that found it; ``""`` for a gap.
        kind: ``gap``, or see :class:`osv_lab.track.metrics.TrackEvent` and :class:`osv_lab.track.suspicion.Suspicion`.
        first_frame, last_frame: Where it is.
        tracks: The identities of this timeline that it concerns, the older one of a switch first.
        truth: The identity on the other side of an evaluation, if one is concerned.
        score: How sure a search is, 0 to 1.
        reason: The evidence in words.
    """

    id: str
    key: str
    kind: str
    first_frame: int
    last_frame: int
    tracks: tuple[int, ...]
    truth: int | None = None
    score: float | None = None
    reason: str = ""

    def words(self) -> str:
        """The event in one line."""
        who = " and ".join(map(str, self.tracks)) or (f"true {self.truth}" if self.truth is not None else "")
        where = f"frame {self.first_frame}" if self.first_frame == self.last_frame else ""
        where = where or f"frames {self.first_frame} to {self.last_frame}"
        why = f": {self.reason}" if self.reason else ""
        return f"{self.kind.replace('_', ' ')} of {who}, {where}{why}"


@dataclass(frozen=True)
class TrackTimeline(Report):
    """The tracks of one clip over time.

    Attributes:
        dataset: The dataset's name.
        sample: The id of the video, or of the first image of a sequence.
        clip: The video or sequence.
        field: The tracks.
        frames: How many frames the clip has.
        frame_rate: Frames per second, if known.
        lines: The identities, in the order in which they appear.
        events: What happened, in the order of frames.
        keys: The evaluations and searches that the events come from, the newest first.
        stale: Those of them that are older than the last edit of the tracks: run them again.
        scores: By key of an evaluation, the clip's ``HOTA``, ``IDF1``, ``MOTA`` and ``IDSW``.
    """

    dataset: str
    sample: str
    clip: str
    field: str
    frames: int
    frame_rate: float | None
    lines: tuple[TrackLine, ...] = dataclasses.field(default=(), compare=False)
    events: tuple[TimelineEvent, ...] = ()
    keys: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    scores: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def kinds(self) -> dict[str, int]:
        """How many events there are of each kind, the most frequent first."""
        return dict(Counter(event.kind for event in self.events).most_common())

    def of_kind(self, *kinds: str) -> tuple[TimelineEvent, ...]:
        """The events of some kinds."""
        return tuple(event for event in self.events if event.kind in kinds)

    def windows(self, kinds: Collection[str] | None = None, around: int = 25) -> dict[str, list[tuple[int, int]]]:
        """The stretches of frames that a person has to see to judge the events, as
        :meth:`osv_lab.annotate.AnnotationLoop.send` takes them.

        Args:
            kinds: Only events of these kinds; by default of all.
            around: Frames before and after each event.

        Returns:
            First and last frames, from 1, in order and apart from each other, by the video's sample id or the
            sequence's name.

        Raises:
            NotFoundError: there are no such events.

        Example:
            >>> windows = track_timeline(videos.first(), "frames.tracks").windows(["gap"], around=5)
            >>> list(windows.values())
            [[(5, 19)]]
        """
        from osv_lab.annotate.clips import united

        found = [event for event in self.events if kinds is None or event.kind in kinds]
        if not found:
            there = ", ".join(f"{count} {kind}" for kind, count in self.kinds().items()) or "no events at all"
            raise NotFoundError("there are no such events", f"{self.clip} has {there}")
        ranges = [(event.first_frame - around, event.last_frame + around) for event in found]
        where = self.sample if self.field.startswith("frames.") else self.clip
        return {where: united(ranges, self.frames)}

    def plot(self, kinds: Collection[str] | None = None, page: int = 0) -> Any:
        """The timeline as a plotly figure; see :func:`osv_lab.evaluate.track_timeline_plot.timeline_figure`."""
        from osv_lab.evaluate.track_timeline_plot import timeline_figure

        return timeline_figure(self, kinds, page)

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per identity."""
        counts = Counter(identity for event in self.events for identity in event.tracks)
        return [
            {
                "track": line.identity,
                "label": line.label,
                "frames": f"{line.first_frame}-{line.last_frame}",
                "boxes": line.boxes,
                "gaps": len(line.runs) - 1,
                "events": counts[line.identity],
            }
            for line in self.lines
        ]

    def summary(self) -> str:
        told = ", ".join(f"{count} {kind}" for kind, count in self.kinds().items()) or "no events"
        old = f"; {', '.join(self.stale)} older than the last edit" if self.stale else ""
        return f"{self.clip}: {len(self.lines)} tracks in {self.frames:,} frames of '{self.field}', {told}{old}"


def track_timeline(
    where: fo.SampleCollection | fo.Sample, field: str = "tracks", key: str | None = None
) -> TrackTimeline:
    """Everything that a timeline of a clip's tracks needs.

    Args:
        where: A video, or a view of one clip.
        field: A field of ``Detections`` with ``index``; for videos with or without ``frames.``.
        key: Only events of this evaluation or search; by default of all that looked at the field, and gaps.

    Raises:
        NotFoundError: no such field, or no run of that key that looked at it.
        UsageError: not one clip, or a field of another kind.

    Example:
        >>> timeline = track_timeline(videos.first(), "frames.tracks")
        >>> print(timeline.summary())
        cars: 3 tracks in 30 frames of 'frames.tracks', 1 gap
    """
    view, clip = one_clip(where)
    dataset, name = view._dataset, field.removeprefix("frames.")
    path = f"frames.{name}" if clip.video else name
    check_field(dataset, path)
    lines = tuple(_lines(*read_indices(dataset, clip, name)))
    runs = track_runs(dataset, path)
    if key is not None:
        runs = [run for run in runs if run.key == key]
        if not runs:
            known = [run.key for run in track_runs(dataset, path)]
            raise NotFoundError(f"no evaluation of '{path}'", repr(key), nearest(key, known))
    events = [event for run in runs for event in _events(dataset, clip, run, path)]
    if key is None:
        events += _gaps(lines)
    edited = last_edited(dataset, clip, name)
    last = max((line.last_frame for line in lines), default=0)
    return TrackTimeline(
        dataset=str(dataset.name),
        sample=clip.sample_id,
        clip=clip.name,
        field=path,
        frames=max(clip.frames or 0, last),
        frame_rate=clip.frame_rate,
        lines=lines,
        events=tuple(sorted(events, key=lambda event: (event.first_frame, event.last_frame, event.kind))),
        keys=tuple(run.key for run in runs),
        stale=tuple(run.key for run in runs if edited is not None and run.at < edited),
        scores=_scores(dataset, clip, [run.key for run in runs if "pred_field" in run.about]),
    )


def _lines(
    frame: npt.NDArray[np.int64], index: npt.NDArray[np.int64], label: npt.NDArray[Any]
) -> Iterator[TrackLine]:
    """One line per identity, in the order of first frames."""
    kept = index >= 0
    frame, index, label = frame[kept], index[kept], label[kept]
    order = np.lexsort((frame, index))
    frame, index, label = frame[order], index[order], label[order]
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    ends = np.append(starts[1:], len(index))
    lines = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        seen = np.unique(frame[start:end])
        cuts = np.flatnonzero(np.diff(seen) > 1)
        runs = np.column_stack((seen[np.append(0, cuts + 1)], seen[np.append(cuts, len(seen) - 1)]))
        names, counts = np.unique(label[start:end], return_counts=True)
        lines.append(TrackLine(int(index[start]), str(names[counts.argmax()]), runs, end - start))
    return iter(sorted(lines, key=lambda line: (line.first_frame, line.identity)))


def _gaps(lines: Iterable[TrackLine]) -> Iterator[TimelineEvent]:
    for line in lines:
        for (_, end), (start, _) in zip(line.runs[:-1].tolist(), line.runs[1:].tolist(), strict=True):
            yield TimelineEvent(
                "",
                "",
                GAP,
                end + 1,
                start - 1,
                (line.identity,),
                None,
                None,
                f"not seen for {start - end - 1} frames",
            )


def _events(dataset: Any, clip: Clip, run: TrackRun, path: str) -> Iterator[TimelineEvent]:
    """The events of a run, as they are seen from the tracks of a field."""
    from bson import ObjectId

    name = f"{run.key}_events"
    ids = [ObjectId(sample) for sample in clip.samples.values()]
    with database_errors():
        found = list(dataset._sample_collection.find({"_id": {"$in": ids}}, {name: 1}))
    for document in found:
        held = document.get(name) or {}
        for one in held.get("detections") or held.get("classifications") or ():
            first, last = one.get("support") or (one["first_frame"], one["last_frame"])
            tracks, truth = _concerned(one, run, path)
            yield TimelineEvent(
                str(one["_id"]),
                run.key,
                one["label"],
                first,
                last,
                tracks,
                truth,
                one.get("confidence"),
                one.get("reason") or "",
            )


def _scores(dataset: Any, clip: Clip, keys: Iterable[str]) -> dict[str, dict[str, float]]:
    from bson import ObjectId

    with database_errors():
        found = dataset._sample_collection.find_one({"_id": ObjectId(clip.sample_id)}) or {}
    scores = {key: {name: found.get(f"{key}_{name.lower()}") for name in _SCORES} for key in keys}
    return {
        key: {name: float(value) for name, value in some.items() if value is not None}
        for key, some in scores.items()
    }


def _concerned(one: Mapping[str, Any], run: TrackRun, path: str) -> tuple[tuple[int, ...], int | None]:
    """The identities of an event on the field's side, and the one on the other."""
    if "field" in run.about:
        return tuple(int(part) for part in (one.get("tracks") or "").split(",") if part.strip()), None
    merged = one["label"] == "merge"
    true = [one.get("previous") if merged else None, one.get("truth")]
    predicted = [None if merged else one.get("previous"), one.get("predicted")]
    here, there = (predicted, true) if run.about.get("pred_field") == path else (true, predicted)
    return tuple(dict.fromkeys(k for k in here if k is not None)), there[1]
