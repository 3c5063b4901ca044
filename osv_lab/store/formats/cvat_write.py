"""Writes CVAT XML 1.1: ``annotations.xml`` with ``images/<split>`` for images, one folder per video for tracks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.files import write_atomic
from osv_lab.store.formats.files import shown
from osv_lab.store.formats.values import pixel_text, value_text, xml_text
from osv_lab.store.formats.writing import (
    ClassList,
    Link,
    MediaFolder,
    Written,
    best,
    objects,
    size_of,
    sound_labels,
)
from osv_lab.store.geometry import Point, fit_mask, pixel_window, run_lengths, turned_box
from osv_lab.store.records import Box, ImageClass, Keypoints, Kind, Label, OrientedBox, Polygon, Problem, Record

_ORDER: tuple[Kind, ...] = ("keypoints", "polygon", "oriented_box", "mask", "box")
_OWN = ("occluded", "z_order", "group_id", "source", "coco_id")
_AT = " \0"
MISFIT_PX = 0.05
"""Corners farther than this from a rectangle cannot be said by a box and its rotation."""


class _Shapes:
    """Shapes of one file, and the labels, attributes and skeletons that its ``meta`` has to declare."""

    def __init__(self, classes: ClassList, written: Written, skeletons: Mapping[str, tuple[str, ...]]) -> None:
        self.classes = classes
        self.written = written
        self.skeletons = dict(skeletons)
        self.attributes: dict[str, dict[str, None]] = {}
        self.with_points: dict[str, None] = {}
        # Groups of our own, for the rings of one outline, far from those the labels already have.
        self.group = 1_000_000

    def known(self, label: Label) -> bool:
        """Whether the label's class is one to write."""
        if self.classes.id_of(label.label) is None:
            self.written.lose("labels of other classes")
            return False
        return True

    def element(self, label: Label, size: tuple[int, int], extra: str = "", named: bool = True) -> list[str]:
        """The XML elements of one label; several for an outline of several rings.

        Args:
            label: The label.
            size: Image ``(width, height)``, pixels.
            extra: Further XML attributes (``frame``, ``keyframe``, ``outside``).
            named: Whether the elements state the class, which those inside a track do not.
        """
        name = f' label="{xml_text(label.label)}"' if named else ""
        inner = self._inner(label)
        common = f'{name}{extra} occluded="{int(label.attributes.get("occluded") is True)}"'
        common += f' source="{xml_text(str(label.attributes.get("source", "manual")))}"'
        if isinstance(label, ImageClass):
            return [f'<tag{name} source="manual">{inner}</tag>']
        common += f' z_order="{label.attributes.get("z_order", 0)}"'
        if isinstance(label, Polygon) and len(label.rings) > 1:
            self.group += 1
            common += f' group_id="{self.group}"'
        elif "group_id" in label.attributes:
            common += f' group_id="{label.attributes["group_id"]}"'
        if isinstance(label, Keypoints):
            return self._keypoints(label, size, common, inner)
        if isinstance(label, Polygon):
            tag = "polygon" if label.closed else "polyline"
            return [f'<{tag}{common} points="{_points(ring, size)}">{inner}</{tag}>' for ring in label.rings]
        if isinstance(label, OrientedBox):
            return [self._oriented(label, size, common, inner)]
        if label.mask is not None:
            return [self._mask(label, size, common, inner)]
        return [f"<box{common}{_edges(label.xywh, size)}>{inner}</box>"]

    def _inner(self, label: Label) -> str:
        names = self.attributes.setdefault(label.label, {})
        parts = []
        for key, value in label.attributes.items():
            if key not in _OWN or (key == "occluded" and not isinstance(value, bool)):
                names.setdefault(key)
                parts.append(f'<attribute name="{xml_text(key)}">{xml_text(value_text(value))}</attribute>')
        return "".join(parts)

    def _keypoints(self, label: Keypoints, size: tuple[int, int], common: str, inner: str) -> list[str]:
        if label.xywh is not None:
            self.written.lose("boxes of keypoints")
        missing = any(x != x or y != y for x, y in label.points)
        names = self.skeletons.get(label.label, ())
        if not missing and not label.visible and not names:
            return [f'<points{common} points="{_points(label.points, size)}">{inner}</points>']
        if len(names) < len(label.points):
            names = (*names, *(f"point {k + 1}" for k in range(len(names), len(label.points))))
            self.skeletons[label.label] = names
        self.with_points.setdefault(label.label)
        if not label.visible:
            self.written.lose("that the visibility of keypoints is not known")
        parts = []
        for k, (x, y) in enumerate(label.points):
            absent = x != x or y != y
            hidden = k < len(label.visible) and label.visible[k] == 1
            place = "0,0" if absent else _points([(x, y)], size)
            parts.append(
                f'<points label="{xml_text(names[k])}" outside="{int(absent)}" occluded="{int(hidden)}" '
                f'points="{place}"></points>'
            )
        return [f"<skeleton{common}>{inner}{''.join(parts)}</skeleton>"]

    def _oriented(self, label: OrientedBox, size: tuple[int, int], common: str, inner: str) -> str:
        x0, y0, x1, y1, degrees, misfit = turned_box(label.corners, size)
        if misfit > MISFIT_PX or x1 <= x0 or y1 <= y0:
            self.written.lose("four corners that are no rectangle, written as outlines")
            return f'<polygon{common} points="{_points(label.corners, size)}">{inner}</polygon>'
        edges = "".join(
            f' {key}="{pixel_text(value)}"'
            for key, value in zip(("xtl", "ytl", "xbr", "ybr"), (x0, y0, x1, y1), strict=True)
        )
        return f'<box{common}{edges} rotation="{degrees:.8f}">{inner}</box>'

    def _mask(self, label: Box, size: tuple[int, int], common: str, inner: str) -> str:
        assert label.mask is not None
        x0, y0, x1, y1 = pixel_window(label.xywh, size)
        edges = label.xywh[0] * size[0], label.xywh[1] * size[1]
        ends = edges[0] + label.xywh[2] * size[0], edges[1] + label.xywh[3] * size[1]
        if max(abs(a - b) for a, b in zip((x0, y0, x1, y1), (*edges, *ends), strict=True)) > 0.01:
            self.written.lose("box edges of masks, moved to whole pixels")
        mask = fit_mask(label.mask, (x1 - x0, y1 - y0))
        counts = ", ".join(map(str, run_lengths(mask)))
        place = f'left="{x0}" top="{y0}" width="{x1 - x0}" height="{y1 - y0}"'
        return f'<mask{common} rle="{counts}" {place}>{inner}</mask>'

    def labels_meta(self) -> str:
        """The ``<labels>`` element."""
        parts = []
        for name in self.classes.names:
            attributes = "".join(
                f"<attribute><name>{xml_text(key)}</name><mutable>True</mutable><input_type>text</input_type>"
                "<default_value></default_value><values></values></attribute>"
                for key in self.attributes.get(name, ())
            )
            kind = "skeleton" if name in self.with_points else "any"
            parts.append(
                f"<label><name>{xml_text(name)}</name><type>{kind}</type><attributes>{attributes}</attributes></label>"
            )
            if name in self.with_points:
                parts += (
                    f"<label><name>{xml_text(point)}</name><type>points</type><attributes></attributes>"
                    f"<parent>{xml_text(name)}</parent></label>"
                    for point in self.skeletons[name]
                )
        return f"<labels>{''.join(parts)}</labels>"


