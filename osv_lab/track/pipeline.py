"""Decode, detect in batches, track, count, draw and encode, at the same time.

Three threads: one decodes ahead, one draws and encodes, and the caller's detects and tracks. What is found goes to
disk as it comes (:mod:`osv_lab.track.spool`), so memory does not grow with the video, and a killed run goes on where
its last checkpoint was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.progress import Progress
from osv_lab.detect.confidence import Confidence
from osv_lab.detect.detector import Detector
from osv_lab.detect.nms import nms
from osv_lab.track.ahead import Ahead, Behind, Silent
from osv_lab.track.source import Frame, Source, VideoEvent
from osv_lab.track.spool import BOX, Rows, Spool
from osv_lab.track.tracker import ObjectTracker
from osv_lab.track.zones import ZoneCounter, ZoneEvent

if TYPE_CHECKING:
    import supervision as sv

    from osv_lab.track.draw import Drawer
    from osv_lab.track.writer import SegmentWriter

# A source ends itself after stall_s and the time-outs of its last attempts; one that does not by then hangs.
_PATIENCE = 3


@dataclass(frozen=True)
class Look:
    """A detector with its options."""

    detector: Detector
    confidence: Confidence
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


class Run:
    """One pass over a source, from the beginning or from a checkpoint."""

    def __init__(
        self,
        source: Source,
        look: Look,
        tracker: ObjectTracker,
        counter: ZoneCounter,
        every: int,
        batch_size: int,
        video: bool,
        checkpoint_s: float,
        max_frames: int | None,
        spool: Spool,
    ) -> None:
        self.source, self.look, self.tracker, self.counter, self.spool = source, look, tracker, counter, spool
        self.every, self.batch_size = every, batch_size
        self.checkpoint_s, self.max_frames = checkpoint_s, max_frames
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
        try:
            self._to_the_end(stall_s, progress)
        finally:
            if self.writer is not None:
                self.writer.abandon()

    def _to_the_end(self, stall_s: float, progress: Progress) -> None:
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


def _rows(number: int, tracks: sv.Detections) -> Rows:
    rows = np.empty(len(tracks), dtype=BOX)
    rows["frame"] = number
    rows["track_id"] = tracks.tracker_id
    kinds = tracks.data.get("detected_class_id", tracks.class_id)
    rows["class_id"] = 0 if kinds is None else kinds
    rows["confidence"] = 1.0 if tracks.confidence is None else tracks.confidence
    rows["xyxy"] = tracks.xyxy
    return rows
