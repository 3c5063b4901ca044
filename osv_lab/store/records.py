"""One image and its labels in plain values: what every file format is read into and written from.

Coordinates are relative to the image as it is displayed (EXIF orientation applied): x and width in image
widths, y and height in image heights. A record holds no FiftyOne object, so that ten thousand images cost
seconds; :mod:`osv_lab.store.bulk` turns records into the store's documents and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Attributes: TypeAlias = Mapping[str, bool | int | float | str]

Kind: TypeAlias = Literal["box", "mask", "polygon", "oriented_box", "keypoints", "class"]
"""What a label is. ``Task`` names the kind that a data set is mainly about."""

FIELDS: Mapping[Kind, str] = MappingProxyType(
    {
        "box": "ground_truth",
        "mask": "ground_truth",
        "polygon": "ground_truth_polygons",
        "oriented_box": "ground_truth_oriented",
        "keypoints": "ground_truth_keypoints",
        "class": "ground_truth_class",
    }
)
"""Which sample field ingested labels of a kind land in. Boxes and masks share ``fiftyone.Detections``."""


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box, with an instance mask when the source has one.

    Attributes:
        label: The class name.
        xywh: Top-left corner, width and height, relative.
        mask: Instance mask inside the box, bool ``(h, w)``, or ``None``.
        confidence: 0 to 1, or ``None`` for ground truth.
        index: Track identity, or ``None``.
        attributes: Whatever else the source says (``difficult``, ``occluded``, ...).
    """

    label: str
    xywh: tuple[float, float, float, float]
    mask: np.ndarray | None = None
    confidence: float | None = None
    index: int | None = None
    attributes: Attributes = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """``mask`` when there is one, else ``box``."""
        return "box" if self.mask is None else "mask"


@dataclass(frozen=True, slots=True)
class Polygon:
    """An instance outline of one or more rings, each a sequence of relative ``(x, y)``.

    ``closed`` is false for a line (CVAT's polyline), which has no inside.
    """

    label: str
    rings: tuple[tuple[tuple[float, float], ...], ...]
    confidence: float | None = None
    index: int | None = None
    attributes: Attributes = field(default_factory=dict)
    closed: bool = True

    @property
    def kind(self) -> Kind:
        """``polygon``."""
        return "polygon"


@dataclass(frozen=True, slots=True)
class OrientedBox:
    """A rotated rectangle by its four relative corners, in order around it."""

    label: str
    corners: tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
    confidence: float | None = None
    index: int | None = None
    attributes: Attributes = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """``oriented_box``."""
        return "oriented_box"


@dataclass(frozen=True, slots=True)
class Keypoints:
    """The keypoints of one object.

    Attributes:
        label: The class name.
        points: Relative ``(x, y)``, in the order of the skeleton; ``(nan, nan)`` for a point that is not labelled.
        visible: COCO's flags per point (0 not labelled, 1 hidden, 2 visible), or ``()`` where unknown.
        xywh: The object's box, relative, or ``None``.
        scores: Confidence per point, or ``()`` where unknown; ``confidence`` is the whole object's.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    visible: tuple[int, ...] = ()
    xywh: tuple[float, float, float, float] | None = None
    confidence: float | None = None
    index: int | None = None
    attributes: Attributes = field(default_factory=dict)
    scores: tuple[float, ...] = ()

    @property
    def kind(self) -> Kind:
        """``keypoints``."""
        return "keypoints"


@dataclass(frozen=True, slots=True)
class ImageClass:
    """The class of a whole image."""

    label: str
    confidence: float | None = None
    attributes: Attributes = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """``class``."""
        return "class"


Label: TypeAlias = Box | Polygon | OrientedBox | Keypoints | ImageClass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that was wrong in a source, for the report.

    Attributes:
        file: The file it was found in, as given (undecodable bytes escaped).
        what: What was wrong, in one clause.
        where: Line, element or annotation id inside the file, or ``""``.
        consequence: ``"label dropped"``, ``"label kept"``, ``"file skipped"`` or ``"file broken"``.
    """

    file: str
    what: str
    where: str = ""
    consequence: str = "label dropped"


@dataclass(slots=True)
class Record:
    """One image or video as a reader found it.

    Attributes:
        path: The media file.
        labels: Labels of the image; empty for a background image or an unlabelled one.
        frames: For a video: labels per frame, by frame number from 1.
        split: ``train``, ``val``, ``test``, or ``None`` where the format does not say.
        tags: Further sample tags.
        labelled: Whether the source has an annotation for the image at all (an empty label file is a labelled
            background; no label file is not).
        size: ``(width, height)`` in pixels as the annotation states it, or ``None``.
        problems: What was wrong with this item's labels.
        fields: Further sample fields the source states (``sequence``, ``frame_number``, ...).
    """

    path: Path
    labels: list[Label] = field(default_factory=list)
    frames: dict[int, list[Label]] | None = None
    split: str | None = None
    tags: tuple[str, ...] = ()
    labelled: bool = True
    size: tuple[int, int] | None = None
    problems: list[Problem] = field(default_factory=list)
    fields: dict[str, bool | int | float | str] = field(default_factory=dict)


@dataclass(slots=True)
class Source:
    """A readable data source: what :func:`osv_lab.store.formats.open_source` returns.

    Attributes:
        format: The format's name (``yolo``, ``coco``, ``voc``, ``cvat``, ``csv``, ``mot``, ``images``, ``videos``,
            ``classes``).
        root: The folder or file read.
        classes: Class names in the source's own order, where it states one; else ``()``.
        skeletons: Keypoint names per class, where the source states them.
        problems: What was wrong with the source as a whole, or with files that belong to no image.
        info: What else the source says and a person may want to know (``licence``, ``description``, ...).
    """

    format: str
    root: Path
    classes: tuple[str, ...] = ()
    skeletons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
