"""Track a video from end to end: decode, detect in batches, track, count, draw and write, at the same time.

Three threads: one decodes ahead, one draws and encodes, and the caller's detects and tracks. What is found goes to
disk as it comes (:mod:`osv_lab.track.spool`), so memory does not grow with the video, and a killed run goes on where
its last checkpoint was.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.detect.detector import IOU, Detector, class_ids
from osv_lab.detect.nms import nms
from osv_lab.track.ahead import Ahead, Behind, Silent
from osv_lab.track.result import TrackResult, identities_of
from osv_lab.track.source import STALL_S, Frame, Source, VideoEvent, open_source
from osv_lab.track.spool import BOX, Rows, Spool
from osv_lab.track.tracker import ObjectTracker
from osv_lab.track.trackfiles import plan_outputs, write_coco, write_json, write_mot
from osv_lab.track.zones import Line, Zone, ZoneCounter, ZoneEvent

if TYPE_CHECKING:
    import supervision as sv

    from osv_lab.track.draw import Drawer
    from osv_lab.track.writer import SegmentWriter

CONFIDENCE = 0.1
"""Detections above this reach the tracker, which has a use for weak ones too."""

# A source ends itself after stall_s and the time-outs of its last attempts; one that does not by then hangs.
_PATIENCE = 3


def track_video(
    source: str | int | Path | Source,
    model: object,
    output: str | Path | Sequence[str | Path] | None = None,
    *,
    tracker: ObjectTracker | str | Mapping[str, Any] = "botsort",
    formats: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
    iou: float = IOU,
    classes: Sequence[str | int] | None = None,
    agnostic: bool = False,
    areas: Sequence[Line | Zone] = (),
    every: int = 1,
    batch_size: int = 8,
    max_frames: int | None = None,
    frame_rate: float | None = None,
    stall_s: float = STALL_S,
    checkpoint_s: float = 5.0,
    resume: bool = True,
    progress: Progress = silent,
) -> TrackResult:
    """Track the objects of a video.

    Args:
        source: A video file, a folder of images, a camera's index or a stream's address
            (:func:`osv_lab.track.source.open_source`).
        model: A detector, or what :func:`osv_lab.detect.load_detector` loads.
        output: Files to write: ``.mp4`` (``.mov``, ``.mkv``) for the annotated video, ``.txt`` for MOTChallenge,
            ``.coco.json``, ``.json``; or a folder. Nothing is written when ``None``.
        tracker: An :class:`~osv_lab.track.tracker.ObjectTracker` (it is reset), or what one is made from.
        formats: ``"video"``, ``"mot"``, ``"coco"``, ``"json"``: further files beside the output.
        confidence: Detections above it reach the tracker.
        iou: Overlap above which the weaker of two boxes goes.
        classes: Names or ids of the classes to track; all when ``None``.
        agnostic: The weaker of two boxes goes also when they are of different classes: for a detector that takes one
            object for several things.
        areas: :class:`~osv_lab.track.zones.Line` and :class:`~osv_lab.track.zones.Zone` to count at.
        every: Look at every so many frames only. A written video has these frames, at their own times.
        batch_size: Frames per run of the network.
        max_frames: Stop after so many frames that were looked at.
        frame_rate: Frames per second, where the source does not know.
        stall_s: How many seconds without a frame end a stream. Its tracks are told the time, and those that were not
            seen for longer than the tracker keeps them are forgotten.
        checkpoint_s: Seconds between two checkpoints (0: after each batch).
        resume: Go on from the last checkpoint of a killed run with the same source, model, options and output. Live
            sources are always begun anew.
        progress: Told of every batch.

    Returns:
        The result. Ctrl-C ends a live source and gives what there is of it.

    Raises:
        OsvError: a source, model or option that cannot be used. A source that breaks off later is no error: the result
            says so in its ``events``.

    Example:
        >>> result = track_video("cars.mp4", "yolo11n.onnx", "out/cars.mp4")            # doctest: +SKIP
        >>> result.tracks.xyxy.shape                                                    # doctest: +SKIP
        (9120, 4)
    """
    began = time.monotonic()
    for name, count in (("every", every), ("batch_size", batch_size), ("max_frames", max_frames or 1)):
        if count < 1:
            raise UsageError(f"{name} must be at least 1", count)
    detector = _detector(model)
    class_ids(classes, detector.class_names)
    opened = open_source(source, frame_rate=frame_rate, stall_s=stall_s)
    try:
        plan = plan_outputs(output, formats, _stem(opened.name))
        _guard(plan, opened)
        chosen = _tracker(tracker, opened.frame_rate / every)
        counter = ZoneCounter(areas, _memory_s(chosen))
        look = _Look(detector, confidence, iou, classes, agnostic)
        job = {
            "source": opened.fingerprint(),
            "model": detector.describe(),
            "tracker": [repr(chosen), chosen.tracker.frame_rate, chosen.boxes, _name_of(chosen.embedder)],
            "options": [
                confidence,
                iou,
                list(classes) if classes else None,
                agnostic,
                every,
                batch_size,
                frame_rate,
            ],
            "areas": [asdict(area) for area in areas],
            "video": "video" in plan,
        }
        first = next(iter(plan.values()), None)
        folder = first.parent / f".{first.stem}.tracking" if first else Path(tempfile.mkdtemp(prefix="osv-track-"))
        spool = Spool(folder, job, resume=resume and first is not None and not opened.live)
        run = _Run(
            opened, look, chosen, counter, spool, every, batch_size, "video" in plan, checkpoint_s, max_frames
        )
        try:
            run.go(stall_s, progress)
            result = _result(run, detector, counter, areas)
            result = _write(result, run, plan, progress)
            result = replace(result, seconds=time.monotonic() - began)
            spool.remove()
            return result
        finally:
            spool.close()
            if first is None:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        opened.close()


@dataclass(frozen=True)
class _Look:
    """A detector with its options."""

    detector: Detector
    confidence: float
    iou: float
    classes: Sequence[str | int] | None
    agnostic: bool

    def __call__(self, frames: Sequence[Frame]) -> list[sv.Detections]:
        found = self.detector.predict(
            [frame.image for frame in frames], confidence=self.confidence, iou=self.iou, classes=self.classes
        )
        if self.agnostic:
            found = [item[nms(item.xyxy, item.confidence, self.iou)] if len(item) > 1 else item for item in found]
        return found


class _Run:
    """One pass over a source, from the beginning or from a checkpoint."""

    def __init__(
        self,
        source: Source,
        look: _Look,
        tracker: ObjectTracker,
        counter: ZoneCounter,
        spool: Spool,
        every: int,
        batch_size: int,
        video: bool,
        checkpoint_s: float,
        max_frames: int | None,
    ) -> None:
        self.source, self.look, self.tracker, self.counter, self.spool = source, look, tracker, counter, spool
        self.every, self.batch_size, self.checkpoint_s, self.max_frames = (
            every,
            batch_size,
            checkpoint_s,
            max_frames,
        )
        self.position, self.frames, self.time = 0, 0, 0.0
        self.starts: list[float] = []
        said = spool.checkpoint
        if said:
            self.position, self.frames, self.time = said["position"], said["frames"], said["time"]
            self.starts = said["starts"]
            tracker.restore(said["tracker"])
            counter.restore(said["zones"])
        self.resumed_at = self.position
        self.drawer: Drawer | None = None
        self.writer: SegmentWriter | None = None
        if video:
            from osv_lab.track.draw import Drawer
            from osv_lab.track.writer import SegmentWriter

            self.drawer = Drawer(source.size, source.frame_rate / every, counter.areas)
            self.writer = SegmentWriter(spool.folder, source.size, source.frame_rate / every, len(self.starts))
            self._redraw()

    def _redraw(self) -> None:
        """The drawer as it was at the checkpoint: its counts and traces."""
        import supervision as sv

        assert self.drawer is not None
        self.drawer.count(ZoneEvent(**event) for event in self.spool.events("zone"))
        rows, moments = self.spool.boxes(), self.spool.moments()
        for number in moments["frame"][-self.drawer.trace_length or len(moments) :].tolist():
            here = rows[slice(*np.searchsorted(rows["frame"], (number, number + 1)))]
            seen = sv.Detections(xyxy=np.array(here["xyxy"]), tracker_id=np.array(here["track_id"]))
            self.drawer.remember(seen)

    def go(self, stall_s: float, progress: Progress) -> None:
        """Run to the end of the source."""
        source = self.source
        patience = _PATIENCE * stall_s if source.live else None
        ahead = Ahead(
            source.frames(self.position + 1), depth=2 * self.batch_size, drop=source.live, patience_s=patience
        )
        behind = Behind(self._draw, depth=2 * self.batch_size)
        total = None if source.length is None else -(-source.length // self.every)
        if self.max_frames is not None:
            total = self.max_frames if total is None else min(total, self.max_frames)
        progress("track", self.frames, total)
        saved = time.monotonic()
        try:
            for batch in self._batches(ahead):
                for frame, found in zip(batch, self.look(batch), strict=True):
                    behind.put((frame, *self._follow(frame, found)))
                progress("track", self.frames, total)
                if time.monotonic() - saved >= self.checkpoint_s:
                    self._save(behind)
                    saved = time.monotonic()
        except Silent:
            detail = f"the source hangs: nothing for {patience:g} s"
            source.events.append(VideoEvent("ended", self.position, self.time, detail))
        except KeyboardInterrupt:
            if not source.live or not self.frames:
                raise
            source.events.append(VideoEvent("interrupted", self.position, self.time, "stopped by the user"))
        finally:
            source.close()
            ahead.close()
            behind.close()
        if ahead.dropped:
            detail = f"{ahead.dropped} frames came faster than they could be looked at"
            source.events.append(VideoEvent("dropped", self.position, self.time, detail))
        self._save(behind)
        progress("track", self.frames, self.frames)
        if not self.frames:
            raise InvalidDataError("no frame could be read", source.name)

    def _batches(self, ahead: Ahead[Frame]) -> Iterator[list[Frame]]:
        batch: list[Frame] = []
        left = None if self.max_frames is None else self.max_frames - self.frames
        # What is live is not held back to fill a batch.
        size = 1 if self.source.live else self.batch_size
        if left is not None and left <= 0:
            return
        for frame in ahead:
            if (frame.number - 1) % self.every:
                continue
            batch.append(frame)
            if left is not None:
                left -= 1
            if len(batch) == size or left == 0:
                yield batch
                batch = []
            if left == 0:
                return
        if batch:
            yield batch

    def _follow(self, frame: Frame, found: sv.Detections) -> tuple[sv.Detections, list[ZoneEvent]]:
        """Track one frame's detections, and write down what came of it."""
        tracks = self.tracker.update(found, frame.image, frame.timestamp_s)
        if self.tracker.keep_untracked:
            tracks = tracks[tracks.tracker_id > 0]
        events = self.counter.update(
            frame.number, frame.timestamp_s, tracks.tracker_id, tracks.xyxy, tracks.class_id
        )
        self.spool.add_boxes(_rows(frame.number, tracks))
        self.spool.add_frame(frame.number, frame.timestamp_s)
        self.spool.add_events("zone", events)
        self.position, self.time = frame.number, frame.timestamp_s
        self.frames += 1
        return tracks, events

    def _draw(self, item: tuple[Frame, sv.Detections, list[ZoneEvent]]) -> None:
        frame, tracks, events = item
        if self.drawer is not None and self.writer is not None:
            self.drawer.count(events)
            image = frame.image if frame.image.flags.writeable else frame.image.copy()
            self.writer.write(self.drawer.draw(image, tracks), frame.timestamp_s)

    def _save(self, behind: Behind[Any]) -> None:
        behind.drain()
        if self.writer is not None:
            start = self.writer.cut()
            if start is not None:
                self.starts.append(start)
        events = self.source.events
        self.spool.add_events("source", [events.popleft() for _ in range(len(events))])
        self.spool.save(
            {
                "position": self.position,
                "frames": self.frames,
                "time": self.time,
                "starts": self.starts,
                "tracker": self.tracker.state(),
                "zones": self.counter.state(),
            }
        )


