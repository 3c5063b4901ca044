"""Tracks (arrays, absolute pixels) to and from the labels of a clip's frames (relative, named)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.store.records import Box
from osv_lab.track.tracks import Floats, Ints, Tracks

_DECIMALS = 6
"""Pixels are read back to a millionth: a box that came from a file of hundredths is that box again, to the last bit."""

DETECTED = "detected_label"
"""The attribute of a tracked box that the detector took for another class than its track."""

IGNORED = "ignored"
"""The attribute of a truth box that is not to be considered; ``confidence`` 0 in :class:`Tracks`."""


@dataclass(frozen=True, eq=False)
class LabelledTracks:
    """The tracks of one clip with the labels they are kept in, row by row.

    Attributes:
        tracks: Frame, identity, box (pixels), confidence (1 where the label has none, 0 where it is ``ignored``), and
            ``class_id`` as the position of the label's class in ``classes``.
        index: (m,) the labels' own ``index``. It is ``tracks.track_id``, unless classes share indices.
        label_id: (m,) ids of the labels.
        classes: Class names, sorted.
        detected: (m,) the class the detector saw, as a position in ``classes``.
        without_index: How many labels have no ``index`` and so are left out.
        labelled: (f,) frame numbers that have a field at all, sorted; it may be empty there.
    """

    tracks: Tracks
    index: Ints
    label_id: npt.NDArray[Any]
    classes: tuple[str, ...]
    detected: Ints
    without_index: int
    labelled: Ints

    def select(self, rows: npt.NDArray[Any]) -> LabelledTracks:
        """The rows chosen by a mask or by increasing positions."""
        return LabelledTracks(
            self.tracks[rows],
            self.index[rows],
            self.label_id[rows],
            self.classes,
            self.detected[rows],
            self.without_index,
            self.labelled,
        )

    def named(self, track_id: int | None) -> tuple[int | None, str]:
        """The ``index`` and the class of an identity; ``None`` and ``""`` for none."""
        if track_id is None:
            return None, ""
        row = int(np.flatnonzero(self.tracks.track_id == track_id)[0])
        return int(self.index[row]), self.classes[int(self.tracks.class_id[row])]


def frame_labels(
    tracks: Tracks,
    size: tuple[int, int],
    names: Mapping[int, str],
    frames: int,
    detected: Mapping[int, str] | None = None,
) -> Iterator[tuple[int, list[Box]]]:
    """The boxes of every frame from 1 to ``frames``, as labels.

    Args:
        tracks: What to convert.
        size: ``(width, height)`` of the frames, pixels.
        names: The class name of each identity.
        frames: How many frames; those without boxes get an empty list.
        detected: Class names by ``tracks.class_id``, to note where the detector saw another class than the track's.
    """
    scale = np.array([*size, *size], dtype=np.float64)
    xywh = np.concatenate((tracks.xyxy[:, :2], tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]), axis=1) / scale
    spans = tracks.spans(frames).tolist()
    columns = (tracks.track_id.tolist(), xywh.tolist(), tracks.confidence.tolist(), tracks.class_id.tolist())
    for number in range(1, frames + 1):
        rows = slice(spans[number - 1], spans[number])
        labels = []
        for identity, (x, y, w, h), confidence, seen in zip(*(column[rows] for column in columns), strict=True):
            name = names[identity]
            other = detected is not None and detected[seen] != name
            attributes = {DETECTED: detected[seen]} if other and detected is not None else {}
            labels.append(Box(name, (x, y, w, h), None, confidence, identity, attributes))
        yield number, labels


def tracks_of(frames: Iterable[tuple[int, Sequence[Mapping[str, Any]]]], size: tuple[int, int]) -> LabelledTracks:
    """The tracks in the raw detection documents of a clip's frames.

    FiftyOne counts ``index`` per class. Where one frame has an index twice, identities are the pairs of class and
    index, numbered from 1; otherwise a label's index is its identity, whatever its class.

    Args:
        frames: Frame numbers, in order, with the documents of a ``Detections`` field.
        size: ``(width, height)`` of the frames, pixels.

    Raises:
        InvalidDataError: an identity twice in one frame, or a box that is not finite.
    """
    number: list[int] = []
    labelled: list[int] = []
    found: list[Mapping[str, Any]] = []
    without = 0
    for frame, documents in frames:
        labelled.append(frame)
        tracked = [document for document in documents if document.get("index") is not None]
        without += len(documents) - len(tracked)
        number += [frame] * len(tracked)
        found += tracked
    labels = [document.get("label") or "" for document in found]
    seen = [document.get(DETECTED) or label for document, label in zip(found, labels, strict=True)]
    classes = tuple(sorted({*labels, *seen}))
    place = {name: k for k, name in enumerate(classes)}
    class_id = np.array([place[name] for name in labels], dtype=np.int64)
    index = np.array([document["index"] for document in found], dtype=np.int64)
    confidence = [
        0.0 if document.get(IGNORED) else 1.0 if document.get("confidence") is None else document["confidence"]
        for document in found
    ]
    tracks = Tracks(
        number, _identities(np.array(number), index, class_id), _pixels(found, size), confidence, class_id
    )
    # Rows come by frame, so the order that tracks are kept in is the order here.
    return LabelledTracks(
        tracks,
        index,
        np.array([str(document["_id"]) for document in found], dtype=object),
        classes,
        np.array([place[name] for name in seen], dtype=np.int64),
        without,
        np.array(labelled, dtype=np.int64),
    )


def _pixels(documents: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> Floats:
    xywh = np.array([document["bounding_box"] for document in documents], dtype=np.float64).reshape(-1, 4)
    xywh = np.round(xywh * np.array([*size, *size], dtype=np.float64), _DECIMALS)
    return np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1)


def _identities(frame: npt.NDArray[Any], index: Ints, class_id: Ints) -> Ints:
    places = np.column_stack((frame.reshape(-1), index)) if len(index) else np.empty((0, 2), np.int64)
    if len(np.unique(places, axis=0)) == len(places):
        return index
    pairs = np.column_stack((class_id, index))
    return np.asarray(np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1) + 1, dtype=np.int64)
