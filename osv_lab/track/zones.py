"""Lines and polygons that tracks cross, enter, stay in and leave: events with their frames, and counts.

supervision has ``LineZone`` and ``PolygonZone``. The sides of a line and the names of its two directions are theirs.
Counting is ours, because theirs

- waits frames but has no band around the line: a box that trembles on it for a second is counted again and again;
- forgets after two missed frames on which side a track was, so that who is hidden on the line is never counted;
- asks on which side of the line a box is, not whether its path goes through it: who walks round the end is counted;
- tests polygons on a mask of whole pixels, and knows no entering, leaving or dwell time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError, UsageError, nearest
from osv_lab.track.tracks import Floats, Tracks

ANCHORS: Mapping[str, tuple[float, float]] = {
    "bottom_center": (0.5, 1.0),
    "center": (0.5, 0.5),
    "top_center": (0.5, 0.0),
    "bottom_left": (0.0, 1.0),
    "bottom_right": (1.0, 1.0),
    "top_left": (0.0, 0.0),
    "top_right": (1.0, 0.0),
}
"""The point of a box that counts as where the object is, as parts of its width and height."""

BAND = 0.1
"""Half the width of the band around an edge in which nothing is decided, as a part of the box's shorter side."""


@dataclass(frozen=True)
class Line:
    """A line that is crossed.

    Attributes:
        name: What to call it.
        start, end: (x, y) pixels. Who walks from start to end has "in" on the left hand and "out" on the right:
            across a line drawn from left to right, upward is in.
        anchor: A key of :data:`ANCHORS`.
        band: Half the width of the band around the line in which nothing is decided, as a part of the box's shorter
            side.
        frames: On how many frames in a row a track must be on the other side.
    """

    name: str
    start: tuple[float, float]
    end: tuple[float, float]
    anchor: str = "bottom_center"
    band: float = BAND
    frames: int = 2

    def __post_init__(self) -> None:
        _check(self.name, [self.start, self.end], self.anchor, self.band, self.frames)
        if tuple(self.start) == tuple(self.end):
            raise UsageError("a line needs two points", f"{self.name}: {self.start} twice")


@dataclass(frozen=True)
class Zone:
    """A polygon that is entered and left.

    Attributes:
        name: What to call it.
        polygon: ((x, y), ...) corners in pixels, in order; the last is joined to the first.
        anchor, band, frames: As of :class:`Line`.
    """

    name: str
    polygon: tuple[tuple[float, float], ...]
    anchor: str = "bottom_center"
    band: float = BAND
    frames: int = 2

    def __post_init__(self) -> None:
        _check(self.name, self.polygon, self.anchor, self.band, self.frames)
        if len(set(self.polygon)) < 3:
            raise UsageError("a zone needs three corners", f"{self.name}: {len(set(self.polygon))}")


@dataclass(frozen=True)
class ZoneEvent:
    """A track crossed a line, or entered or left a zone.

    Attributes:
        zone: The line's or zone's name.
        what: ``in`` or ``out`` of a line, ``enter`` or ``leave`` of a zone.
        frame: The first frame on the new side (the event comes some frames later, when it is sure); for who vanished
            inside, the last one it was seen in.
        timestamp_s: When that was.
        track_id: The identity.
        class_id: Its class.
        dwell_s: For ``leave``: how many seconds it was inside.
    """

    zone: str
    what: str
    frame: int
    timestamp_s: float
    track_id: int
    class_id: int
    dwell_s: float | None = None


