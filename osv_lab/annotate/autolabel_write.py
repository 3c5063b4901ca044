"""Writing proposals beside the labels that stay, however often somebody else writes meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from osv_lab.annotate.documents import TRUSTED, WHY, shapes_of
from osv_lab.annotate.looked_at import looked_at, made_by_people
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.overlap import extents
from osv_lab.annotate.proposals import Judged
from osv_lab.annotate.records import place_name
from osv_lab.annotate.rules import Rules
from osv_lab.core.errors import UnavailableError, UsageError
from osv_lab.store.annotation_store import (
    Labelled,
    container_of,
    is_of_frames,
    name_of,
    read_places,
    replace_labels,
)
from osv_lab.store.bulk import Writer
from osv_lab.store.documents import (
    AUTOLABELLED,
    MODEL,
    SOURCE,
    Document,
    container_document,
    label_document,
    new_ids,
    track_index,
)
from osv_lab.store.predict import CONTAINERS
from osv_lab.store.records import Attributes, Keypoints, Label
from osv_lab.store.schema import LabelSchema

if TYPE_CHECKING:
    import fiftyone as fo
    import supervision as sv

    from osv_lab.detect.detector import Detector

ATTEMPTS = 8


class Seen(NamedTuple):
    """What a detector saw in one image: its width and height in pixels, and the detections."""

    size: tuple[int, int]
    detections: sv.Detections


class ProposalWriter:
    """Writes a detector's proposals into one field.

    Args:
        dataset: The dataset.
        field: The label field, ``frames.<name>`` for videos; made if it is not there.
        detector: What proposes.
        rules: How its detections become proposals.
        key: What the field is marked with.

    Attributes:
        container: The FiftyOne class of the field.

    Raises:
        UsageError: the field holds another kind of label, or the detector's kind is unknown.
    """

    def __init__(self, dataset: fo.Dataset, field: str, detector: Detector, rules: Rules, key: str) -> None:
        if detector.task not in CONTAINERS:
            raise UsageError("the detector's task is unknown", repr(detector.task))
        self.container = CONTAINERS[detector.task]
        if dataset.get_field(field) is not None:
            self.container = container_of(dataset, field)
        if self.container.removesuffix("s") != CONTAINERS[detector.task].removesuffix("s"):
            raise UsageError(
                "the field holds another kind of label",
                f"'{field}' holds {self.container}, the detector finds {CONTAINERS[detector.task]}",
                "choose another field",
            )
        self._dataset, self._path, self._field = dataset, field, name_of(field)
        self._detector, self._rules, self._key = detector, rules, key
        self._schema = LabelSchema(dataset, frames=is_of_frames(field))
        self._schema.declare(self._field, self.container)
        self._schema.declare_mark(self._field, AUTOLABELLED)
        self._people = looked_at(dataset, field)
        self._instances: defaultdict[int, Any] = defaultdict(lambda: next(new_ids(1)))
        self._taken = 0

    def new_tracks(self, before: Iterable[Labelled]) -> None:
        """A new video: its tracks get numbers that no label which stays has."""
        self._instances.clear()
        indices = [
            one.get("index") for labelled in before for one in labelled.labels if not self._is_proposal(one)
        ]
        self._taken = max((index for index in indices if type(index) is int), default=0)

    def write(self, found: Mapping[tuple[str, int], Seen]) -> None:
        """Write proposals beside what stays, again where somebody wrote meanwhile.

        Args:
            found: What was seen, by sample id and frame, 0 for an image.

        Raises:
            UnavailableError: the dataset keeps changing.
        """
        todo = set(found)
        disagreements: dict[tuple[str, int], list[Label]] = {}
        for _ in range(ATTEMPTS):
            writes = []
            for one in read_places(self._dataset, sorted(todo), self._path):
                place = one.id, one.frame
                labels, disagreements[place] = self._labels(one, found[place])
                writes.append((one, labels))
            marks = {AUTOLABELLED: self._key}
            if not replace_labels(self._dataset, self._path, self.container, writes, marks):
                break
            after = read_places(self._dataset, sorted(todo), self._path)
            todo = {(one.id, one.frame) for one in after if (one.container or {}).get(AUTOLABELLED) != self._key}
        else:
            raise UnavailableError("the dataset keeps changing while it is written", f"{ATTEMPTS} attempts")
        self._write_disagreements(disagreements)

    def _labels(self, there: Labelled, seen: Seen) -> tuple[list[Document], list[Label]]:
        """The documents that an image is to have, those that stay and new proposals; and what disagrees with them."""
        width, height = seen.size
        staying = [one for one in there.labels if not self._is_proposal(one)]
        kept = shapes_of(replace(there, container=container_document(self.container, staying)), seen.size)
        whole = self._detector.task == "classify"
        places = np.tile([0.0, 0.0, width, height], (len(kept), 1)) if whole else extents(kept)
        known = place_name(there.id, there.frame) in self._people.places or any(map(made_by_people, kept))
        labels, judged = self._rules.judged(
            seen.detections, seen.size, places, [shape.label for shape in kept], looked_at=known
        )
        proposed = list(zip(judged.proposed.tolist(), judged.why, strict=True))
        if whole:
            # The most confident class comes first, and is the image's; beside a person's there is no other.
            proposed = [] if kept else proposed[:1]
        new = [self._document(labels[place], why) for place, why in proposed]
        return [*staying, *new], _disagreeing(judged, labels, kept)

    def _document(self, label: Label, why: str) -> Document:
        about: dict[str, Any] = {SOURCE: "auto", MODEL: self._detector.ref, TRUSTED: not why}
        if why:
            about[WHY] = why
        if isinstance(label, Keypoints):
            self._schema.declare_keypoints(self._field, label)
        attributes = self._schema.fit(self._field, {**label.attributes, **about})
        index = track_index(label)
        document = label_document(
            label, next(new_ids(1)), attributes, None if index is None else self._instances[index]
        )
        return document if index is None else {**document, "index": index + self._taken}

    def _is_proposal(self, document: Mapping[str, Any]) -> bool:
        """Whether a label is a proposal that nobody has touched or gone over, and so may be replaced."""
        return (
            document.get(SOURCE) == "auto"
            and TRUSTED in document
            and str(document["_id"]) not in self._people.labels
        )

    def _write_disagreements(self, found: Mapping[tuple[str, int], list[Label]]) -> None:
        if self._dataset.get_field(f"{self._path}_disagreements") is None and not any(found.values()):
            return
        name = f"{self._field}_disagreements"
        writer = Writer(self._dataset)
        if is_of_frames(self._path):
            frames: dict[str, dict[int, list[Label]]] = defaultdict(dict)
            for (sample, frame), labels in found.items():
                frames[sample][frame] = labels
            for sample, some in frames.items():
                writer.set_frame_labels(name, sample, some, self.container)
        else:
            writer.set_labels(name, {sample: labels for (sample, _), labels in found.items()}, self.container)
        writer.finish()


def _disagreeing(judged: Judged, labels: Sequence[Label], kept: Sequence[Shape]) -> list[Label]:
    found: list[Label] = []
    for place, other in judged.disagree:
        about: Attributes = {"was": kept[other].label, "of_label": str(kept[other].uid)}
        found.append(replace(labels[place], attributes=about))
    return found
