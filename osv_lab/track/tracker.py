"""Trackers on ``supervision.Detections``: one protocol, and the object most users need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError, UsageError, nearest
from osv_lab.track.botsort import BotSort
from osv_lab.track.bytetrack import ByteTrack
from osv_lab.track.camera import CameraMotion, camera_motion_by_name
from osv_lab.track.compiled import compiled_kind
from osv_lab.track.deepsort import DeepSort
from osv_lab.track.embedder import Embedder, open_embedder
from osv_lab.track.settings import BotSortSettings, ByteTrackSettings, DeepSortSettings
from osv_lab.track.table import UNTRACKED
from osv_lab.track.tracks import Floats, Ints

if TYPE_CHECKING:
    import supervision as sv

    from osv_lab.track.result import TrackResult
    from osv_lab.track.source import Source

Image = npt.NDArray[np.uint8]
CAMERA_MOTION = ("boxes", "flow", "ecc", "none")

EMBEDDING = "embedding"
"""Key of ``detections.data`` under which embeddings (n, d) are looked for."""

ALGORITHMS: dict[str, tuple[type[Any], type[Any]]] = {
    "bytetrack": (ByteTrack, ByteTrackSettings),
    "botsort": (BotSort, BotSortSettings),
    "deepsort": (DeepSort, DeepSortSettings),
}


class Tracker(Protocol):
    """What gives detections identities, frame by frame; one object per source."""

    def update(
        self,
        detections: sv.Detections,
        frame: Image | None = None,
        timestamp: float | None = None,
        warp: npt.ArrayLike | None = None,
    ) -> sv.Detections:
        """The detections of the next frame with ``tracker_id``."""

    def reset(self) -> None:
        """Forget everything: identities start at 1 again."""

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""


class ObjectTracker:
    """A tracker by name, with defaults that follow the detector.

    Args:
        algorithm: ``"botsort"`` (the default), ``"bytetrack"`` or ``"deepsort"``; or a mapping with the key
            ``algorithm`` and any of the options below.
        frame_rate: Frames per second of the source.
        preset: ``"default"``, or ``"published"`` for the papers' MOT17 settings of ByteTrack and BoT-SORT.
        boxes: ``"detected"`` gives the detector's boxes back, ``"filtered"`` the smoother ones of the Kalman filter.
        keep_untracked: Give detections without an identity back too, with ``tracker_id`` -1.
        embedder: Looks at boxes in the frame, for BoT-SORT and DeepSORT: ``"classical"`` (colours and edges), the path
            of an ``.onnx`` network, or an object or function of frame and (n, 4) boxes that gives (n, d) embeddings
            (:mod:`osv_lab.track.embedder`). They can also come with the detections as
            ``detections.data["embedding"]``, (n, d).
        camera_motion: How the camera's motion is found when no warp is given: ``"boxes"`` from the boxes alone (not
            for DeepSORT), ``"flow"`` or ``"ecc"`` from the frames and, for the rest or where that fails, from the
            boxes (:mod:`osv_lab.track.camera`), ``"none"``, or an object with ``estimate(frame, xyxy)``.
        compiled: ``True`` updates by compiled loops (``pip install osv-lab[fast]``): the same identities many times
            faster, after some ten seconds of compiling the first time. ``"auto"`` does so where that has been done,
            ``False`` never. What is not compiled (DeepSORT, embeddings) runs in NumPy.
        **settings: Fields of the algorithm's settings (:mod:`osv_lab.track.settings`).

    Raises:
        UsageError: an unknown algorithm or option.

    Example:
        >>> import numpy as np, supervision as sv
        >>> tracker = ObjectTracker("bytetrack", frame_rate=25)
        >>> seen = sv.Detections(xyxy=np.array([[10., 10, 50, 90]]), confidence=np.array([0.8]), class_id=np.array([0]))
        >>> tracker.update(seen).tracker_id.tolist()
        [1]
        >>> ObjectTracker({"algorithm": "botsort", "lost_s": 2}).tracker.settings.lost_s
        2
    """

    def __init__(
        self,
        algorithm: str | Mapping[str, Any] = "botsort",
        *,
        frame_rate: float = 30.0,
        preset: str = "default",
        boxes: str = "detected",
        keep_untracked: bool = False,
        embedder: str | Path | Embedder | Callable[[Image, Floats], npt.NDArray[Any]] | None = None,
        camera_motion: str | CameraMotion = "boxes",
        compiled: bool | str = "auto",
        **settings: Any,
    ) -> None:
        if isinstance(algorithm, Mapping):
            options: dict[str, Any] = {
                "frame_rate": frame_rate,
                "preset": preset,
                "boxes": boxes,
                "keep_untracked": keep_untracked,
                "compiled": compiled,
                "embedder": embedder,
                "camera_motion": camera_motion,
                **settings,
                **algorithm,
            }
            ObjectTracker.__init__(self, options.pop("algorithm", "botsort"), **options)
            return
        if algorithm not in ALGORITHMS:
            raise UsageError("unknown tracker", repr(algorithm), nearest(str(algorithm), ALGORITHMS))
        for name, value, allowed in (
            ("preset", preset, ("default", "published")),
            ("boxes", boxes, ("detected", "filtered")),
            ("camera_motion", camera_motion if isinstance(camera_motion, str) else "none", CAMERA_MOTION),
            ("choice for compiled", compiled, ("auto", True, False)),
        ):
            if value not in allowed:
                raise UsageError(f"unknown {name}", repr(value), nearest(str(value), map(str, allowed)))
        kind, settings_kind = ALGORITHMS[algorithm]
        known = {field.name for field in fields(settings_kind)}
        for name in settings:
            if name not in known:
                raise UsageError(f"{algorithm} has no option", repr(name), nearest(name, known))
        if camera_motion == "none" and "follow_camera" in known:
            settings = {"follow_camera": False, **settings}
        published = preset == "published" and hasattr(settings_kind, "published")
        chosen = settings_kind.published(**settings) if published else settings_kind(**settings)
        if compiled:
            kind = compiled_kind(kind, needed=compiled is True)
        self.algorithm = algorithm
        self.tracker: ByteTrack | DeepSort = kind(chosen, frame_rate=frame_rate)
        self.boxes = boxes
        self.keep_untracked = keep_untracked
        if embedder is not None and algorithm == "bytetrack":
            raise UsageError("bytetrack does not look at objects", "an embedder", 'use "botsort" or "deepsort"')
        self.embedder = open_embedder(embedder)
        self.camera = camera_motion_by_name(camera_motion) if isinstance(camera_motion, str) else camera_motion
        self._names: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"ObjectTracker({self.algorithm!r}, {self.tracker.settings})"

    def explain(self) -> str:
        """The thresholds in use and why, in one line."""
        return self.tracker.explain()

    def reset(self) -> None:
        """Forget everything: the next frame is the first of a new source, identities start at 1."""
        self.tracker.reset()
        if self.camera is not None:
            self.camera.reset()

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on."""
        return {**self.tracker.state(), **({} if self.camera is None else self.camera.state())}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state` of a tracker with the same options."""
        self.tracker.restore(state)
        if self.camera is not None:
            self.camera.restore(state)

    def update_arrays(
        self,
        xyxy: npt.ArrayLike,
        confidence: npt.ArrayLike,
        class_id: npt.ArrayLike | None = None,
        *,
        timestamp: float | None = None,
        warp: npt.ArrayLike | None = None,
        embeddings: npt.ArrayLike | None = None,
    ) -> Ints:
        """The plain-array core: (n,) identities of (n, 4) boxes, -1 where there is none."""
        if isinstance(self.tracker, BotSort | DeepSort):
            return self.tracker.update(
                xyxy, confidence, class_id, timestamp=timestamp, warp=warp, embeddings=embeddings
            )
        if embeddings is not None:
            raise UsageError("bytetrack does not look at objects", "embeddings", 'use "botsort" or "deepsort"')
        return self.tracker.update(xyxy, confidence, class_id, timestamp=timestamp, warp=warp)

    def update(
        self,
        detections: sv.Detections,
        frame: Image | None = None,
        timestamp: float | None = None,
        warp: npt.ArrayLike | None = None,
    ) -> sv.Detections:
        """Take the detections of the next frame.

        Args:
            detections: What the detector found, also when that is nothing. Without confidence, all count as sure.
            frame: (h, w, 3) BGR, for the embedder and for camera motion from images.
            timestamp: Seconds since the start of the source; with every frame or with none.
            warp: (2, 3) camera motion from the frame before to this one, if it is known.

        Returns:
            The detections that have an identity (or all, with ``keep_untracked``), in their order, with ``tracker_id``.
            ``class_id`` and ``data["class_name"]`` are the track's, by vote; what the detector said is in
            ``data["detected_class_id"]``.
        """
        count = len(detections)
        confidence = np.ones(count) if detections.confidence is None else detections.confidence
        embeddings = self._embeddings(detections, frame)
        if self.camera is not None and warp is None:
            if frame is None:
                raise UsageError(
                    "camera motion needs the image", "frame=None", "pass frame or warp with every update"
                )
            warp = self.camera.estimate(frame, np.asarray(detections.xyxy, dtype=np.float64))
        ids = self.update_arrays(
            detections.xyxy, confidence, detections.class_id, timestamp=timestamp, warp=warp, embeddings=embeddings
        )
        chosen = np.arange(count) if self.keep_untracked else (ids != UNTRACKED).nonzero()[0]
        tracked = detections[chosen]
        tracked.tracker_id = ids[chosen]
        if count:
            self._vote(tracked, detections)
        if self.boxes == "filtered" and len(chosen):
            self._filter(tracked)
        return tracked

    def track_video(
        self,
        source: str | int | Path | Source,
        model: object,
        output: str | Path | Sequence[str | Path] | None = None,
        **options: Any,
    ) -> TrackResult:
        """Track the objects of a video with this tracker; see :func:`osv_lab.track.video.track_video`."""
        from osv_lab.track.video import track_video

        return track_video(source, model, output, tracker=self, **options)

    def _embeddings(self, detections: sv.Detections, frame: Image | None) -> npt.NDArray[Any] | None:
        if self.algorithm == "bytetrack":
            return None
        given = detections.data.get(EMBEDDING)
        if given is not None:
            return np.asarray(given)
        if self.embedder is None:
            return None
        if frame is None:
            raise UsageError("the embedder needs the image", "frame=None", "pass frame with every update")
        found = np.asarray(self.embedder.embed(frame, np.asarray(detections.xyxy, dtype=np.float64)))
        if len(found) != len(detections):
            raise InvalidDataError(
                "the embedder gave another number of rows", f"{len(found)} of {len(detections)}"
            )
        return found if len(found) else None

    def _vote(self, tracked: sv.Detections, detections: sv.Detections) -> None:
        """Give tracked objects the class of their track; names are learnt from all detections."""
        if tracked.class_id is None or detections.class_id is None:
            return
        names = detections.data.get("class_name")
        if names is not None:
            self._names.update(zip(detections.class_id.tolist(), map(str, names), strict=True))
        voted = self.tracker.classes()
        identities, said = cast(Ints, tracked.tracker_id).tolist(), tracked.class_id.tolist()
        class_id = [voted.get(k, c) for k, c in zip(identities, said, strict=True)]
        tracked.data["detected_class_id"] = tracked.class_id
        tracked.class_id = np.array(class_id, dtype=tracked.class_id.dtype)
        if names is not None and class_id:
            tracked.data["class_name"] = np.array([self._names[c] for c in class_id])

    def _filter(self, tracked: sv.Detections) -> None:
        ids, boxes = self.tracker.current()
        where = {k: row for row, k in enumerate(ids.tolist())}
        rows = [(k, where[i]) for k, i in enumerate(tracked.tracker_id.tolist()) if i in where]
        if rows:
            at, row = np.array(rows).T
            tracked.xyxy = tracked.xyxy.copy()
            tracked.xyxy[at] = boxes[row]