@dataclass
class _Path:
    """What is remembered of one track at one line or zone. Sides: +1 (in, inside), -1, 0 not known yet.

    ``side`` is the sure one, ``other`` counts decided frames on the opposite one, ``at`` is where the point itself
    lies, band or not, and since when.
    """

    side: int = 0
    point: tuple[float, float] = (0.0, 0.0)
    other: int = 0
    other_point: tuple[float, float] = (0.0, 0.0)
    at: int = 0
    at_frame: int = 0
    at_time: float = 0.0
    since: float = 0.0
    entered: bool = False
    last_frame: int = 0
    last_time: float = 0.0
    class_id: int = 0

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> _Path:
        """What :meth:`ZoneCounter.state` said, after a way through JSON."""
        path = cls(**said)
        path.point = (path.point[0], path.point[1])
        path.other_point = (path.other_point[0], path.other_point[1])
        return path


@dataclass
class ZoneCounter:
    """Follows tracks over lines and zones.

    Args:
        areas: :class:`Line` and :class:`Zone` with different names.
        lost_s: Who is not seen for so long has left; should be as long as the tracker keeps lost tracks.

    Example:
        >>> counter = ZoneCounter([Line("gate", (0, 50), (100, 50), frames=1)])
        >>> for number, bottom in enumerate([80, 60, 40, 20], start=1):
        ...     events = counter.update(number, number / 10, [7], [[40, bottom - 20, 60, bottom]])
        ...     for event in events:
        ...         print(event.frame, event.what)
        3 in
    """

    areas: Sequence[Line | Zone]
    lost_s: float = 1.0
    _paths: list[dict[int, _Path]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = [area.name for area in self.areas]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError("two lines or zones of one name", ", ".join(twice))
        self._paths = [{} for _ in self.areas]

    def update(
        self,
        frame: int,
        timestamp_s: float,
        track_id: npt.ArrayLike,
        xyxy: npt.ArrayLike,
        class_id: npt.ArrayLike | None = None,
    ) -> list[ZoneEvent]:
        """Take the tracks of the next frame.

        Args:
            frame: Its number.
            timestamp_s: Its time in seconds.
            track_id: (n,) identities; those below 1 are passed over.
            xyxy: (n, 4) boxes.
            class_id: (n,) classes.

        Returns:
            What happened, in the order of the areas.
        """
        ids = np.asarray(track_id, dtype=np.int64).reshape(-1)
        boxes = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4)
        classes = np.zeros_like(ids) if class_id is None else np.asarray(class_id, dtype=np.int64).reshape(-1)
        if not len(ids) == len(boxes) == len(classes):
            raise InvalidDataError(
                "the columns do not fit", f"{len(ids)} ids, {len(boxes)} boxes, {len(classes)} classes"
            )
        usable = (ids > 0) & np.isfinite(boxes).all(axis=1)
        ids, boxes, classes = ids[usable], boxes[usable], classes[usable]
        events: list[ZoneEvent] = []
        for area, paths in zip(self.areas, self._paths, strict=True):
            points = anchor_points(boxes, area.anchor)
            depth = _depth(area, points)
            at = np.sign(depth).astype(np.int64)
            band = area.band * (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
            sides = np.where(np.abs(depth) <= band, 0, at)
            columns = (ids.tolist(), at.tolist(), sides.tolist(), points.tolist(), classes.tolist())
            for identity, here, side, point, kind in zip(*columns, strict=True):
                path = paths.setdefault(identity, _Path())
                path.last_frame, path.last_time, path.class_id = frame, timestamp_s, kind
                if here != path.at:
                    path.at, path.at_frame, path.at_time = here, frame, timestamp_s
                events += _step(area, path, identity, side, (point[0], point[1]))
            gone = [k for k, path in paths.items() if timestamp_s - path.last_time > self.lost_s]
            for identity in gone:
                events += _vanish(area, paths.pop(identity), identity)
        return events

    def finish(self) -> list[ZoneEvent]:
        """The video has ended: who is still inside a zone leaves it."""
        events: list[ZoneEvent] = []
        for area, paths in zip(self.areas, self._paths, strict=True):
            for identity in sorted(paths):
                events += _vanish(area, paths[identity], identity)
            paths.clear()
        return events

    def inside(self) -> dict[str, int]:
        """How many are in each zone now."""
        return {
            area.name: sum(path.entered for path in paths.values())
            for area, paths in zip(self.areas, self._paths, strict=True)
            if isinstance(area, Zone)
        }

    def state(self) -> list[dict[str, Any]]:
        """What :meth:`restore` needs, JSON-able."""
        return [{str(k): vars(path).copy() for k, path in paths.items()} for paths in self._paths]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Go on from :meth:`state` of a counter with the same areas."""
        if len(state) != len(self.areas):
            raise InvalidDataError(
                "not a state of these zones", f"{len(state)} areas", f"{len(self.areas)} expected"
            )
        self._paths = [{int(k): _Path.of(said) for k, said in paths.items()} for paths in state]


def count_tracks(
    tracks: Tracks, areas: Sequence[Line | Zone], *, frame_rate: float = 30.0, lost_s: float = 1.0
) -> list[ZoneEvent]:
    """Events of finished tracks, by frame.

    Example:
        >>> tracks = Tracks([1, 2, 3], [7, 7, 7], [[0, 0, 10, 60], [0, 0, 10, 40], [0, 0, 10, 20]])
        >>> [event.what for event in count_tracks(tracks, [Line("gate", (0, 50), (20, 50))])]
        ['in']
    """
    counter = ZoneCounter(areas, lost_s)
    events: list[ZoneEvent] = []
    for number, part in tracks.frames():
        events += counter.update(number, (number - 1) / frame_rate, part.track_id, part.xyxy, part.class_id)
    return sorted(events + counter.finish(), key=lambda event: event.frame)


def parse_line(text: str, anchor: str = "bottom_center") -> Line:
    """``[NAME=]X1,Y1,X2,Y2`` as a line; without a name it is its own.

    Example:
        >>> parse_line("gate=0,50,100,50").end
        (100.0, 50.0)
    """
    name, points = _parse(text)
    if len(points) != 2:
        raise UsageError("a line is [NAME=]X1,Y1,X2,Y2", repr(text))
    return Line(name, points[0], points[1], anchor)


def parse_zone(text: str, anchor: str = "bottom_center") -> Zone:
    """``[NAME=]X1,Y1,X2,Y2,X3,Y3,...`` as a zone."""
    name, points = _parse(text)
    return Zone(name, tuple(points), anchor)


def _parse(text: str) -> tuple[str, list[tuple[float, float]]]:
    name, equals, rest = text.rpartition("=")
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) % 2:
        raise UsageError("not a list of corners", repr(text), "write [NAME=]X1,Y1,X2,Y2,... in pixels")
    return (name if equals else rest), list(zip(numbers[::2], numbers[1::2], strict=True))


def anchor_points(xyxy: Floats, anchor: str) -> Floats:
    """(n, 2) where the objects of (n, 4) boxes are."""
    part = np.array(ANCHORS[anchor])
    return np.asarray(xyxy[:, :2] + part * (xyxy[:, 2:] - xyxy[:, :2]))


def signed_distance(line: Line, points: Floats) -> Floats:
    """(n,) pixels from the line through start and end; positive on the left hand of who walks along it."""
    start, end = np.array(line.start), np.array(line.end)
    along = (end - start) / np.hypot(*(end - start))
    offset = points - start
    # With y downward the left hand is where the cross product is negative.
    return np.asarray(offset[:, 0] * along[1] - offset[:, 1] * along[0])


def inside_polygon(polygon: Sequence[tuple[float, float]], points: Floats) -> npt.NDArray[np.bool_]:
    """(n,) whether each point is inside, by the even-odd rule."""
    a = np.asarray(polygon, dtype=np.float64)
    b = np.roll(a, -1, axis=0)
    x, y = points[:, 0, None], points[:, 1, None]
    spans = (a[:, 1] > y) != (b[:, 1] > y)
    rise = np.where(a[:, 1] == b[:, 1], 1.0, b[:, 1] - a[:, 1])
    at = a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / rise
    return np.asarray(np.count_nonzero(spans & (x < at), axis=1) % 2 == 1)


def edge_distance(polygon: Sequence[tuple[float, float]], points: Floats) -> Floats:
    """(n,) pixels to the nearest edge."""
    a = np.asarray(polygon, dtype=np.float64)
    along = np.roll(a, -1, axis=0) - a
    offset = points[:, None, :] - a
    length = np.maximum((along * along).sum(axis=1), 1e-12)
    part = np.clip((offset * along).sum(axis=2) / length, 0, 1)
    return np.asarray(np.hypot(*np.moveaxis(offset - part[..., None] * along, 2, 0)).min(axis=1))


def _depth(area: Line | Zone, points: Floats) -> Floats:
    """(n,) pixels from the edge, positive in or inside."""
    if isinstance(area, Line):
        return signed_distance(area, points)
    return edge_distance(area.polygon, points) * np.where(inside_polygon(area.polygon, points), 1.0, -1.0)


def _step(area: Line | Zone, path: _Path, identity: int, side: int, point: tuple[float, float]) -> list[ZoneEvent]:
    """Bring one track's path up to date: it is at ``point``, on ``side`` (0: too near the edge to tell)."""
    if side == 0:
        return []
    if path.side == side:
        path.point, path.other = point, 0
        return []
    if path.other == 0:
        path.other_point = point
    path.other += 1
    # Where a track is first seen is its side of a line at once; to be in a zone takes as many frames as to enter it.
    needed = 1 if path.side == 0 and isinstance(area, Line) else area.frames
    if path.other < needed:
        return []
    before, came_from = path.side, path.point
    path.side, path.other, path.point = side, 0, point
    if isinstance(area, Zone):
        return _enter_or_leave(area, path, identity, side)
    if before == 0 or not _through(area, came_from, path.other_point):
        return []
    what = "in" if side > 0 else "out"
    return [ZoneEvent(area.name, what, path.at_frame, path.at_time, identity, path.class_id)]


def _enter_or_leave(zone: Zone, path: _Path, identity: int, side: int) -> list[ZoneEvent]:
    frame, time = path.at_frame, path.at_time
    if side > 0:
        path.entered, path.since = True, time
        return [ZoneEvent(zone.name, "enter", frame, time, identity, path.class_id)]
    if not path.entered:
        return []
    path.entered = False
    return [ZoneEvent(zone.name, "leave", frame, time, identity, path.class_id, time - path.since)]


def _vanish(area: Line | Zone, path: _Path, identity: int) -> list[ZoneEvent]:
    if isinstance(area, Line) or not path.entered:
        return []
    dwell = path.last_time - path.since
    return [ZoneEvent(area.name, "leave", path.last_frame, path.last_time, identity, path.class_id, dwell)]


def _through(line: Line, before: tuple[float, float], after: tuple[float, float]) -> bool:
    """Whether the way from one point to the other goes between the line's ends."""
    ends = np.array([line.start, line.end], dtype=np.float64)
    first, second = np.array(before), np.array(after)
    step = second - first
    offset = ends - first
    cross = step[0] * offset[:, 1] - step[1] * offset[:, 0]
    return bool(cross[0] * cross[1] <= 0)


def _check(name: str, points: Sequence[Sequence[float]], anchor: str, band: float, frames: int) -> None:
    if not name:
        raise UsageError("a line or zone without a name", repr(name))
    if any(len(point) != 2 for point in points) or not np.isfinite(np.asarray(points, dtype=float)).all():
        raise UsageError("a corner is not (x, y)", f"{name}: {points}")
    if anchor not in ANCHORS:
        raise UsageError("unknown anchor", repr(anchor), nearest(anchor, ANCHORS))
    if not 0 <= band <= 10 or frames < 1:
        raise UsageError("band is 0 or more, frames 1 or more", f"{name}: band {band}, frames {frames}")
