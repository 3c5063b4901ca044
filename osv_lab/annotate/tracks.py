"""Between the labels of frames, which the dataset has, and tracks of keyframes, which CVAT has.

On the way out the labels of one track become keyframes, within a tolerance. So what CVAT says of a frame that nobody
touched is not quite what the dataset says. On the way back each frame of a track is therefore compared with what the
same track said there when both sides last agreed: where it says the same, the label is taken for what the dataset had,
to the last bit. What is left is a merge of labels, frame by frame.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from osv_lab.annotate.changes import Note, key_of
from osv_lab.annotate.clips import Clip, Part
from osv_lab.annotate.identity import identify
from osv_lab.annotate.interpolation import interpolate
from osv_lab.annotate.keyframes import TOLERANCE, thin
from osv_lab.annotate.objects import Keyframe, Shape, Track, Value
from osv_lab.annotate.properties import same_place, same_value, values_of, with_values
from osv_lab.core.digests import value_digest

Frames = Mapping[int, Shape]


def part_name(clip: Clip, part: Part) -> str:
    """What the tracks of a job are kept under."""
    return f"{clip.task} {part.job}"


def tracks_of(
    shapes: Iterable[Shape],
    clip: Clip,
    part: Part,
    along: Mapping[str, Collection[str]],
    tolerance: float = TOLERANCE,
) -> tuple[list[Track], list[Shape], list[str]]:
    """The tracks of a job, as keyframes.

    Args:
        shapes: The labels of its frames.
        clip: The clip.
        part: The job.
        along: By class, the attributes that may change along a track.
        tolerance: See :func:`osv_lab.annotate.keyframes.thin`.

    Returns:
        The tracks; the labels that go frame by frame: those of no track, and those that their track cannot have (of
        another kind, or a second one on a frame); and in words what of the tracks does not travel.
    """
    seen: dict[str, dict[int, Shape]] = {}
    plain: list[Shape] = []
    problems: list[str] = []
    every = list(shapes)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for shape in every:
        if shape.track is not None:
            kinds[shape.track][shape.kind] += 1
    numbers = clip.frames()
    for shape in every:
        frame = numbers[shape.sample, shape.frame]
        kind = kinds[shape.track].most_common(1)[0][0] if shape.track is not None else None
        if shape.track is None or kind != shape.kind or frame in seen.get(shape.track, {}):
            plain.append(shape)
        else:
            seen.setdefault(shape.track, {})[frame] = shape
    tracks = []
    for uid, frames in seen.items():
        track, lost = _track(uid, frames, clip, part, along, tolerance)
        tracks.append(track)
        problems += lost
    return tracks, plain, problems


def _track(
    uid: str, frames: Frames, clip: Clip, part: Part, along: Mapping[str, Collection[str]], tolerance: float
) -> tuple[Track, list[str]]:
    shapes = [frames[frame] for frame in sorted(frames)]
    first = shapes[0]
    label = Counter(shape.label for shape in shapes).most_common(1)[0][0]
    moving = along.get(label, ())
    seen = [
        Keyframe(
            frame,
            frames[frame].points,
            frames[frame].rotation,
            occluded=frames[frame].occluded,
            attributes={name: value for name, value in frames[frame].attributes.items() if name in moving},
            z_order=frames[frame].z_order,
        )
        for frame in sorted(frames)
    ]
    fixed: dict[str, Value] = {}
    lost = []
    for name in dict.fromkeys(name for shape in shapes for name in shape.attributes if name not in moving):
        values = [shape.attributes[name] for shape in shapes if name in shape.attributes]
        fixed[name] = Counter(values).most_common(1)[0][0]
        if any(value != fixed[name] for value in values):
            lost.append(
                f"attribute '{name}' changes along a {label} of {clip.name}, which its project has as fixed"
            )
    if any(shape.label != label for shape in shapes):
        lost.append(f"a track of {clip.name} changes its class; sent as {label}")
    sure = [shape.confidence for shape in shapes if shape.confidence is not None]
    track = Track(
        uid,
        part_name(clip, part),
        first.kind,
        label,
        thin(seen, first.kind, part.stop, tolerance),
        fixed,
        first.group,
        "auto" if any(shape.source == "auto" for shape in shapes) else first.source,
        fmean(sure) if sure else None,
        next((shape.model for shape in shapes if shape.model), None),
    )
    return track, lost


@dataclass(frozen=True, slots=True)
class Expanded:
    """The tracks of a job, frame by frame.

    Attributes:
        shapes: One per frame in sight, with the uid of the label that it is.
        tracks: The tracks, each with its identity.
        notes: What was noticed of identities.
    """

    shapes: tuple[Shape, ...]
    tracks: tuple[Track, ...]
    notes: tuple[Note, ...]


def expand(
    theirs: Sequence[Track],
    base: Sequence[Track],
    labels: Sequence[Shape],
    clip: Clip,
    part: Part,
    deleted: Collection[int] = (),
) -> Expanded:
    """Tracks of the server as labels of frames, with the identity that each label has.

    A frame of a known track is the label that the dataset had for it. A frame that one track lost and another one has
    at the same place was handed over, as when a person splits tracks or joins them: it is the same label.

    Args:
        theirs: The tracks on the server.
        base: The tracks as both sides last agreed on them.
        labels: The labels of the job's frames as both sides last agreed on them.
        clip: The clip.
        part: The job.
        deleted: Frames that were deleted in CVAT.
    """
    versions, additions, notes = identify({key_of(one): one for one in base}, theirs)
    before = {one.uid: one for one in base}
    numbers = clip.frames()
    known: dict[str, dict[int, Shape]] = defaultdict(dict)
    for label in labels:
        # What CVAT knows as a shape of its own is no frame of a track there.
        if label.track is not None and label.server_id is None:
            known[label.track][numbers[label.sample, label.frame]] = label
    tracks = [replace(some[0], uid=key[2]) for key, some in versions.items()]
    tracks += [replace(one, uid=one.uid or "") for one in additions]
    found: list[Shape] = []
    claimed: set[str | None] = set()
    loose: list[tuple[Track, Keyframe]] = []
    was = _Before(before, part, deleted)
    for track in tracks:
        mine = known.get(track.uid or "", {})
        base_track = before.get(track.uid)
        if base_track is not None and not base_track.open and unchanged(base_track, track):
            found += mine.values()
            claimed |= {label.uid for label in mine.values()}
            continue
        for one in interpolate(track.keyframes, track.kind, part.stop, deleted):
            own = mine.get(one.frame)
            if own is None:
                loose.append((track, one))
            else:
                there = was.shape(track.uid, one.frame, clip)
                open_ones = base_track.open if base_track is not None else {}
                found.append(_as_agreed(_shape(track, one, clip), there, own, open_ones))
                claimed.add(own.uid)
    left: dict[int, list[tuple[str, Shape]]] = defaultdict(list)
    if loose:
        for uid, frames in known.items():
            for frame, label in frames.items():
                if label.uid not in claimed:
                    left[frame].append((uid, label))
    for track, one in loose:
        found.append(_handed_over(track, one, left.get(one.frame, []), was, clip))
    agreed = [replace(one, job=None, open={}) for one in tracks]
    return Expanded(tuple(found), tuple(agreed), tuple(notes))


class _Before:
    """Where the tracks were when both sides last agreed; each is worked out when it is first asked for."""

    def __init__(self, tracks: Mapping[str | None, Track], part: Part, deleted: Collection[int]) -> None:
        self._tracks, self._part, self._deleted = tracks, part, deleted
        self._frames: dict[str | None, dict[int, Keyframe]] = {}

    def shape(self, uid: str | None, frame: int, clip: Clip) -> Shape | None:
        track = self._tracks.get(uid)
        if track is None:
            return None
        if uid not in self._frames:
            seen = interpolate(track.keyframes, track.kind, self._part.stop, self._deleted)
            self._frames[uid] = {one.frame: one for one in seen}
        one = self._frames[uid].get(frame)
        return _shape(track, one, clip) if one is not None else None


def _handed_over(track: Track, one: Keyframe, left: list[tuple[str, Shape]], was: _Before, clip: Clip) -> Shape:
    """A frame that a track did not have: one that another track lost, or a new label."""
    shape = _shape(track, one, clip)
    for place, (uid, label) in enumerate(left):
        there = was.shape(uid, one.frame, clip)
        if there is not None and same_place(shape.points, shape.rotation, there.points, there.rotation):
            del left[place]
            return _as_agreed(shape, there, label, {})
    return replace(shape, uid=value_digest([track.uid, shape.sample, shape.frame])[:24])


def _as_agreed(there: Shape, was: Shape | None, label: Shape, open_ones: Mapping[str, Sequence[str]]) -> Shape:
    """The server's version of a label: as the dataset had it in everything that the server did not change."""
    there = replace(there, uid=label.uid)
    raw = open_ones.get(label.uid or "", ())
    if was is None or "existence" in raw:
        return there
    now, before, here = values_of(there), values_of(was), values_of(label)
    values = {
        name: here.get(name)
        if name not in raw and same_value(name, now.get(name), before.get(name))
        else now.get(name)
        for name in {**here, **before, **now}
    }
    return with_values(there, values)


