"""Run a detector over a view: decode ahead, infer in batches, write in bulk as it goes.

What made a sample's predictions is stored with them. So a killed run continues where it stopped, and a second run with
the same detector and settings does nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from osv_lab.core.digests import value_digest
from osv_lab.core.errors import InterruptedJobError, InvalidDataError, OsvError, UnavailableError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report, plain
from osv_lab.detect.confidence import AnyConfidence, plain_confidence, resolved
from osv_lab.store import bulk_read
from osv_lab.store.bulk import Writer
from osv_lab.store.convert.supervision import labels_from
from osv_lab.store.database import connect, database_errors
from osv_lab.store.ingest_items import shown
from osv_lab.store.memory import collecting_only_new
from osv_lab.store.records import ImageClass, Label, Problem
from osv_lab.track.decode import VideoSource, read_ahead

if TYPE_CHECKING:
    import fiftyone as fo
    import supervision as sv

    from osv_lab.detect.detector import Detector

CONTAINERS: Mapping[str, str] = {
    "detect": "Detections",
    "segment": "Detections",
    "pose": "Keypoints",
    "obb": "Polylines",
    "classify": "Classification",
}
"""The FiftyOne class of a predictions field, by the detector's task."""

CONFIDENCE = 0.05
"""Low enough for average precision and for choosing a threshold (on BCCD, 0.002 below the mAP50 of the whole curve),
high enough for a person to look at: 37 detections per image there, against 300 at the validators' 0.001."""

IOU = 0.7
MAX_DETECTIONS = 300
WRITE_EVERY = 256
"""Images, or frames, written at a time: what a killed run has computed in vain at most."""


