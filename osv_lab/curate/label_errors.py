"""Which labels are probably wrong: missing, spurious, of the wrong class, badly placed. Ranked, and a queue to walk."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import SEED
from osv_lab.curate.evidence import ImageBoxes
from osv_lab.curate.measures import FIELD as MEASURES
from osv_lab.curate.mistakes import ALL_KINDS, Judged, judge
from osv_lab.curate.mistakes import KINDS as LABEL_KINDS
from osv_lab.store.bulk import Writer
from osv_lab.store.bulk_documents import boxes_in, read_documents
from osv_lab.store.database import connect
from osv_lab.store.records import Attributes, Box

if TYPE_CHECKING:
    import fiftyone as fo

KINDS = ALL_KINDS


@dataclass(frozen=True)
class Suggestion:
    """One label that is probably wrong, or one that is probably missing.

    Attributes:
        kind: The likeliest of :data:`KINDS`.
        score: The probability that it is an error, on the scale of :func:`osv_lab.curate.mistakes.judge`: 0 to 1.
        sample: The sample's id.
        label: The label's id; ``""`` for a missing one.
        was: Its class; ``""`` for a missing one.
        should_be: The class that the predictions say; ``""`` for a spurious one.
        box: ``[x, y, w, h]``, relative: where the object is according to the predictions, or for a spurious label where
            the label is.
        chances: The probability of each kind that it can be, by kind; ``score`` is their sum, at most 1.
    """

    kind: str
    score: float
    sample: str
    label: str
    was: str
    should_be: str
    box: tuple[float, float, float, float]
    chances: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True)
class LabelErrorReport(Report):
    """The result of :func:`find_label_errors`.

    Attributes:
        key: The field with the suggestions, and the name of the saved view.
        dataset: The dataset's name.
        labels: How many labels were looked at.
        suggestions: The likeliest errors first.
        duration_s: Seconds spent.
    """

    key: str
    dataset: str
    labels: int
    suggestions: tuple[Suggestion, ...]
    duration_s: float = field(default=0.0, compare=False)

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per suggestion, the likeliest first."""
        return [
            {
                "kind": one.kind,
                "score": one.score,
                "was": one.was,
                "should be": one.should_be,
                "sample": one.sample,
                "label": one.label,
            }
            for one in self.suggestions
        ]

    def highlights(self) -> list[Mapping[str, Any]]:
        """The first twenty."""
        return self.rows()[:20]

    def summary(self) -> str:
        """The counts in one line: of what is suspicious, which is not what is wrong."""
        kinds = Counter(one.kind for one in self.suggestions)
        told = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in kinds.most_common())
        most = f"the {len(self.suggestions):,} most suspicious in order, {told}" if told else "nothing suspicious"
        return f"{self.key}: {most}, of {self.labels:,} labels of '{self.dataset}'"

    def likeliest(self, kind: str, limit: int = 200) -> tuple[Suggestion, ...]:
        """The suggestions that are likeliest of one kind, whatever other kind they may be.

        A box beside an object may be one that was moved off it or one too many: it is in both lists.

        Raises:
            NotFoundError: no kind is called so.
        """
        _check_kind(kind)
        some = [one for one in self.suggestions if kind in one.chances]
        return tuple(sorted(some, key=lambda one: (-one.chances[kind], one.sample, one.label))[:limit])

    def view(self, kind: str | None = None) -> Any:
        """The samples with suggestions (of one kind, and only those), the likeliest first.

        Raises:
            NotFoundError: no kind is called so.
        """
        from fiftyone import ViewField

        from osv_lab.store.catalogue import open_dataset

        if kind is not None:
            _check_kind(kind)
        samples = dict.fromkeys(one.sample for one in self.suggestions if kind in (None, one.kind))
        view = open_dataset(self.dataset).select(list(samples), ordered=True)
        return view if kind is None else view.filter_labels(self.key, ViewField("label") == kind)


