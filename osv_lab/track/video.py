"""Track a video from end to end, into a result and files."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from osv_lab.core.errors import UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.detect.confidence import AnyConfidence, limits_of, plain_confidence, resolved
from osv_lab.detect.detector import IOU, Detector, class_ids
from osv_lab.track.pipeline import Look, Run
from osv_lab.track.result import TrackResult, identities_of
from osv_lab.track.source import STALL_S, Source, VideoEvent, open_source
from osv_lab.track.spool import Spool
from osv_lab.track.tracker import ObjectTracker
from osv_lab.track.trackfiles import FORMATS, plan_outputs, write_coco, write_json, write_mot
from osv_lab.track.zones import Line, Zone, ZoneCounter, ZoneEvent

CONFIDENCE = 0.1
"""Detections above this reach the tracker, which has a use for weak ones too."""


def track_video(
    source: str | int | Path | Source,
    model: object,
    output: str | Path | Sequence[str | Path] | None = None,
    *,
    tracker: ObjectTracker | str | Mapping[str, Any] = "botsort",
    formats: Sequence[str] | None = None,
    confidence: AnyConfidence = CONFIDENCE,
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
        confidence: Detections above it reach the tracker; one for all classes, one per class name, or ``"model"`` for
            the model's own, as a server uses them.
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
        resume: Go on from the last checkpoint of a killed run with the same source, model, options and output. A live
            source is begun anew, and what a killed run had of it is written beside (``today-1.mp4``).
        progress: Told of every batch.

    Returns:
        The result. Ctrl-C ends a live source and gives what there is of it.

    Raises:
        OsvError: a source, model or option that cannot be used. A source that breaks off later is no error: the result
            says so in its ``events``.

    Example:
        >>> result = track_video("cars.mp4", "best.onnx", "out/cars.mp4")
        >>> result.tracks.xyxy.shape, Path("out/cars.mp4").exists()
        ((60, 4), True)
    """
    began = time.monotonic()
    for name, count in (("every", every), ("batch_size", batch_size), ("max_frames", max_frames or 1)):
        if count < 1:
            raise UsageError(f"{name} must be at least 1", count)
    detector = _detector(model)
    class_ids(classes, detector.class_names)
    limits = resolved(confidence, detector)
    limits_of(limits, detector.class_names)
    opened = open_source(source, frame_rate=frame_rate, stall_s=stall_s)
    try:
        plan = plan_outputs(output, formats, _stem(opened.name))
        _guard(plan, opened)
        chosen = _tracker(tracker, opened.frame_rate / every)
        counter = ZoneCounter(areas, _memory_s(chosen))
        look = Look(detector, limits, iou, classes, agnostic)
        job = {
            "source": opened.fingerprint(),
            "model": detector.describe(),
            "tracker": [repr(chosen), chosen.tracker.frame_rate, chosen.boxes, _name_of(chosen.embedder)],
            "options": [
                plain_confidence(limits),
                iou,
                list(classes or []),
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
        spool = Spool(folder, job, resume=resume and first is not None)
        start = partial(
            Run, opened, look, chosen, counter, every, batch_size, "video" in plan, checkpoint_s, max_frames
        )
        try:
            run = start(spool)
            if opened.live and run.resumed_at:
                _recover(run, detector, plan)
                spool.remove()
                spool = Spool(folder, job, resume=False)
                chosen.reset()
                run = start(spool)
            run.go(stall_s, progress)
            result = _write(_result(run, detector), run, plan, progress)
            spool.remove()
            return replace(result, seconds=time.monotonic() - began)
        finally:
            spool.close()
            if first is None:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        opened.close()


def _recover(run: Run, detector: Detector, plan: Mapping[str, Path]) -> None:
    """Write what a killed recording of a live source had, beside the files of the new one."""
    number = 1
    while any(_numbered(path, kind, number).exists() for kind, path in plan.items()):
        number += 1
    earlier = {kind: _numbered(path, kind, number) for kind, path in plan.items()}
    _write(_result(run, detector), run, earlier, silent)
    names = ", ".join(path.name for path in earlier.values())
    detail = f"an earlier recording that was killed is in {names}"
    run.source.events.append(VideoEvent("recovered", 0, 0.0, detail))


def _numbered(path: Path, kind: str, number: int) -> Path:
    suffix = FORMATS["coco"] if kind == "coco" else path.suffix
    return path.with_name(f"{path.name[: -len(suffix)]}-{number}{suffix}")


def _result(run: Run, detector: Detector) -> TrackResult:
    boxes = run.spool.boxes()
    identities = identities_of(boxes, detector.class_names)
    class_of = {item.track_id: item.class_id for item in identities}
    zone_events = [ZoneEvent(**event) for event in run.spool.events("zone")] + run.counter.finish()
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
        zones=tuple(area.name for area in run.counter.areas),
        zone_events=tuple(sorted(zone_events, key=lambda event: event.frame)),
        class_names=tuple(detector.class_names),
        boxes=boxes,
    )


def _write(result: TrackResult, run: Run, plan: Mapping[str, Path], progress: Progress) -> TrackResult:
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