def _points(points: Iterable[Point], size: tuple[int, int]) -> str:
    return ";".join(f"{pixel_text(x * size[0])},{pixel_text(y * size[1])}" for x, y in points)


def _edges(xywh: tuple[float, float, float, float], size: tuple[int, int]) -> str:
    (x, y, w, h), (width, height) = xywh, size
    return (
        f' xtl="{pixel_text(x * width)}" ytl="{pixel_text(y * height)}"'
        f' xbr="{pixel_text((x + w) * width)}" ybr="{pixel_text((y + h) * height)}"'
    )


def write_images(
    records: Iterable[Record],
    folder: Path,
    classes: ClassList,
    link: Link = "hard",
    skeletons: Mapping[str, tuple[str, ...]] | None = None,
) -> Written:
    """Fill an empty folder with ``annotations.xml`` ("CVAT for images 1.1") and ``images``."""
    written = Written()
    media = MediaFolder(link)
    shapes = _Shapes(classes, written, skeletons or {})
    parts: list[str] = []
    for record in records:
        if record.frames is not None:
            what = "a video: export it as cvat-video"
            written.problems.append(Problem(shown(record.path), what, "", "file skipped"))
            continue
        inner = os.path.join("images", record.split) if record.split else "images"
        os.makedirs(folder / inner, exist_ok=True)
        try:
            size = size_of(record)
            name = media.place(record.path, str(folder / inner))
        except (OSError, InvalidDataError) as error:
            what = f"the image cannot be read: {error}"
            written.problems.append(Problem(shown(record.path), what, "", "file skipped"))
            continue
        written.images[record.split or ""] += 1
        if record.tags:
            written.lose("tags", len(record.tags))
        if not record.labelled and not record.labels:
            written.lose("that an image is unlabelled (it reads as one without objects)")
        elements: list[str] = []
        for group in objects(sound_labels(record, record.labels, written)):
            label = group[0] if len(group) == 1 else best(group, _ORDER)
            if shapes.known(label):
                elements += shapes.element(label, size)
                written.labels[label.kind] += 1
                written.lose_common(label, attributes=False)
                for other in group:
                    if other is not label and other.kind != "box":
                        written.lose(f"{other.kind} of an object that is written as its {label.kind}")
        subset = f' subset="{xml_text(record.split)}"' if record.split else ""
        stated = f"{record.split}/{name}" if record.split else name
        start = f'<image id="{len(parts)}" name="{xml_text(stated)}"{subset} width="{size[0]}" height="{size[1]}">'
        parts.append(start + "".join(f"\n    {element}" for element in elements) + "\n  </image>")
    task = f"<name>osv_lab</name><size>{len(parts)}</size><mode>annotation</mode>{shapes.labels_meta()}"
    meta = f"<meta><task>{task}</task></meta>"
    write_atomic(folder / "annotations.xml", _document(meta, parts))
    written.classes = classes.names
    return written