def find_label_errors(
    view: fo.SampleCollection,
    pred_field: str = "predictions",
    gt_field: str = "ground_truth",
    *,
    key: str = "label_errors",
    limit: int = 1000,
    seed: int = SEED,
    progress: Progress = silent,
) -> LabelErrorReport:
    """Find labels that are probably wrong.

    The suggestions are written into the field ``key``: a box per suggestion, its class the kind of error, its
    confidence the score, and ``was``, ``should_be``, ``rank`` (from 1), ``of_label`` and ``state`` (``open``) as
    attributes: :mod:`osv_lab.curate.review` walks through them. The saved view
    ``key`` holds the samples, the likeliest errors first. What an earlier run of the same key wrote is replaced.

    Labels without a class or a box are passed over.

    Predictions should be out of fold, from models that did not see the labels they judge (:func:`fold_splits`); a model
    agrees with the errors that it learned. Keep unsure predictions, down to a confidence of 0.05.

    Args:
        view: A dataset or view of images. Samples that nobody labelled are left out.
        pred_field: Predictions, a field of ``fiftyone.Detections``.
        gt_field: Labels, likewise.
        key: Where the suggestions go.
        limit: The most suggestions. There are as many where there is as much to judge: every label is one, the least
            suspicious last.
        seed: Of the mistakes that are made to learn from.
        progress: Told about stages.

    Raises:
        NotFoundError: there is no such field.
        UsageError: a field of another kind, ``limit`` below 1, or ``key`` is in use for something else or cannot be the
            name of a field.
        InvalidDataError: nothing is labelled.

    Example:
        >>> report = find_label_errors(dataset, "predictions", limit=6)
        >>> print(report.summary())
        label_errors: the 6 most suspicious in order, ... wrong class, of 30 labels of 'cells'
        >>> queue = report.view("wrong_class")                     # to look at in the App
    """
    fo = connect()
    begin = time.perf_counter()
    for name in (pred_field, gt_field):
        _check_field(fo, view, name)
    if pred_field == gt_field:
        raise UsageError("labels are judged by predictions", f"'{gt_field}' is both", "name two fields")
    if limit < 1:
        raise UsageError("limit must be at least 1", limit)
    dataset = view._dataset
    _check_key(dataset, key)
    images, names = _read(view, gt_field, pred_field)
    if not any(len(one.boxes) for one in images):
        raise InvalidDataError(
            "nothing is labelled", f"'{gt_field}' of '{dataset.name}' has no boxes in this view"
        )
    judged = judge(images, len(names), seed, progress)
    found = [one for image, verdict in zip(images, judged, strict=True) for one in _suggest(image, verdict, names)]
    found = sorted(found, key=lambda one: (-one.score, one.sample, one.label))[:limit]
    _write(dataset, [one.sample for one in images], key, gt_field, found)
    return LabelErrorReport(
        key=key,
        dataset=dataset.name,
        labels=sum(len(one.boxes) for one in images),
        suggestions=tuple(found),
        duration_s=time.perf_counter() - begin,
    )


def fold_splits(view: fo.SampleCollection, folds: int = 5, seed: int = SEED) -> list[tuple[Any, Any]]:
    """Folds for predictions out of fold: train on the first view of each pair, predict on the second.

    Args:
        view: A dataset or view.
        folds: How many, at least 2.
        seed: Of the order.

    Returns:
        ``folds`` pairs of views; the second ones are disjoint and together the whole view.

    Raises:
        UsageError: fewer than 2 folds, or more than samples.
    """
    ids = view.values("id")
    if not isinstance(folds, int) or not 2 <= folds <= len(ids):
        raise UsageError(
            "folds must be at least 2 and at most the samples", folds, f"there are {len(ids)} samples"
        )
    order = np.random.default_rng(seed).permutation(len(ids))
    parts = [[ids[place] for place in sorted(order[number::folds])] for number in range(folds)]
    return [(view.exclude(part), view.select(part)) for part in parts]


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise NotFoundError("no such kind of label error", repr(kind), nearest(kind, KINDS))


def _check_key(dataset: Any, key: str) -> None:
    """That what goes under the key takes the place of nothing but an earlier run's."""
    if not key.isidentifier() or key.startswith("_"):
        raise UsageError("not a name of a field", repr(key), "use letters, digits and '_', such as 'label_errors'")
    if key in dataset.info.get("label_errors", []):
        return
    kept = {"field": dataset.get_field(key) is not None, "saved view": dataset.has_saved_view(key)}
    kept["field"] |= key == MEASURES
    for what, there in kept.items():
        if there:
            raise UsageError(f"the key is a {what} that holds something else", repr(key), "choose another key")


def _check_field(fo: Any, view: fo.SampleCollection, name: str) -> None:
    declared = view.get_field(name)
    if declared is None:
        names = view.get_field_schema(embedded_doc_type=fo.Detections)
        raise NotFoundError(
            "no such field", repr(name), nearest(name, names) if names else "osv predict makes one"
        )
    if getattr(declared, "document_type", None) is not fo.Detections:
        raise UsageError("label errors are found among boxes", f"'{name}' is not a field of Detections")


