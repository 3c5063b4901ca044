"""What travels between the dataset and CVAT, in plain values: shapes, tracks and their keyframes.

Coordinates are absolute pixels of the image as it is displayed, in double precision: what CVAT holds, to the last bit.
A shape's frame is the dataset's, counted from 1; keyframes count as CVAT's API does, from 0 within their task, and
:class:`osv_lab.annotate.clips.Clip` is the one place that converts. No object here knows HTTP, CVAT's ids of labels or
attributes, or FiftyOne.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["box", "oriented", "polygon", "polyline", "mask", "keypoints", "tag"]
"""What an object is.

``box`` has the points ``x1, y1, x2, y2``; ``oriented`` the same before its ``rotation``; ``polygon``, ``polyline`` and
``keypoints`` have ``x, y`` pairs; ``mask`` CVAT's run lengths, background first, and then ``left, top, right, bottom``
(inclusive); ``tag`` has none.
"""
KINDS: tuple[str, ...] = get_args(Kind)

Value: TypeAlias = bool | int | float | str
"""The value of an attribute."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One object on one image, or on one frame of a video; or a tag of it.

    Attributes:
        uid: The stable identity that travels with the object; ``None`` for one that an annotator drew. A label in the
            dataset has its own id.
        sample: The id of the sample.
        kind: One of :data:`KINDS`, or CVAT's word for a shape that the dataset cannot hold (``ellipse``, ``cuboid``).
        label: The class name.
        points: Absolute pixels, laid out by ``kind``.
        rotation: Degrees clockwise around the centre, 0 to 360.
        attributes: What the label says besides: without uid, confidence and model, which have fields here.
        occluded: Whether the object is partly hidden.
        z_order: Which object is drawn over which.
        group: CVAT's number of a group of objects; 0 for none.
        source: Who made it, in CVAT's words: ``manual``, ``auto``, ``semi-auto``, ``file``, ``consensus``.
        confidence: 0 to 1, or ``None`` for what no model said.
        model: The reference of the model that made it, or ``None``.
        frame: The frame of a video, from 1; 0 for an image.
        track: The identity of the track that it is one frame of, or ``None``.
        visible: For keypoints, COCO's flag per point (0 not labelled, 1 hidden, 2 visible); ``()`` where unknown.
        server_id: CVAT's id of it, or ``None`` for one that is not there.
        job: CVAT's id of the job that it was read from, or ``None``.
    """

    uid: str | None
    sample: str
    kind: str
    label: str
    points: tuple[float, ...] = ()
    rotation: float = 0.0
    attributes: Mapping[str, Value] = field(default_factory=dict)
    occluded: bool = False
    z_order: int = 0
    group: int = 0
    source: str = "manual"
    confidence: float | None = None
    model: str | None = None
    frame: int = 0
    track: str | None = None
    visible: tuple[int, ...] = ()
    server_id: int | None = None
    job: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, without those that are the defaults."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shape:
        """The inverse of :meth:`to_dict`, exact."""
        return cls(**_tupled(values, "points", "visible"))


@dataclass(frozen=True, slots=True)
class Keyframe:
    """Where a track is on one frame, as somebody said; between keyframes CVAT interpolates.

    Attributes:
        frame: The frame of the task, from 0.
        points: Absolute pixels, laid out by the track's kind.
        rotation: Degrees clockwise, 0 to 360.
        outside: Whether the object is out of sight from this frame on, until the next keyframe.
        occluded: Whether it is partly hidden from this frame on.
        attributes: The attributes that change along the track, from this frame on.
        z_order: Which object is drawn over which, from this frame on.
    """

    frame: int
    points: tuple[float, ...]
    rotation: float = 0.0
    outside: bool = False
    occluded: bool = False
    attributes: Mapping[str, Value] = field(default_factory=dict)
    z_order: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, without those that are the defaults."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Keyframe:
        """The inverse of :meth:`to_dict`, exact."""
        return cls(**_tupled(values, "points"))


@dataclass(frozen=True, slots=True)
class Track:
    """One object along a video.

    Attributes:
        uid: The stable identity that travels with the track; ``None`` for one that an annotator drew.
        sample: The name of the part of a clip that it is on: a track is cut where the jobs are.
        kind: One of :data:`KINDS` but ``mask`` and ``tag``, or CVAT's word for what the dataset cannot hold.
        label: The class name.
        keyframes: In the order of their frames, at least one.
        attributes: The attributes that hold for the whole track.
        group: CVAT's number of a group of objects; 0 for none.
        source: Who made it, in CVAT's words.
        confidence: 0 to 1, or ``None`` for what no model said.
        model: The reference of the model that made it, or ``None``.
        server_id: CVAT's id of it, or ``None`` for one that is not there.
        job: CVAT's id of the job that it was read from, or ``None``.
        open: The properties in conflict, by the uid of the label that is in conflict.
    """

    uid: str | None
    sample: str
    kind: str
    label: str
    keyframes: tuple[Keyframe, ...]
    attributes: Mapping[str, Value] = field(default_factory=dict)
    group: int = 0
    source: str = "manual"
    confidence: float | None = None
    model: str | None = None
    server_id: int | None = None
    job: int | None = None
    open: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, without those that are the defaults."""
        return {**_plain(self), "keyframes": [keyframe.to_dict() for keyframe in self.keyframes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Track:
        """The inverse of :meth:`to_dict`, exact."""
        keyframes = tuple(Keyframe.from_dict(keyframe) for keyframe in values["keyframes"])
        return cls(**{**values, "keyframes": keyframes})


@dataclass(frozen=True, slots=True)
class Annotations:
    """The shapes and tracks of a task, of some of its jobs, or of the part of the dataset that was sent.

    Example:
        >>> box = Shape("a", "sample", "box", "cat", (1.0, 2.0, 30.0, 40.0))
        >>> Annotations.from_dict(Annotations((box,)).to_dict()).shapes[0] == box
        True
    """

    shapes: tuple[Shape, ...] = ()
    tracks: tuple[Track, ...] = ()

    def __len__(self) -> int:
        return len(self.shapes) + len(self.tracks)

    def of(self, samples: Iterable[str]) -> Annotations:
        """Those of some samples."""
        wanted = frozenset(samples)
        return Annotations(
            tuple(shape for shape in self.shapes if shape.sample in wanted),
            tuple(track for track in self.tracks if track.sample in wanted),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values; floats survive JSON exactly."""
        return {
            "shapes": [shape.to_dict() for shape in self.shapes],
            "tracks": [track.to_dict() for track in self.tracks],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Annotations:
        """The inverse of :meth:`to_dict`, exact."""
        return cls(
            tuple(Shape.from_dict(shape) for shape in values.get("shapes", ())),
            tuple(Track.from_dict(track) for track in values.get("tracks", ())),
        )


def _plain(one: Shape | Keyframe | Track) -> dict[str, Any]:
    """The fields that are not at their defaults; tuples as lists, as JSON has them."""
    found = {}
    kind: Any = type(one)
    for name, default in _defaults(kind):
        value = getattr(one, name)
        if value != default:
            found[name] = (
                list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
            )
    return found


@functools.cache
def _defaults(kind: type[Shape | Keyframe | Track]) -> tuple[tuple[str, Any], ...]:
    """The fields of a class with their defaults; of a required one a value that nothing equals."""
    return tuple(
        (spec.name, spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory())
        for spec in dataclasses.fields(kind)
    )


def _tupled(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: tuple(value) if name in names else value for name, value in values.items()}
