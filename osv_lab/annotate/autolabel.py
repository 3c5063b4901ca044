"""A detector proposes labels: which to trust and which a person should look at. What people made is never touched.

The field of an image, or of a frame, names what proposed its labels. So a killed run continues where it stopped, the
same run again does nothing, and another detector replaces the proposals that nobody has looked at, and no others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.autolabel_report import AutolabelReport, report
from osv_lab.annotate.autolabel_write import ProposalWriter, Seen
from osv_lab.annotate.ontology import Ontology
from osv_lab.annotate.proposals import THRESHOLD, TRUST, Levels
from osv_lab.annotate.rules import IOU, Rules, loaded
from osv_lab.core.errors import InterruptedJobError, OsvError, UnavailableError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.store.annotation_store import FRAMES, name_of, read_samples
from osv_lab.store.clips import clips_of
from osv_lab.store.documents import AUTOLABELLED
from osv_lab.store.predict import DecodedImage, decoded_frames, decoded_images, found_in
from osv_lab.store.records import Problem
from osv_lab.track.tracker import ObjectTracker

if TYPE_CHECKING:
    from osv_lab.detect.detector import Detector

WRITE_EVERY = 256
"""Images written at a time: what a killed run has computed in vain at most."""
FRAME_RATE = 30.0
"""Frames per second, where a video does not say."""


def autolabel(
    view: Any,
    detector: Detector | str,
    label_field: str = "ground_truth",
    ontology: Ontology | None = None,
    thresholds: Levels = THRESHOLD,
    *,
    trust: Levels = TRUST,
    iou: float = IOU,
    tracker: str | Mapping[str, Any] | None = None,
    batch_size: int = 8,
    progress: Progress = silent,
) -> AutolabelReport:
    """Let a detector propose labels for a view of images, or for every frame of a view of videos.

    Every proposal says which model made it (``osv_model``), how sure it was (``confidence``), whether it may be trusted
    (``osv_trusted``) and if not, why a person should look (``osv_why``): a low confidence, one near the threshold,
    another class on the same object, or people have labelled the image without it. The saved view
    ``<field>_uncertain`` has the images to send to people, ``<field>_trusted`` those where every proposal is trusted.
    Both follow the labels: an image that people went over leaves them.

    Labels that people made, changed or went over in a finished job stay as they are, and so do labels that something
    else wrote. A detection that says the same as one of those is not proposed; one that sees another class there is
    not either, but put into the field ``<field>_disagreements``, with a saved view of that name.

    Of videos the views are of those with such frames, and :meth:`AutolabelReport.windows` has the frames to send. With
    a ``tracker`` the proposals along a video are tracks, which go to CVAT as such; a video is written when it is done.

    Args:
        view: A dataset or view of images.
        detector: A detector, or what :func:`osv_lab.detect.load_detector` loads.
        label_field: The field to write, made if it is not there; of videos one of their frames, ``frames.`` or not.
        ontology: Which label each class of the detector becomes: names or patterns; several classes may become one;
            ``None`` drops a class. Classes of which it says nothing keep their name.
        thresholds: Detections with a lower confidence are not proposed: one for all labels, or one each.
        trust: Proposals with a lower confidence are for people: one for all labels, or one each.
        iou: Of two detections of one label that overlap by more, the less confident is dropped.
        tracker: Of videos, what follows the proposals, as for :func:`osv_lab.store.tracks.track`; none by default.
        batch_size: Images per call of the detector.
        progress: Told about images, or frames.

    Returns:
        The report. An image that cannot be read is named in it; the others are labelled.

    Raises:
        UsageError: a rule, threshold, tracker or field that cannot be used.
        UnavailableError: the database cannot be used, or the detector fails on everything.
        InterruptedJobError: the user stopped it. Running it again continues.

    Example:
        >>> report = autolabel(dataset, "best.onnx", "proposals", ontology={"RBC": "erythrocyte", "WBC": None})
        >>> print(report.summary())
        20 images labelled: 20 proposals in 'proposals', 20 trusted, 0 to look at on 0 images
    """
    if view.media_type not in (None, "image", "video"):
        raise UsageError("autolabel takes images or videos", f"the view holds {view.media_type}")
    if batch_size < 1:
        raise UsageError("batch_size must be at least 1", batch_size)
    options = {"algorithm": tracker} if isinstance(tracker, str) else tracker
    if options is not None:
        if view.media_type != "video":
            raise UsageError("a tracker follows the frames of videos", f"the view holds {view.media_type}")
        ObjectTracker(options)
    detector = loaded(detector)
    rules = Rules.of(detector, ontology, thresholds, trust, iou)
    run = _Run(view, detector, label_field, rules, options, batch_size, progress)
    try:
        run.all()
    except KeyboardInterrupt:
        done = f"{run.labelled:,} images were done"
        raise InterruptedJobError("autolabel was stopped", done, "run the same again: it continues") from None
    return run.report()


class _Run:
    """One run under way."""

    def __init__(
        self,
        view: Any,
        detector: Detector,
        field: str,
        rules: Rules,
        tracker: Mapping[str, Any] | None,
        batch_size: int,
        progress: Progress,
    ) -> None:
        self.labelled = 0
        self._view, self._dataset = view, view._dataset
        self._detector, self._rules, self._tracker = detector, rules, tracker
        self._batch_size, self._progress = batch_size, progress
        self._field = FRAMES + name_of(field) if view.media_type == "video" else field
        self.key, self._said = rules.identity(detector, tracker)
        self._writer = ProposalWriter(self._dataset, self._field, detector, rules, self.key)
        self._problems: list[Problem] = []
        self._kept = 0

    def all(self) -> None:
        """Go through the view, and write as we go."""
        made = dict(self._dataset.info.get("autolabel", {}))
        self._dataset.info["autolabel"] = {**made, self.key: self._said}
        self._dataset.save()
        if self._field.startswith(FRAMES):
            self._videos()
        else:
            self._images()

    def report(self) -> AutolabelReport:
        """Save the views, and tell what is there now."""
        return report(
            self._view,
            self._field,
            self._writer.container,
            key=self.key,
            model=self._detector.ref,
            settings=self._said,
            labelled=self.labelled,
            kept=self._kept,
            problems=tuple(self._problems),
        )

    def _images(self) -> None:
        ids = self._view.values("id")
        for start in range(0, len(ids), WRITE_EVERY):
            part = ids[start : start + WRITE_EVERY]
            samples = {one.id: one for one in read_samples(self._dataset, part, self._field)}
            done = {one.id for one in samples.values() if (one.container or {}).get(AUTOLABELLED) == self.key}
            self._kept += len(done)
            todo = [(name, samples[name].filepath) for name in part if name in samples and name not in done]
            for found in self._seen(decoded_images(todo, self._batch_size * 4), len(ids)):
                self._write(found)
        self._progress("autolabel", self.labelled + self._kept, len(ids))

    def _videos(self) -> None:
        for clip in clips_of(self._view):
            sample = clip.sample_id
            before = read_samples(self._dataset, [sample], self._field)
            done = {one.frame for one in before if (one.container or {}).get(AUTOLABELLED) == self.key}
            if self._tracker is None:
                self._kept += len(done)
                for found in self._seen(decoded_frames(sample, clip.path, done), None):
                    self._write(found)
            elif 1 in done:
                self._kept += len(done)
            else:
                options = {"frame_rate": clip.frame_rate or FRAME_RATE, **self._tracker, "keep_untracked": True}
                tracker = ObjectTracker(options)
                self._writer.new_tracks(before)
                parts = list(self._seen(decoded_frames(sample, clip.path, set()), None, tracker))
                # The first frames last: where they have their proposals, the video is done.
                for found in reversed(parts):
                    self._write(found)

    def _seen(
        self, images: Iterator[DecodedImage], total: int | None, tracker: ObjectTracker | None = None
    ) -> Iterator[dict[tuple[str, int], Seen]]:
        """What the detector sees, so many images at a time."""
        ready: dict[tuple[str, int], Seen] = {}
        while batch := list(itertools.islice(images, self._batch_size)):
            readable = []
            for image in batch:
                if isinstance(image.pixels, OsvError):
                    self._problems.append(Problem(_named(image), str(image.pixels), "", "file skipped"))
                else:
                    readable.append(image)
            for image, detections in found_in(self._detector, readable, self._rules.options, self._failed):
                pixels: Any = image.pixels
                if tracker is not None:
                    detections = tracker.update(detections, pixels)
                height, width = pixels.shape[:2]
                ready[image.sample_id, image.frame] = Seen((width, height), detections)
            self._progress("autolabel", self.labelled + self._kept + len(ready), total)
            if len(ready) >= WRITE_EVERY:
                yield ready
                ready = {}
        if ready:
            yield ready

    def _write(self, found: Mapping[tuple[str, int], Seen]) -> None:
        self._writer.write(found)
        self.labelled += len(found)

    def _failed(self, image: DecodedImage, error: Exception) -> None:
        if not self.labelled and len(self._problems) >= 2 * self._batch_size:
            raise UnavailableError("the detector fails on every image", error, "try it on one image") from error
        self._problems.append(Problem(_named(image), f"the detector failed: {error}", "", "file skipped"))


def _named(image: DecodedImage) -> str:
    return f"{image.name} frame {image.frame}" if image.frame else image.name