def _result(run: _Run, detector: Detector, counter: ZoneCounter, areas: Sequence[Line | Zone]) -> TrackResult:
    boxes = run.spool.boxes()
    identities = identities_of(boxes, detector.class_names)
    class_of = {item.track_id: item.class_id for item in identities}
    zone_events = [ZoneEvent(**event) for event in run.spool.events("zone")] + counter.finish()
    # A track's class is only known at its end.
    zone_events = [replace(event, class_id=class_of[event.track_id]) for event in zone_events]
    # Frames before a checkpoint are read again, and what happened to them is said again.
    events = dict.fromkeys(VideoEvent(**event) for event in run.spool.events("source"))
    return TrackResult(
        source=run.source.name,
        model=detector.ref,
        tracker=f"{run.tracker.algorithm}: {run.tracker.explain()}",
        frame_rate=run.source.frame_rate,
        size=run.source.size,
        frames=run.frames,
        identities=identities,
        seconds=0.0,
        resumed_at=run.resumed_at,
        events=tuple(sorted(events, key=lambda event: event.frame)),
        zones=tuple(area.name for area in areas),
        zone_events=tuple(sorted(zone_events, key=lambda event: event.frame)),
        class_names=tuple(detector.class_names),
        boxes=boxes,
    )


def _write(result: TrackResult, run: _Run, plan: Mapping[str, Path], progress: Progress) -> TrackResult:
    """Write the files, and say which."""
    moments = run.spool.moments()
    result = replace(result, files=dict(plan), codec=run.writer.codec if run.writer else "")
    for done, (kind, path) in enumerate(plan.items()):
        progress("write", done, len(plan))
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "video":
            from osv_lab.track.writer import join

            join(run.spool.folder, run.starts, path)
        elif kind == "mot":
            write_mot(path, result)
        elif kind == "coco":
            write_coco(path, result, moments)
        else:
            write_json(path, result, moments)
    if plan:
        progress("write", len(plan), len(plan))
    return result


