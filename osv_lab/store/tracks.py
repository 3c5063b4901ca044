"""Tracks in the store: follow objects through every clip of a view, and put tracks in and take them out.

    report = track(dataset, "yolo11n.onnx", "botsort")       # decode, detect, track
    report = track(dataset, from_field="frames.detections")  # from detections that are there, nothing decoded
    write_tracks(dataset.match(...), read_mot("result.txt"), "frames.theirs")

A clip is a video, whose tracks are in ``frames.<field>``, or the images of one ``sequence`` in the order of
``frame_number``, whose tracks are in ``<field>``. Labels carry the identity as ``index``, which the App shows, and
the same FiftyOne instance along a track.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import InterruptedJobError, InvalidDataError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.detect.confidence import AnyConfidence, check_confidence, limits_of, resolved
from osv_lab.store.bulk import Writer
from osv_lab.store.bulk_tracks import check_field, read_frames, replace_field
from osv_lab.store.clips import Clip, clips_of
from osv_lab.store.convert.tracks import LabelledTracks, frame_labels, tracks_of
from osv_lab.store.database import connect, database_errors
from osv_lab.store.formats.mot import CLASSES as MOT_CLASSES
from osv_lab.store.memory import collecting_only_new
from osv_lab.store.track_journal import replacing
from osv_lab.store.track_run import TrackingReport, TrackingRun, voted
from osv_lab.track.tracker import ObjectTracker
from osv_lab.track.tracks import Tracks

if TYPE_CHECKING:
    import fiftyone as fo

    from osv_lab.detect.detector import Detector

CLASSES: Mapping[int, str] = dict(enumerate(("object", *MOT_CLASSES)))
"""Class names of tracks that come without: MOTChallenge's, from 1, and 0 for those that say nothing."""