def unchanged(before: Track, now: Track) -> bool:
    """Whether a track on the server is as it was when both sides last agreed."""
    return all(
        getattr(before, name) == getattr(now, name)
        for name in ("keyframes", "label", "kind", "group", "attributes")
    )


def _shape(track: Track, one: Keyframe, clip: Clip) -> Shape:
    sample, frame = clip.place(one.frame)
    return Shape(
        uid=None,
        sample=sample,
        kind=track.kind,
        label=track.label,
        points=one.points,
        rotation=one.rotation,
        attributes={**track.attributes, **one.attributes},
        occluded=one.occluded,
        z_order=one.z_order,
        group=track.group,
        source=track.source,
        confidence=track.confidence,
        model=track.model,
        frame=frame,
        track=track.uid,
        job=track.job,
    )


def with_open(
    tracks: Iterable[Track], labels: Iterable[Shape], open_ones: Mapping[str, Sequence[str]]
) -> Iterator[Track]:
    """The tracks, each with the properties of its labels that are in conflict.

    Args:
        tracks: The tracks of a job.
        labels: Their labels, frame by frame.
        open_ones: The properties in conflict by the label's uid.
    """
    of: dict[str | None, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for label in labels:
        if label.uid is not None and label.uid in open_ones:
            of[label.track][label.uid] = tuple(open_ones[label.uid])
    for track in tracks:
        yield replace(track, open=of[track.uid]) if track.uid in of else track


def changes_along(shapes: Iterable[Shape]) -> set[str]:
    """The attributes that change along some track."""
    values: dict[tuple[str | None, str], Any] = {}
    found = set()
    for shape in shapes:
        if shape.track is not None:
            for name, value in shape.attributes.items():
                if values.setdefault((shape.track, name), value) != value:
                    found.add(name)
    return found