@dataclass(frozen=True)
class PredictReport(Report):
    """The result of :func:`predict`.

    Attributes:
        dataset: The dataset's name.
        field: The field written; for videos that of the frames.
        detector: What the detector says about itself.
        made_by: The key stored with the predictions, the same for the same detector and settings.
        settings: Thresholds used.
        predicted: Images, or frames, that were predicted now.
        kept: Images, or frames, that had these predictions already.
        classes: Detections written now, by class name, most frequent first.
        problems: One entry per image that could not be predicted.
        seconds: Wall time.
    """

    dataset: str
    field: str
    detector: Mapping[str, Any]
    made_by: str
    settings: Mapping[str, Any]
    predicted: int
    kept: int
    classes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0

    @property
    def detections(self) -> int:
        """Detections written now."""
        return sum(self.classes.values())

    @property
    def exit_code(self) -> int:
        """Invalid data where no image could be predicted, else 0."""
        return InvalidDataError.exit_code if self.problems and not self.predicted and not self.kept else 0

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per class, then one per image that failed."""
        found = [{"what": name, "detections": count, "why": ""} for name, count in self.classes.items()]
        failed = [{"what": one.file, "detections": None, "why": one.what} for one in self.problems]
        return [*found, *failed]

    def summary(self) -> str:
        """The counts in one line."""
        rate = f", {self.predicted / self.seconds:.1f} per second" if self.seconds and self.predicted else ""
        kept = f", {self.kept:,} had theirs already" if self.kept else ""
        failed = f", {len(self.problems):,} failed" if self.problems else ""
        return (
            f"{self.predicted:,} images predicted into '{self.field}' of '{self.dataset}' ({self.detections:,} "
            f"detections{rate}){kept}{failed}"
        )


def predict(
    view: fo.SampleCollection,
    detector: Detector,
    field: str = "predictions",
    *,
    confidence: AnyConfidence = CONFIDENCE,
    iou: float = IOU,
    max_detections: int = MAX_DETECTIONS,
    classes: Sequence[str | int] | None = None,
    batch_size: int = 8,
    overwrite: bool = False,
    progress: Progress = silent,
) -> PredictReport:
    """Write a detector's predictions on a view of images, or on every frame of a view of videos.

    Args:
        view: A dataset or view.
        detector: Anything of the :class:`osv_lab.detect.detector.Detector` protocol.
        field: The field to write, made if it is not there; for videos without ``frames.``. It holds ``Detections``,
            for pose ``Keypoints``, for oriented boxes ``Polylines``, for classes a ``Classification``.
        confidence: Detections above it are kept, 0 to 1; one per class name, or ``"model"`` for the model's own, which
            are the ones that a server uses. What is to be evaluated, or thresholds chosen on, needs the low default.
        iou: Overlap above which the less confident of two boxes of a class is dropped, 0 to 1.
        max_detections: The most detections per image.
        classes: Class names or ids to keep; all by default.
        batch_size: Images per call of the detector.
        overwrite: Predict also where this detector with these settings has done so already.
        progress: Told about images, or frames.

    Returns:
        The report. An image that cannot be read is named in it; the others are predicted.

    Raises:
        UsageError: a field or argument that cannot be used.
        UnavailableError: the database cannot be used, or the detector fails on everything.
        InterruptedJobError: the user stopped it. Running it again continues.

    Example:
        >>> report = predict(dataset.match_tags("val"), detector, "second")
        >>> print(report.summary())
        4 images predicted into 'second' of 'cells' (8 detections, ... per second)
    """
    connect()
    if batch_size < 1:
        raise UsageError("batch_size must be at least 1", batch_size)
    limits = resolved(confidence, detector)
    settings = {
        "confidence": plain_confidence(limits),
        "iou": iou,
        "max_detections": max_detections,
        "classes": plain(classes),
    }
    options = {"confidence": limits, "iou": iou, "max_detections": max_detections, "classes": classes}
    run = _Run(view, detector, field.removeprefix("frames."), settings, options, batch_size, progress)
    try:
        with database_errors(), collecting_only_new():
            if view.media_type == "video":
                run.videos(overwrite)
            else:
                run.images(overwrite)
            return run.finish()
    except KeyboardInterrupt:
        done = f"{run.predicted:,} images were done"
        raise InterruptedJobError("predict was stopped", done, "run the same again: it continues") from None


class DecodedImage(NamedTuple):
    """One image to predict: where it belongs, what to call it, and its pixels or why there are none."""

    sample_id: str
    frame: int
    name: str
    pixels: np.ndarray | OsvError


class _Run:
    """One prediction under way."""

    def __init__(
        self,
        view: fo.SampleCollection,
        detector: Detector,
        field: str,
        settings: Mapping[str, Any],
        options: Mapping[str, Any],
        batch_size: int,
        progress: Progress,
    ) -> None:
        if detector.task not in CONTAINERS:
            raise UsageError(
                "the detector's task is unknown", repr(detector.task), f"known are {', '.join(CONTAINERS)}"
            )
        self.predicted = 0
        self._view = view
        self._dataset = view._dataset
        self._detector = detector
        self._field = field
        self._settings = settings
        self._options = options
        self._batch_size = batch_size
        self._progress = progress
        self._about = plain(detector.describe())
        # Without a digest two detectors cannot be told apart, and what one did must not pass for the other's.
        unique = "" if self._about.get("digest") else uuid.uuid4().hex
        self._made_by = value_digest([self._about, plain(settings), unique])[:16]
        self._writer = Writer(self._dataset)
        self._classes: Counter[str] = Counter()
        self._problems: list[Problem] = []
        self._kept = 0
        self._start = time.perf_counter()

    def images(self, overwrite: bool) -> None:
        """Predict a view of images."""
        done = set() if overwrite else bulk_read.made_by(self._view, self._field, self._made_by)
        self._kept = len(done)
        total = len(self._view) - len(done)
        todo = ((id, record.path) for id, record in bulk_read.iter_records(self._view, ()) if id not in done)

        def write(batch: dict[tuple[str, int], list[Label]]) -> None:
            labels = {sample_id: some for (sample_id, _), some in batch.items()}
            self._writer.set_labels(self._field, labels, CONTAINERS[self._detector.task], self._made_by)

        self._predict(decoded_images(todo, self._batch_size * 4), write, total)

    def videos(self, overwrite: bool) -> None:
        """Predict every frame of a view of videos."""
        for sample_id, record in list(bulk_read.iter_records(self._view, ())):
            done = (
                set()
                if overwrite
                else bulk_read.frames_made_by(self._dataset, sample_id, self._field, self._made_by)
            )
            self._kept += len(done)

            def write(batch: dict[tuple[str, int], list[Label]], sample_id: str = sample_id) -> None:
                frames = {number: some for (_, number), some in batch.items()}
                container = CONTAINERS[self._detector.task]
                self._writer.set_frame_labels(self._field, sample_id, frames, container, self._made_by)

            self._predict(decoded_frames(sample_id, str(record.path), done), write, None)

    def finish(self) -> PredictReport:
        """Note in the dataset what made the predictions, and report."""
        name = f"frames.{self._field}" if self._view.media_type == "video" else self._field
        made = dict(self._dataset.info.get("predictions", {}))
        made[name] = {**made.get(name, {}), self._made_by: {"detector": self._about, **self._settings}}
        self._dataset.info["predictions"] = made
        self._dataset.save()
        self._writer.finish()
        return PredictReport(
            dataset=self._dataset.name,
            field=name,
            detector=self._about,
            made_by=self._made_by,
            settings=self._settings,
            predicted=self.predicted,
            kept=self._kept,
            classes=dict(self._classes.most_common()),
            problems=tuple(self._problems),
            seconds=time.perf_counter() - self._start,
        )

    def _predict(
        self,
        images: Iterator[DecodedImage],
        write: Callable[[dict[tuple[str, int], list[Label]]], None],
        total: int | None,
    ) -> None:
        """Infer batch by batch. Meanwhile the batch before becomes labels, and what is ready is written."""
        ready: dict[tuple[str, int], list[Label]] = {}
        writing: Future[None] | None = None
        inferring: Future[Iterable[tuple[DecodedImage, sv.Detections]]] | None = None
        with ThreadPoolExecutor(1, "osv-write") as writer, ThreadPoolExecutor(1, "osv-infer") as pool:
            while True:
                batch = list(itertools.islice(images, self._batch_size))
                readable = [image for image in batch if not isinstance(image.pixels, OsvError)]
                for image in batch:
                    if isinstance(image.pixels, OsvError):
                        self._fail(image, str(image.pixels))
                before, inferring = inferring, pool.submit(self._infer, readable) if readable else None
                ready.update(self._labelled(before.result() if before is not None else ()))
                if len(ready) >= WRITE_EVERY:
                    if writing is not None:
                        writing.result()
                    writing = writer.submit(write, ready)
                    ready = {}
                self._progress("predict", self.predicted + len(self._problems), total)
                if not batch and inferring is None:
                    break
            if writing is not None:
                writing.result()
        if ready:
            write(ready)

    def _labelled(
        self, found: Iterable[tuple[DecodedImage, sv.Detections]]
    ) -> Iterator[tuple[tuple[str, int], list[Label]]]:
        for image, detections in found:
            height, width = image.pixels.shape[:2]  # type: ignore[union-attr]
            labels = self._labels(detections, (width, height))
            self._classes.update(label.label for label in labels)
            self.predicted += 1
            yield (image.sample_id, image.frame), labels

    def _infer(self, images: list[DecodedImage]) -> Iterable[tuple[DecodedImage, sv.Detections]]:
        return found_in(self._detector, images, self._options, self._failed)

    def _failed(self, image: DecodedImage, error: Exception) -> None:
        if not self.predicted and len(self._problems) >= 2 * self._batch_size:
            raise UnavailableError("the detector fails on every image", error, "try it on one image") from error
        self._fail(image, f"the detector failed: {error}")

    def _labels(self, detections: sv.Detections, size: tuple[int, int]) -> list[Label]:
        if self._detector.task != "classify":
            return labels_from(detections, size, self._detector.class_names)
        # The most confident class comes first, and is the image's.
        names, scores = detections.data.get("class_name", ()), detections.confidence
        return [ImageClass(str(names[0]), float(scores[0]))] if scores is not None and len(names) else []

    def _fail(self, image: DecodedImage, why: str) -> None:
        name = f"{image.name} frame {image.frame}" if image.frame else image.name
        self._problems.append(Problem(name, why, "", "skipped" if image.frame else "file skipped"))


def found_in(
    detector: Detector,
    images: Sequence[DecodedImage],
    options: Mapping[str, Any],
    failed: Callable[[DecodedImage, Exception], None],
) -> list[tuple[DecodedImage, sv.Detections]]:
    """What a detector finds in images that were read; ``failed`` is told of those that it cannot take."""
    if not images:
        return []
    try:
        return list(zip(images, detector.predict([one.pixels for one in images], **options), strict=True))  # type: ignore[misc]
    except (RuntimeError, ValueError, MemoryError, OsvError) as error:
        if len(images) == 1:
            failed(images[0], error)
            return []
    # One image that a detector cannot take must not cost its batch.
    return [found for image in images for found in found_in(detector, [image], options, failed)]


def decoded_images(todo: Iterable[tuple[str, Any]], ahead: int) -> Iterator[DecodedImage]:
    """Images in order, decoded by threads up to ``ahead`` of who takes them."""
    from osv_lab.detect.images import read_image

    def read(sample_id: str, path: Any) -> DecodedImage:
        try:
            return DecodedImage(sample_id, 0, shown(path), read_image(path))
        except OsvError as error:
            return DecodedImage(sample_id, 0, shown(path), error)

    waiting: deque[Future[DecodedImage]] = deque()
    pool = ThreadPoolExecutor(2, "osv-decode")
    try:
        for sample_id, path in todo:
            waiting.append(pool.submit(read, sample_id, path))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decoded_frames(sample_id: str, path: str, done: set[int]) -> Iterator[DecodedImage]:
    """The frames of a video that are not ``done``, and at its end what was wrong with it."""
    try:
        source = VideoSource(path)
    except InvalidDataError as error:
        yield DecodedImage(sample_id, 0, shown(path), error)
        return
    first = next(number for number in itertools.count(1) if number not in done)
    for frame in read_ahead(source, first):
        if frame.number not in done:
            yield DecodedImage(sample_id, frame.number, shown(path), frame.image)
    for event in source.events:
        wrong = InvalidDataError(f"the video is {event.kind}", event.detail)
        yield DecodedImage(sample_id, event.frame, shown(path), wrong)