def _document(meta: str, parts: Sequence[str]) -> str:
    body = "".join(f"\n  {part}" for part in parts)
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>'
    return f"{head}\n  {meta}{body}\n</annotations>\n"


def write_video(
    records: Iterable[Record],
    folder: Path,
    classes: ClassList,
    link: Link = "hard",
    skeletons: Mapping[str, tuple[str, ...]] | None = None,
) -> Written:
    """Fill an empty folder with one folder per video: ``annotations.xml`` ("CVAT for video 1.1") and the video.

    Every frame of a track is written as a key frame, so nothing is left to interpolation.
    """
    written = Written()
    media = MediaFolder(link)
    for record in records:
        if record.frames is None:
            what = "an image: export it as cvat-images"
            written.problems.append(Problem(shown(record.path), what, "", "file skipped"))
            continue
        try:
            size = size_of(record)
            # A folder per video, below its split's.
            name = f"{sum(written.images.values()):04d}"
            place = folder / (record.split or "") / name
            place.mkdir(parents=True)
            video = media.place(record.path, str(place))
        except (OSError, InvalidDataError) as error:
            what = f"the video cannot be read: {error}"
            written.problems.append(Problem(shown(record.path), what, "", "file skipped"))
            continue
        written.images[record.split or ""] += 1
        if record.tags:
            written.lose("tags", len(record.tags))
        written.lose("labels of the video as a whole", len(record.labels))
        shapes = _Shapes(classes, written, skeletons or {})
        parts = _tracks(record, size, shapes)
        last = max(record.frames, default=0)
        meta = (
            f"<meta><task><name>{xml_text(video)}</name><size>{last}</size><mode>interpolation</mode>"
            f"<start_frame>0</start_frame><stop_frame>{max(last - 1, 0)}</stop_frame><frame_filter></frame_filter>"
            f"{shapes.labels_meta()}<original_size><width>{size[0]}</width><height>{size[1]}</height></original_size>"
            f"<source>{xml_text(video)}</source></task></meta>"
        )
        write_atomic(place / "annotations.xml", _document(meta, parts))
    written.classes = classes.names
    return written


def _tracks(record: Record, size: tuple[int, int], shapes: _Shapes) -> list[str]:
    written = shapes.written
    tracks: dict[tuple[str, Kind, int], dict[int, Label]] = {}
    loose = 0
    for frame, labels in sorted((record.frames or {}).items()):
        for label in sound_labels(record, labels, written):
            if isinstance(label, ImageClass):
                written.lose("classes of frames")
                continue
            if not shapes.known(label):
                continue
            if isinstance(label, Box) and label.mask is not None:
                written.lose("masks of tracks, written as their boxes")
                label = Box(label.label, label.xywh, None, label.confidence, label.index, label.attributes)
            if isinstance(label, Polygon) and len(label.rings) > 1:
                written.lose("further rings of outlines in tracks", len(label.rings) - 1)
                label = Polygon(label.label, label.rings[:1], label.confidence, label.index, label.attributes)
            index = label.index
            if index is None or frame in tracks.get((label.label, label.kind, index), ()):
                written.lose(
                    "that a label belongs to no track"
                    if index is None
                    else "a second label of a track in one frame"
                )
                loose += 1
                index = -loose
            tracks.setdefault((label.label, label.kind, index), {})[frame] = label
            written.labels[label.kind] += 1
            written.lose_common(label, index=False, attributes=False)
    used = {index for _, _, index in tracks if index >= 0}
    taken: set[int] = set()
    fresh = max(used, default=-1) + 1
    parts = []
    for (name, _, index), frames in tracks.items():
        number = index
        if index < 0 or index in taken:
            if index >= 0:
                written.lose("one track id for several classes or shapes, told apart")
            number, fresh = fresh, fresh + 1
        taken.add(number)
        shapes_xml = _track_shapes(frames, size, shapes)
        start = f'<track id="{number}" label="{xml_text(name)}" source="manual">'
        parts.append(start + "".join(f"\n    {shape}" for shape in shapes_xml) + "\n  </track>")
    return parts


def _track_shapes(frames: Mapping[int, Label], size: tuple[int, int], shapes: _Shapes) -> list[str]:
    """Key frames, and an ``outside`` one after each run of frames."""
    found: list[str] = []
    for frame, label in frames.items():
        elements = shapes.element(label, size, _AT, named=False)
        found += (element.replace(_AT, f' frame="{frame - 1}" keyframe="1" outside="0"') for element in elements)
        if frame + 1 not in frames:
            # The shape that ends a run says only that it has ended.
            found += (element.replace(_AT, f' frame="{frame}" keyframe="1" outside="1"') for element in elements)
    return found