def track(
    view: fo.SampleCollection,
    detector: Detector | str | Path | None = None,
    tracker: str | Mapping[str, Any] = "botsort",
    field: str = "tracks",
    *,
    from_field: str | None = None,
    confidence: AnyConfidence = 0.1,
    classes: Sequence[str | int] | None = None,
    batch_size: int = 8,
    frame_rate: float | None = None,
    refine: bool | Mapping[str, Any] = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> TrackingReport:
    """Follow the objects of every clip of a view.

    Each clip is written when it is done, over what the field held before. What made the tracks is stored with them:
    a killed run continues with the clip that it was at, and a second run with the same detector, tracker and settings
    does nothing. Where detecting takes hours per clip, run :func:`osv_lab.store.predict.predict` first, which
    continues frame by frame, and track ``from_field``.

    Args:
        view: Videos, or images with the fields ``sequence`` and ``frame_number``.
        detector: A detector or a reference to one; masks and keypoints are left out, boxes are tracked.
        tracker: ``"botsort"``, ``"bytetrack"``, ``"deepsort"``, or a mapping with ``algorithm`` and any option of
            :class:`osv_lab.track.tracker.ObjectTracker`. Every clip gets a tracker of its own: identities start at 1.
        field: The field to write, made if it is not there; for videos without ``frames.``.
        from_field: Track these detections instead of a detector's. Nothing is decoded, unless the tracker has an
            ``embedder``.
        confidence: Detections above it are tracked, 0 to 1; one for all classes, one per class name, or ``"model"``
            for the detector's own, as a server uses them. Trackers use unsure ones, so it should be low.
        classes: Class names (or a detector's ids) to track; all by default.
        batch_size: Frames per call of the detector.
        frame_rate: Frames per second; by default each video's own, 30 for image sequences.
        refine: Refine finished tracks (:func:`osv_lab.track.refinement.refine`): ``True``, or its options.
        overwrite: Track also where this was done already, and over labels that a person made or edited.
        progress: Told about frames.

    Returns:
        The report. A clip that cannot be read, or only in part, is named in it; the others are tracked.

    Raises:
        UsageError: a field or argument that cannot be used, or a field with labels of a person.
        UnavailableError: the database cannot be used, or the detector fails on everything.
        InterruptedJobError: the user stopped it. Running it again continues.

    Example:
        >>> report = track(videos, "best.onnx", "bytetrack", field="found")
        >>> print(report.summary())
        1 clips tracked into 'frames.found' of 'cars' (30 frames, 2 tracks, ... frames per second)
    """
    connect()
    if batch_size < 1:
        raise UsageError("batch_size must be at least 1", batch_size)
    if (detector is None) == (from_field is None):
        raise UsageError(
            "tracks need detections", f"detector={detector}, from_field={from_field}", "give one of the two"
        )
    if isinstance(detector, (str, Path)):
        from osv_lab.detect import load_detector

        detector = load_detector(detector)
    if detector is not None and detector.task == "classify":
        raise UsageError("a classifier finds no boxes to track", detector.ref, "use a detector")
    if detector is not None:
        confidence = resolved(confidence, detector)
        limits_of(confidence, detector.class_names)
    elif confidence == "model":
        raise UsageError("a field has no thresholds of its own", f"from_field={from_field!r}", "give a confidence")
    else:
        check_confidence(confidence)
    options = {"algorithm": tracker} if isinstance(tracker, str) else dict(tracker)
    ObjectTracker(options)
    run = TrackingRun(view, detector, options, field.removeprefix("frames."), progress)
    run.from_field = from_field.removeprefix("frames.") if from_field else None
    if run.from_field is not None:
        check_field(view, f"frames.{run.from_field}" if view.media_type == "video" else run.from_field)
    run.settings = {
        "confidence": confidence,
        "classes": classes,
        "frame_rate": frame_rate,
        "refine": refine,
        "batch_size": batch_size,
    }
    try:
        with database_errors(), collecting_only_new():
            return run.all(overwrite)
    except KeyboardInterrupt:
        done = f"{len(run.done)} clips were done"
        raise InterruptedJobError("tracking was stopped", done, "run the same again: it continues") from None


def write_tracks(
    where: fo.SampleCollection | fo.Sample,
    tracks: Tracks,
    field: str = "tracks",
    *,
    class_names: Mapping[int, str] | Sequence[str] = CLASSES,
    overwrite: bool = False,
) -> None:
    """Put tracks from elsewhere (a MOT result file) into a clip's field.

    Args:
        where: A video, or a view of one clip.
        tracks: Boxes in pixels of the clip's frames.
        field: The field, made if it is not there; for videos without ``frames.``.
        class_names: Names by ``tracks.class_id``; by default those of MOTChallenge's numbers, and "object" for 0.
        overwrite: Also over labels that no tracker made, and tracks that a person has edited.

    Raises:
        UsageError: not one clip, a class without a name, or a field with labels of a person.
        InvalidDataError: boxes after the clip's end.

    Example:
        >>> from osv_lab.track.mot import read_tracks
        >>> write_tracks(videos.first(), read_tracks("truth/cars-01.txt"), "theirs")
        >>> videos.count("frames.theirs.detections")
        90
    """
    view, clip = one_clip(where)
    field = field.removeprefix("frames.")
    dataset = view._dataset
    known = class_names if isinstance(class_names, Mapping) else dict(enumerate(class_names))
    unnamed = set(np.unique(tracks.class_id).tolist()) - set(known)
    if unnamed:
        raise UsageError("a class without a name", f"class_id {min(unnamed)}", "pass class_names")
    length = clip.frames or tracks.last_frame
    if tracks.last_frame > length:
        raise InvalidDataError("boxes after the end of the clip", f"frame {tracks.last_frame} of {length}")
    names = voted(tracks, known)
    columns = (tracks.frame, tracks.track_id, tracks.class_id, tracks.xyxy, tracks.confidence)
    made_by = bytes_digest(b"".join(column.tobytes() for column in columns))
    writer = Writer(dataset)
    with replacing(dataset, clip, field, overwrite=overwrite):
        replace_field(
            writer,
            dataset,
            clip,
            field,
            frame_labels(tracks, clip.size(), names, length, known),
            [(name, identity) for identity, name in names.items()],
            made_by[:16],
        )
    writer.finish()


def read_tracks(
    where: fo.SampleCollection | fo.Sample,
    field: str = "tracks",
    *,
    class_names: Mapping[int, str] | Sequence[str] = CLASSES,
) -> Tracks:
    """The tracks in a clip's field.

    Args:
        where: A video, or a view of one clip; what the view filters out stays out.
        field: A field of ``Detections`` with ``index``; for videos with or without ``frames.``.
        class_names: Names by class id; other classes get the numbers after them, sorted by name.

    Returns:
        Boxes in pixels. ``confidence`` is 1 where a label has none, and 0 where it is marked ``ignored``.
    """
    view, clip = one_clip(where)
    found = labelled_tracks(view, clip, field.removeprefix("frames."))
    known = class_names if isinstance(class_names, Mapping) else dict(enumerate(class_names))
    numbers = {name: number for number, name in known.items()}
    for name in found.classes:
        numbers.setdefault(name, max(numbers.values(), default=-1) + 1)
    class_id = np.array([numbers[name] for name in found.classes], dtype=np.int64)[found.tracks.class_id]
    tracks = found.tracks
    return Tracks(tracks.frame, tracks.track_id, tracks.xyxy, tracks.confidence, class_id)


def labelled_tracks(view: fo.SampleCollection, clip: Clip, field: str) -> LabelledTracks:
    """The tracks of one clip with the labels they are kept in.

    Args:
        view: The view that the clip is of.
        clip: The clip.
        field: A field of ``Detections``, without ``frames.``.

    Raises:
        InvalidDataError: half written tracks, or an identity twice in a frame.
    """
    return tracks_of(read_frames(view, clip, field), clip.size())


def one_clip(where: Any) -> tuple[Any, Clip]:
    """The view and the clip that a sample or a view of one clip names.

    Raises:
        UsageError: it is not one clip.
    """
    connect()
    import fiftyone as fo

    is_sample = isinstance(where, (fo.Sample, fo.core.sample.SampleView))
    if is_sample and where._dataset is None:
        raise UsageError("the sample is in no dataset", where.filepath)
    view = where._dataset.select(where.id) if is_sample else where
    clips = clips_of(view)
    if len(clips) != 1:
        raise UsageError("tracks belong to one clip", f"a view of {len(clips)}", "pass a sample, or select one")
    if is_sample and not clips[0].video:
        raise UsageError("one image is no clip", where.filepath, "pass a view of the images of its sequence")
    return view, clips[0]
