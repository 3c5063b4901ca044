"""A detector proposes labels: which to trust and which a person should look at. What people made is never touched.

A sample's field names what proposed its labels. So a killed run continues where it stopped, the same run again does
nothing, and another detector replaces the proposals that nobody has looked at, and no others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.annotate.autolabel_report import AutolabelReport, report
from osv_lab.annotate.documents import TRUSTED, WHY, shapes_of
from osv_lab.annotate.looked_at import looked_at, made_by_people
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.ontology import Ontology
from osv_lab.annotate.overlap import extents
from osv_lab.annotate.proposals import THRESHOLD, TRUST, Judged, Levels
from osv_lab.annotate.rules import IOU, Rules, loaded
from osv_lab.core.errors import InterruptedJobError, OsvError, UnavailableError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.store.annotation_store import Labelled, container_of, read_samples, replace_labels
from osv_lab.store.bulk import Writer
from osv_lab.store.documents import (
    AUTOLABELLED,
    MODEL,
    SOURCE,
    Document,
    container_document,
    label_document,
    new_ids,
)
from osv_lab.store.predict import CONTAINERS, DecodedImage, decoded_images, found_in
from osv_lab.store.records import Attributes, Keypoints, Label, Problem
from osv_lab.store.schema import LabelSchema

if TYPE_CHECKING:
    import supervision as sv

    from osv_lab.detect.detector import Detector

WRITE_EVERY = 256
"""Images written at a time: what a killed run has computed in vain at most."""
ATTEMPTS = 8


def autolabel(
    view: Any,
    detector: Detector | str,
    label_field: str = "ground_truth",
    ontology: Ontology | None = None,
    thresholds: Levels = THRESHOLD,
    *,
    trust: Levels = TRUST,
    iou: float = IOU,
    batch_size: int = 8,
    progress: Progress = silent,
) -> AutolabelReport:
    """Let a detector propose labels for a view of images.

    Every proposal says which model made it (``osv_model``), how sure it was (``confidence``), whether it may be trusted
    (``osv_trusted``) and if not, why a person should look (``osv_why``): a low confidence, one near the threshold,
    another class on the same object, or people have labelled the image without it. The saved view
    ``<field>_uncertain`` has the images to send to people, ``<field>_trusted`` those where every proposal is trusted.
    Both follow the labels: an image that people went over leaves them.

    Labels that people made, changed or went over in a finished job stay as they are, and so do labels that something
    else wrote. A detection that says the same as one of those is not proposed; one that sees another class there is
    not either, but put into the field ``<field>_disagreements``, with a saved view of that name.

    Args:
        view: A dataset or view of images.
        detector: A detector, or what :func:`osv_lab.detect.load_detector` loads.
        label_field: The field to write, made if it is not there.
        ontology: Which label each class of the detector becomes: names or patterns; several classes may become one;
            ``None`` drops a class. Classes of which it says nothing keep their name.
        thresholds: Detections with a lower confidence are not proposed: one for all labels, or one each.
        trust: Proposals with a lower confidence are for people: one for all labels, or one each.
        iou: Of two detections of one label that overlap by more, the less confident is dropped.
        batch_size: Images per call of the detector.
        progress: Told about images.

    Returns:
        The report. An image that cannot be read is named in it; the others are labelled.

    Raises:
        UsageError: a rule, threshold or field that cannot be used, or videos.
        UnavailableError: the database cannot be used, or the detector fails on everything.
        InterruptedJobError: the user stopped it. Running it again continues.

    Example:
        >>> report = autolabel(dataset, "best.onnx", ontology={"erythrocyte": "RBC", "dirt": None})  # doctest: +SKIP
        >>> loop.send(report.view("uncertain"), "to_check", "ground_truth")                       # doctest: +SKIP
    """
    if view.media_type not in (None, "image"):
        raise UsageError("autolabel takes images", f"the view holds {view.media_type}", "track the videos instead")
    if batch_size < 1:
        raise UsageError("batch_size must be at least 1", batch_size)
    detector = loaded(detector)
    rules = Rules.of(detector, ontology, thresholds, trust, iou)
    run = _Run(view, detector, label_field, rules, batch_size, progress)
    try:
        run.all_images()
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
        batch_size: int,
        progress: Progress,
    ) -> None:
        if detector.task not in CONTAINERS:
            raise UsageError("the detector's task is unknown", repr(detector.task))
        self.labelled = 0
        self._view, self._dataset, self._field = view, view._dataset, field
        self._detector, self._rules = detector, rules
        self._batch_size, self._progress = batch_size, progress
        self._container = CONTAINERS[detector.task]
        if self._dataset.get_field(field) is not None:
            self._container = container_of(self._dataset, field)
        if (self._container.removesuffix("s")) != CONTAINERS[detector.task].removesuffix("s"):
            raise UsageError(
                "the field holds another kind of label",
                f"'{field}' holds {self._container}, the detector finds {CONTAINERS[detector.task]}",
                "choose another field",
            )
        self._schema = LabelSchema(self._dataset)
        self._schema.declare(field, self._container)
        self._schema.declare_mark(field, AUTOLABELLED)
        self.key, self._said = rules.identity(detector)
        self._people = looked_at(self._dataset, field)
        self._problems: list[Problem] = []
        self._disagreements: dict[str, list[Label]] = {}
        self._kept = 0

    def all_images(self) -> None:
        """Go through the view, and write as we go."""
        made = dict(self._dataset.info.get("autolabel", {}))
        self._dataset.info["autolabel"] = {**made, self.key: self._said}
        self._dataset.save()
        ids = self._view.values("id")
        for start in range(0, len(ids), WRITE_EVERY):
            part = ids[start : start + WRITE_EVERY]
            samples = {one.id: one for one in read_samples(self._dataset, part, self._field)}
            done = [one.id for one in samples.values() if (one.container or {}).get(AUTOLABELLED) == self.key]
            self._kept += len(done)
            todo = [(name, samples[name].filepath) for name in part if name in samples and name not in set(done)]
            found: dict[str, tuple[DecodedImage, sv.Detections]] = {}
            images = decoded_images(todo, self._batch_size * 4)
            while batch := list(itertools.islice(images, self._batch_size)):
                readable = []
                for image in batch:
                    if isinstance(image.pixels, OsvError):
                        self._problems.append(Problem(image.name, str(image.pixels), "", "file skipped"))
                    else:
                        readable.append(image)
                for image, detections in found_in(self._detector, readable, self._rules.options, self._failed):
                    found[image.sample_id] = image, detections
                self._progress("autolabel", start + len(found), len(ids))
            self._write(found)
            self.labelled += len(found)
        self._progress("autolabel", len(ids), len(ids))

    def report(self) -> AutolabelReport:
        """Save the views, and tell what is there now."""
        return report(
            self._view,
            self._field,
            self._container,
            key=self.key,
            model=self._detector.ref,
            settings=self._said,
            labelled=self.labelled,
            kept=self._kept,
            problems=tuple(self._problems),
        )

    def _failed(self, image: DecodedImage, error: Exception) -> None:
        if not self.labelled and len(self._problems) >= 2 * self._batch_size:
            raise UnavailableError("the detector fails on every image", error, "try it on one image") from error
        self._problems.append(Problem(image.name, f"the detector failed: {error}", "", "file skipped"))

    def _write(self, found: Mapping[str, tuple[DecodedImage, Any]]) -> None:
        """Write proposals beside what stays, again where somebody wrote meanwhile."""
        todo = set(found)
        self._disagreements = {}
        for _ in range(ATTEMPTS):
            samples = read_samples(self._dataset, sorted(todo), self._field)
            writes = [(one, self._labels(one, *found[one.id])) for one in samples]
            if not replace_labels(self._dataset, self._field, self._container, writes, {AUTOLABELLED: self.key}):
                break
            after = read_samples(self._dataset, sorted(todo), self._field)
            todo = {one.id for one in after if (one.container or {}).get(AUTOLABELLED) != self.key}
        else:
            raise UnavailableError("the dataset keeps changing while it is written", f"{ATTEMPTS} attempts")
        self._write_disagreements()

    def _labels(self, sample: Labelled, image: DecodedImage, detections: sv.Detections) -> list[Document]:
        """The label documents that a sample is to have: those that stay, and new proposals."""
        height, width = image.pixels.shape[:2]  # type: ignore[union-attr]
        staying = [one for one in sample.labels if not self._is_proposal(one)]
        kept = shapes_of(replace(sample, container=container_document(self._container, staying)), (width, height))
        whole = self._detector.task == "classify"
        places = np.tile([0.0, 0.0, width, height], (len(kept), 1)) if whole else extents(kept)
        labels, judged = self._rules.judged(
            detections,
            (width, height),
            places,
            [shape.label for shape in kept],
            looked_at=sample.id in self._people.samples or any(map(made_by_people, kept)),
        )
        self._note_disagreements(sample, judged, labels, kept)
        proposed = list(zip(judged.proposed.tolist(), judged.why, strict=True))
        if whole:
            # The most confident class comes first, and is the image's; beside a person's there is no other.
            proposed = [] if kept else proposed[:1]
        return [*staying, *(self._document(labels[place], why) for place, why in proposed)]

    def _document(self, label: Label, why: str) -> Document:
        about: dict[str, Any] = {SOURCE: "auto", MODEL: self._detector.ref, TRUSTED: not why}
        if why:
            about[WHY] = why
        if isinstance(label, Keypoints):
            self._schema.declare_keypoints(self._field, label)
        attributes = self._schema.fit(self._field, {**label.attributes, **about})
        return label_document(label, next(new_ids(1)), attributes)

    def _is_proposal(self, document: Mapping[str, Any]) -> bool:
        """Whether a label is a proposal that nobody has touched or gone over, and so may be replaced."""
        return (
            document.get(SOURCE) == "auto"
            and TRUSTED in document
            and str(document["_id"]) not in self._people.labels
        )

    def _note_disagreements(
        self, sample: Labelled, judged: Judged, labels: Sequence[Label], kept: Sequence[Shape]
    ) -> None:
        noted: list[Label] = []
        for place, other in judged.disagree:
            about: Attributes = {"was": kept[other].label, "of_label": str(kept[other].uid)}
            noted.append(replace(labels[place], attributes=about))
        self._disagreements[sample.id] = noted

    def _write_disagreements(self) -> None:
        name = f"{self._field}_disagreements"
        declared = self._dataset.get_field(name) is not None
        if declared or any(self._disagreements.values()):
            writer = Writer(self._dataset)
            writer.set_labels(name, self._disagreements, self._container)
            writer.finish()