def _rows(number: int, tracks: sv.Detections) -> Rows:
    rows = np.empty(len(tracks), dtype=BOX)
    rows["frame"] = number
    rows["track_id"] = tracks.tracker_id
    kinds = tracks.data.get("detected_class_id", tracks.class_id)
    rows["class_id"] = 0 if kinds is None else kinds
    rows["confidence"] = 1.0 if tracks.confidence is None else tracks.confidence
    rows["xyxy"] = tracks.xyxy
    return rows


def _detector(model: object) -> Detector:
    from osv_lab.detect import load_detector

    detector = model if isinstance(model, Detector) else load_detector(model)
    if detector.task == "classify":
        raise UsageError("a classifier finds no objects", detector.ref, "give a detector")
    return detector


def _tracker(given: ObjectTracker | str | Mapping[str, Any], frame_rate: float) -> ObjectTracker:
    if isinstance(given, ObjectTracker):
        given.reset()
        return given
    return ObjectTracker(given, frame_rate=frame_rate)


def _memory_s(tracker: ObjectTracker) -> float:
    """How long the tracker may still come back to a lost track, in seconds."""
    return float(tracker.tracker.buffer / tracker.tracker.frame_rate) + 1 / tracker.tracker.frame_rate


def _name_of(thing: object) -> str | None:
    return None if thing is None else getattr(thing, "__qualname__", type(thing).__qualname__)


def _stem(name: str) -> str:
    """A file name for what is tracked.

    Example:
        >>> _stem("rtsp://10.0.0.7:554/live?channel=2"), _stem("a/cars.mp4"), _stem("camera 0")
        ('live-channel-2', 'cars', 'camera-0')
    """
    last = name.rstrip("/").rsplit("/", 1)[-1]
    stem = last if "://" in name else Path(last).stem
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "video"


def _guard(plan: Mapping[str, Path], source: Source) -> None:
    """Never write over what is being read."""
    for path in plan.values():
        if path.exists() and Path(source.name).exists() and path.samefile(source.name):
            raise UsageError("the output is the source", str(path), "choose another name")