def _read(view: fo.SampleCollection, gt_field: str, pred_field: str) -> tuple[list[ImageBoxes], list[str]]:
    """The labelled images of a view, and the names of the labels' classes."""
    documents = [
        one
        for one in read_documents(view, [gt_field, pred_field, "labelled"])
        if one.get("labelled") is not False and one.get(gt_field) is not None
    ]
    names = sorted({label["label"] for one in documents for label in _usable(one, gt_field)})
    number = {name: place for place, name in enumerate(names)}
    images = []
    for one in documents:
        metadata = one.get("metadata") or {}
        # Without a known size a unit square serves: only ratios of sides count, but for how near the border is.
        size = (float(metadata.get("width") or 1000), float(metadata.get("height") or 1000))
        labels = _usable(one, gt_field)
        found = [label for label in _usable(one, pred_field) if label.get("confidence") is not None]
        images.append(
            ImageBoxes(
                one["_id"],
                size,
                _xyxy(labels, size),
                np.array([number[label["label"]] for label in labels], int),
                np.array([str(label["_id"]) for label in labels], object),
                _xyxy(found, size),
                np.array([number.get(label["label"], -1) for label in found], int),
                np.array([label["confidence"] for label in found], float),
            )
        )
    return images, names


def _usable(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """The labels that have a class and a box; :func:`osv_lab.curate.health.health` names the others."""

    def usable(label: Mapping[str, Any]) -> bool:
        box = label.get("bounding_box") or ()
        return bool(label.get("label")) and len(box) == 4 and all(map(math.isfinite, box))

    return [label for label in boxes_in(document, field) if usable(label)]


def _xyxy(labels: Sequence[Mapping[str, Any]], size: tuple[float, float]) -> np.ndarray:
    xywh = np.array([label["bounding_box"] for label in labels], float).reshape(-1, 4) * [*size, *size]
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _suggest(image: ImageBoxes, judged: Judged, names: Sequence[str]) -> list[Suggestion]:
    scale = np.array([*image.size, *image.size])

    def relative(box: np.ndarray) -> tuple[float, float, float, float]:
        x, y, right, bottom = (box / scale).tolist()
        return x, y, right - x, bottom - y

    found = []
    for place, chances in enumerate(judged.labels):
        kind = LABEL_KINDS[int(chances.argmax())]
        agreeing, other = judged.evidence.suggested[place]
        instead = {"badly_placed": agreeing, "wrong_class": other}.get(kind, -1)
        was = names[image.classes[place]]
        should = was if kind == "badly_placed" else ""
        if kind == "wrong_class" and other >= 0 and image.found_classes[other] >= 0:
            should = names[image.found_classes[other]]
        box = image.found[instead] if instead >= 0 else image.boxes[place]
        score = float(min(chances.sum(), 1))
        each = dict(zip(LABEL_KINDS, map(float, chances), strict=True))
        label = str(image.ids[place])
        found.append(Suggestion(kind, score, image.sample, label, was, should, relative(box), each))
    for place, score in zip(judged.evidence.which, judged.missing, strict=True):
        name = names[image.found_classes[place]]
        box = relative(image.found[place])
        each = {"missing": float(score)}
        found.append(Suggestion("missing", float(score), image.sample, "", "", name, box, each))
    return found


def _write(dataset: Any, samples: Sequence[str], key: str, gt_field: str, found: Sequence[Suggestion]) -> None:
    """The queue: a field that the App shows, and a saved view in the order of the queue."""
    labels: dict[str, list[Any]] = {sample: [] for sample in samples}
    for rank, one in enumerate(found, start=1):
        about: Attributes = {
            "was": one.was,
            "should_be": one.should_be,
            "of_label": one.label,
            "rank": rank,
            "state": "open",
        }
        labels[one.sample].append(Box(one.kind, one.box, None, one.score, None, about))
    dataset.info["label_errors"] = sorted({*dataset.info.get("label_errors", []), key})
    dataset.info["label_errors_of"] = {**dataset.info.get("label_errors_of", {}), key: gt_field}
    dataset.save()
    writer = Writer(dataset)
    writer.set_labels(key, labels, "Detections")
    writer.finish()
    queue = list(dict.fromkeys(one.sample for one in found))
    dataset.save_view(key, dataset.select(queue, ordered=True), overwrite=True)
