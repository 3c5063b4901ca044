"""One clip through one tracker: frames with their detections in, tracks as arrays out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import OsvError
from osv_lab.detect.confidence import limit_of
from osv_lab.store.bulk_tracks import read_frames
from osv_lab.store.clips import Clip
from osv_lab.store.convert.supervision import CLASS_NAME, detections_of
from osv_lab.store.documents import labels_of_container
from osv_lab.store.predict import decoded_images
from osv_lab.track.decode import VideoSource, read_ahead
from osv_lab.track.tracks import Tracks

if TYPE_CHECKING:
    import fiftyone as fo

    from osv_lab.track.tracker import ObjectTracker

_AHEAD = 16


@dataclass
class Followed:
    """The tracks of one clip.

    Attributes:
        tracks: Those with an identity; ``class_id`` is what the detector said.
        untracked: The other detections, if the tracker gives them back.
        classes: Class names by ``class_id``.
        frames: How many frames there were.
        size: ``(width, height)`` of the images, if they were decoded.
        failed: Why frames have no detections, by frame number.
        explained: The tracker's thresholds and why.
    """

    tracks: Tracks
    untracked: Tracks
    classes: Mapping[int, str]
    frames: int = 0
    size: tuple[int, int] | None = None
    failed: dict[int, str] = field(default_factory=dict)
    explained: str = ""


def follow(
    tracker: ObjectTracker, frames: Iterable[tuple[int, Any, Any]], tell: Callable[[int], None]
) -> Followed:
    """Track a clip.

    Args:
        tracker: A fresh tracker.
        frames: Frame numbers, in order, with detections (or the error that stands in their way) and the image, if any.
            Numbers that are left out are frames without detections.
        tell: Called with each frame's number.
    """
    import supervision as sv

    rows: list[Any] = []
    classes: dict[int, str] = {}
    failed: dict[int, str] = {}
    size, count, last = None, 0, 0
    for number, detections, image in frames:
        if isinstance(detections, OsvError):
            failed[number] = str(detections)
            detections = sv.Detections.empty()
        for _ in range(last + 1, number):
            tracker.update(sv.Detections.empty())
        last = number
        if isinstance(image, np.ndarray):
            size = image.shape[1], image.shape[0]
        else:
            image = None
        out = tracker.update(detections, image)
        if len(out):
            seen = out.data.get("detected_class_id", out.class_id)
            seen = np.zeros(len(out), np.int64) if seen is None else np.asarray(seen)
            if detections.class_id is not None:
                names = detections.data[CLASS_NAME].tolist()
                classes.update(zip(detections.class_id.tolist(), map(str, names), strict=True))
            confidence = np.ones(len(out)) if out.confidence is None else out.confidence
            rows.append((np.full(len(out), number), out.tracker_id, out.xyxy, confidence, seen))
        count += 1
        tell(number)
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)] if rows else None
    found = Followed(Tracks.empty(), Tracks.empty(), classes or {0: "object"}, count, size, failed)
    found.explained = tracker.explain()
    if columns is not None:
        known = columns[1] >= 0
        found.tracks = Tracks(*(column[known] for column in columns))
        rest = [column[~known] for column in columns]
        rest[1] = np.arange(len(rest[1]))
        found.untracked = Tracks(*rest)
    return found


def decoded(clip: Clip) -> Iterator[tuple[int, Any]]:
    """Every frame's number and BGR image, or the error that stands in its way.

    Frames of a video that cannot be decoded are left out.

    Raises:
        InvalidDataError: the video cannot be opened.
    """
    if clip.video:
        for frame in read_ahead(VideoSource(clip.path)):
            yield frame.number, frame.image
        return
    todo = ((clip.samples[number], clip.paths[number]) for number in clip.samples)
    for number, image in zip(clip.samples, decoded_images(todo, _AHEAD), strict=True):
        yield number, image.pixels


def stored(
    view: fo.SampleCollection,
    clip: Clip,
    from_field: str,
    settings: Mapping[str, Any],
    images: Iterator[tuple[int, Any]] | None,
) -> Iterator[tuple[int, Any, Any]]:
    """Every frame's detections out of a field, with its image if ``images`` are given."""
    size = clip.size()
    found = {
        number: labels_of_container({"_cls": "Detections", "detections": documents})
        for number, documents in read_frames(view, clip, from_field)
    }
    wanted, limits = settings["classes"], settings["confidence"]
    names = sorted({label.label for labels in found.values() for label in labels})
    last = max(clip.frames or 0, *found, 0)
    numbers = iter(range(1, last + 1)) if clip.video else iter(clip.samples)
    for number, image in ((number, None) for number in numbers) if images is None else images:
        labels = [
            label
            for label in found.get(number, ())
            if (label.confidence is None or label.confidence > limit_of(limits, label.label))
            and (wanted is None or label.label in wanted)
        ]
        yield number, detections_of(labels, size, names), image
