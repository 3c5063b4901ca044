"""A sample of a version in canonical form, and its digest.

Floats are written as the shortest text that reads back to the same bits, labels are sorted, masks are run lengths (a
compressed array would depend on the compressor), so equal content is equal text in every process and on every machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import InvalidDataError
from osv_lab.core.settings import SPLITS
from osv_lab.store.bulk_read import Content
from osv_lab.store.geometry import compress_counts, decompress_counts, from_run_lengths, run_lengths
from osv_lab.store.records import Box, ImageClass, Keypoints, Label, OrientedBox, Polygon

Plain = dict[str, Any]


@dataclass(slots=True)
class Entry:
    """One sample of a version.

    Attributes:
        media: SHA-256 of the media file's bytes.
        split: ``train``, ``val``, ``test`` or ``None``.
        labelled: Whether someone has labelled it.
        labels: Labels per field.
        frames: For a video: labels per frame field and frame number.
        name: The media file's name in the version.
        tags: Tags other than splits.
        metadata: FiftyOne's metadata document of the media.
        values: Further sample fields.
        capture: What a server said of it, where it was captured.
        origin: SHA-256 of the media file that this one was made from; ``media`` for one that was left as it was.
        variant: Which of the files made from ``origin`` it is (``tile-0-1``, ``augmented-2``).
        also: SHA-256 of further media files whose pixels are in it (a mosaic's).
        key: Digest of the content: the first five attributes. Set by :func:`write_entry` and :func:`read_entry`.
    """

    media: str
    split: str | None
    labelled: bool
    labels: dict[str, list[Label]]
    frames: dict[str, dict[int, list[Label]]] | None
    name: str
    origin: str
    tags: tuple[str, ...] = ()
    metadata: Plain = field(default_factory=dict)
    values: Plain = field(default_factory=dict)
    capture: Plain = field(default_factory=dict)
    variant: str = ""
    also: tuple[str, ...] = ()
    key: str = ""

    @property
    def ident(self) -> str:
        """What makes it the same sample in two versions: where it came from, whatever became of its labels."""
        return bytes_digest(f"{self.origin} {self.variant}".encode()) if self.variant else self.origin

    def all_labels(self) -> Iterable[Label]:
        """Every label, those of frames included."""
        for labels in self.labels.values():
            yield from labels
        for frames in (self.frames or {}).values():
            for labels in frames.values():
                yield from labels


def entry_of(content: Content, media: str, split: str | None, name: str) -> Entry:
    """A sample as the store has it, as one of a version."""
    return Entry(
        media=media,
        split=split,
        labelled=content.labelled,
        labels=content.labels,
        frames=content.frames,
        name=name,
        tags=tuple(tag for tag in content.tags if tag not in SPLITS),
        metadata=content.metadata,
        values=content.values,
        capture=content.capture,
        origin=media,
    )


def write_entry(entry: Entry) -> bytes:
    """The entry as a line of the manifest, without its line break. Sets ``entry.key``."""
    content = _canonical(
        {
            "media": entry.media,
            "split": entry.split,
            "labelled": entry.labelled,
            "labels": {name: _sorted(labels) for name, labels in entry.labels.items()},
            "frames": entry.frames
            and {
                name: {str(number): _sorted(labels) for number, labels in frames.items() if labels}
                for name, frames in entry.frames.items()
            },
        }
    )
    entry.key = bytes_digest(content)
    carried: Plain = {"name": entry.name, "tags": sorted(entry.tags)}
    carried |= {"metadata": entry.metadata, "values": _finite(entry.values)}
    if entry.capture:
        carried["capture"] = entry.capture
    if entry.variant or entry.origin != entry.media:
        carried |= {"origin": entry.origin, "variant": entry.variant, "also": sorted(entry.also)}
    return b'{"key":"%s","content":%s,"with":%s}' % (entry.key.encode(), content, _canonical(carried))


def read_entry(line: bytes) -> Entry:
    """The inverse of :func:`write_entry`.

    Raises:
        InvalidDataError: the line is not one, or its content does not have its digest.
    """
    try:
        found = json.loads(line)
        content, carried = found["content"], found["with"]
        if bytes_digest(_canonical(content)) != found["key"]:
            raise InvalidDataError("a sample of a version does not have its digest", found["key"], "pull it again")
        frames = content["frames"]
        return Entry(
            media=str(content["media"]),
            split=content["split"],
            labelled=content["labelled"],
            labels={name: [_read(label) for label in labels] for name, labels in content["labels"].items()},
            frames=None
            if frames is None
            else {
                name: {int(number): [_read(label) for label in labels] for number, labels in numbers.items()}
                for name, numbers in frames.items()
            },
            name=str(carried["name"]),
            tags=tuple(carried["tags"]),
            metadata=carried["metadata"],
            values=carried["values"],
            capture=carried.get("capture", {}),
            origin=carried.get("origin", content["media"]),
            variant=carried.get("variant", ""),
            also=tuple(carried.get("also", ())),
            key=found["key"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidDataError(
            "not a line of a version's manifest", line[:80], "pull the version again"
        ) from error


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogateescape")


def _sorted(labels: Iterable[Label]) -> list[Plain]:
    return sorted((plain_label(label) for label in labels), key=_canonical)


def plain_label(label: Label) -> Plain:
    """A label as JSON can say it. Absent parts are left out; a point that is not labelled is ``null``."""
    plain: Plain = {"kind": label.kind, "label": label.label}
    if isinstance(label, Box):
        plain["xywh"] = [float(value) for value in label.xywh]
        if label.mask is not None:
            mask = np.asarray(label.mask, dtype=bool)
            counts = compress_counts(run_lengths(mask.ravel(order="F")))
            plain["mask"] = {"size": list(mask.shape), "counts": counts}
    elif isinstance(label, Polygon):
        plain["rings"] = [_points(ring) for ring in label.rings]
        plain["closed"] = label.closed
    elif isinstance(label, OrientedBox):
        plain["corners"] = _points(label.corners)
    elif isinstance(label, Keypoints):
        plain["points"] = _points(label.points)
        plain |= {key: list(value) for key, value in (("visible", label.visible), ("xywh", label.xywh)) if value}
        if label.scores:
            plain["scores"] = [None if math.isnan(score) else float(score) for score in label.scores]
    if label.confidence is not None and math.isfinite(label.confidence):
        plain["confidence"] = float(label.confidence)
    if not isinstance(label, ImageClass) and label.index is not None:
        plain["index"] = int(label.index)
    if attributes := _finite(label.attributes):
        plain["attributes"] = attributes
    return plain


def _points(points: Sequence[Sequence[float]]) -> list[list[float] | None]:
    return [[float(x), float(y)] if math.isfinite(x) and math.isfinite(y) else None for x, y in points]


def _finite(values: Mapping[str, Any]) -> Plain:
    return {name: value for name, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def _read(plain: Mapping[str, Any]) -> Label:
    """The inverse of :func:`plain_label`."""
    name, kind = plain["label"], plain["kind"]
    common: Plain = {"confidence": plain.get("confidence"), "attributes": plain.get("attributes", {})}
    if kind == "class":
        return ImageClass(name, **common)
    common["index"] = plain.get("index")
    if kind in ("box", "mask"):
        return Box(name, tuple(plain["xywh"]), _mask(plain.get("mask")), **common)
    if kind == "polygon":
        rings = tuple(tuple((x, y) for x, y in ring) for ring in plain["rings"])
        return Polygon(name, rings, closed=plain["closed"], **common)
    if kind == "oriented_box":
        a, b, c, d = ((x, y) for x, y in plain["corners"])
        return OrientedBox(name, (a, b, c, d), **common)
    nowhere = (math.nan, math.nan)
    return Keypoints(
        name,
        tuple(nowhere if point is None else (point[0], point[1]) for point in plain["points"]),
        visible=tuple(plain.get("visible", ())),
        xywh=tuple(plain["xywh"]) if "xywh" in plain else None,
        scores=tuple(math.nan if score is None else score for score in plain.get("scores", ())),
        **common,
    )


def _mask(stated: Mapping[str, Any] | None) -> np.ndarray | None:
    if stated is None:
        return None
    height, width = stated["size"]
    if not 0 <= height * width <= 1 << 27:
        raise ValueError(f"a mask of {width} x {height} pixels")
    flat = from_run_lengths(decompress_counts(stated["counts"]), height * width)
    return flat.reshape(height, width, order="F")
