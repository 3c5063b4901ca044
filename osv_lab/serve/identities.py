"""Identities for the objects of a stream: a tracker behind predictions as they are answered, without pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import OsvError, UsageError, nearest
from osv_lab.serve.errors import RequestError, as_request_error

if TYPE_CHECKING:
    from osv_lab.track.tracker import ObjectTracker

TRACKERS = ("bytetrack", "botsort")
"""Trackers that need nothing but boxes; DeepSORT looks at the objects themselves."""

CONFIDENCE = 0.1
"""Detections above this reach a tracker where nothing else is asked: it has a use for weak ones; as ``osv track``."""

MOST_DETECTIONS = 300
"""Most detections in a frame that is tracked: association compares each with every track."""

LONGEST_LOST_S = 30.0
"""Longest time that a client may have lost tracks kept."""

# No real scene has as many within a second; a client that makes them up must not fill the memory.
_MOST_TRACKS = 5_000
_NAMES = ("algorithm", "preset", "boxes")


Track = bool | str | Mapping[str, bool | int | float | str | None]
"""``True`` or a tracker's name, ``False`` for none, or a mapping of ``algorithm``, ``preset``, ``boxes`` and any of the
numbers in :mod:`osv_lab.track.settings`."""


def prepare() -> None:
    """Import what tracking needs; called in a thread, so that the event loop does not wait for it."""
    import supervision

    from osv_lab.track import tracker

    assert supervision and tracker


def checked_options(options: Mapping[str, Any], track: Track) -> dict[str, Any]:
    """Options of predictions as a stream that is tracked has them.

    Raises:
        RequestError: 422, more detections than are tracked.
    """
    if track is False:
        return dict(options)
    if options.get("max_detections", 0) > MOST_DETECTIONS:
        raise RequestError(
            422,
            "too many detections to be tracked",
            f"max_detections {options['max_detections']}",
            f'ask for at most {MOST_DETECTIONS}, or send "track": false',
        )
    return {"confidence_threshold": CONFIDENCE, "max_detections": MOST_DETECTIONS, **options}


class Identities:
    """Gives the objects of one stream their ``track_id``.

    Args:
        track: Which tracker; see :data:`Track`.
        frame_rate: Frames per second of the stream.

    Attributes:
        ids: The identity of each prediction of the last frame, -1 where it has none.

    Raises:
        RequestError: 422, a tracker or setting there is not.

    Example:
        >>> box = {"x1": 10.0, "y1": 10.0, "x2": 50.0, "y2": 90.0}
        >>> seen = {"class": "cat", "class_id": 0, "confidence": 0.9, "box": box}
        >>> Identities("bytetrack").update([seen], 0.0)[0]["track_id"]
        1
    """

    def __init__(self, track: Track = True, frame_rate: float = 30.0) -> None:
        self.ids: tuple[int, ...] = ()
        try:
            self._tracker = None if track is False else _tracker(track, frame_rate)
        except OsvError as error:
            raise as_request_error(error) from None
        except (TypeError, ValueError, OverflowError) as error:
            raise RequestError(
                422, "the tracker's settings cannot be used", error, "numbers are numbers"
            ) from None

    def update(self, predictions: Sequence[Mapping[str, Any]], timestamp_s: float) -> list[dict[str, Any]]:
        """The objects of the next frame that have an identity, with ``track_id``; their class is the track's.

        Args:
            predictions: As ``POST /predict`` answers them.
            timestamp_s: Seconds since the stream began, growing.

        Returns:
            Those that are tracked; all of them, without ``track_id``, where nothing is.
        """
        if self._tracker is None:
            self.ids = (-1,) * len(predictions)
            return [dict(one) for one in predictions]
        import numpy as np
        import supervision as sv

        boxes = [[one["box"][side] for side in ("x1", "y1", "x2", "y2")] for one in predictions]
        found = sv.Detections(
            xyxy=np.array(boxes, np.float32).reshape(-1, 4),
            confidence=np.array([one["confidence"] for one in predictions], np.float32),
            class_id=np.array([one["class_id"] for one in predictions], int),
            data={
                "class_name": np.array([one["class"] for one in predictions], dtype=str),
                "row": np.arange(len(predictions)),
            },
        )
        tracked = self._tracker.update(found, timestamp=timestamp_s)
        if self._tracker.tracker.tracks.shape[1] > _MOST_TRACKS:
            self._tracker.reset()
        answer, ids = [], [-1] * len(predictions)
        for index, row in enumerate(tracked.data["row"].tolist() if len(tracked) else []):
            ids[row] = int(tracked.tracker_id[index])
            one = dict(predictions[row])
            one["class"], one["class_id"] = str(tracked.data["class_name"][index]), int(tracked.class_id[index])
            if self._tracker.boxes == "filtered":
                sides = np.nan_to_num(tracked.xyxy[index].astype(float)).round(2).tolist()
                one["box"] = dict(zip(("x1", "y1", "x2", "y2"), sides, strict=True))
            answer.append({**one, "track_id": ids[row]})
        self.ids = tuple(ids)
        return answer


def _tracker(track: Track, frame_rate: float) -> ObjectTracker:
    from osv_lab.track.tracker import ALGORITHMS, ObjectTracker

    given = dict(track) if isinstance(track, Mapping) else {"algorithm": "bytetrack" if track is True else track}
    algorithm = given.setdefault("algorithm", "bytetrack")
    if algorithm not in TRACKERS:
        raise UsageError("no such tracker here", repr(algorithm), nearest(str(algorithm), TRACKERS))
    # What names files or wants pixels is no client's to choose.
    allowed = {*_NAMES, *(field.name for field in fields(ALGORITHMS[algorithm][1]))}
    for name in given:
        if name not in allowed:
            raise UsageError(f"{algorithm} has no option", repr(name), nearest(name, allowed))
        if isinstance(given[name], str) and name not in _NAMES:
            raise UsageError(f"{name} must be a number", repr(given[name]))
    lost_s = given.get("lost_s")
    if isinstance(lost_s, (int, float)) and not 0 <= lost_s <= LONGEST_LOST_S:
        raise UsageError(f"lost_s must lie between 0 and {LONGEST_LOST_S:g}", lost_s)
    return ObjectTracker(given, frame_rate=frame_rate, camera_motion="boxes", compiled=False)
