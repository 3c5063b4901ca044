"""What an evaluation left in the store: each prediction's score and whether it took an object, as columns.

Boxes, masks, oriented boxes and keypoints alike, and FiftyOne's own ``evaluate_detections`` too: nothing is matched
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.store.bulk_documents import read_documents
from osv_lab.store.documents import DETECTION_CONFIDENCE, label_documents

if TYPE_CHECKING:
    from osv_lab.evaluate.detection import EvaluationReport


@dataclass(frozen=True)
class Scores:
    """An evaluation's matched scores; predictions that took a crowd are left out, and so are crowds.

    Attributes:
        dataset: The dataset's name.
        key: The evaluation's.
        pred_field: The predictions' field.
        gt_field: The objects' field.
        iou: Least overlap of a match.
        images: How many images were evaluated.
        class_names: Names by class id.
        image: ``(n,)`` image of each prediction.
        class_id: ``(n,)``.
        confidence: ``(n,)`` float64, 0 to 1.
        right: ``(n,)`` bool, whether it took an object of its class.
        object_image: ``(m,)`` image of each object.
        object_class: ``(m,)``.
    """

    dataset: str
    key: str
    pred_field: str
    gt_field: str
    iou: float
    images: int
    class_names: tuple[str, ...]
    image: np.ndarray
    class_id: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    object_image: np.ndarray
    object_class: np.ndarray


def read_scores(what: EvaluationReport | Any, key: str | None = None) -> Scores:
    """The matched scores of an evaluation.

    Args:
        what: An :class:`~osv_lab.evaluate.detection.EvaluationReport`, or a dataset or view.
        key: The evaluation, of a dataset or view; of a view only its samples are taken.

    Raises:
        NotFoundError: no such evaluation.
        UsageError: not an evaluation of detections, or no key.
        InvalidDataError: the predictions were replaced since, or nothing was evaluated.
    """
    report_key = getattr(what, "key", None)
    if isinstance(report_key, str):
        key, view = report_key, what.view()
    else:
        view = what
    if key is None:
        raise UsageError("which evaluation is meant", "a dataset without a key", 'pass key="eval"')
    dataset = view._dataset
    known = dataset.list_evaluations()
    if key not in known:
        raise NotFoundError(
            "no such evaluation", repr(key), nearest(key, known) if known else "run evaluate() first"
        )
    config = dataset.get_evaluation_info(key).config
    if not getattr(config, "gt_field", None) or getattr(config, "type", "detection") != "detection":
        raise UsageError("only evaluations of detections have thresholds", repr(key))
    evaluated = view.exists(f"{key}_tp")
    if not len(evaluated):
        raise InvalidDataError("nothing here was evaluated", f"{len(view)} samples without '{key}_tp'")
    return _columns(evaluated, key, config)


def _columns(view: Any, key: str, config: Any) -> Scores:
    ids: dict[str, int] = {}
    found: list[tuple[int, int, float, bool]] = []
    wanted: list[tuple[int, int]] = []
    unknown = 0
    for image, document in enumerate(read_documents(view, [config.pred_field, config.gt_field])):
        crowds = set()
        for one in label_documents(document.get(config.gt_field)):
            if one.get("iscrowd"):
                crowds.add(str(one["_id"]))
            elif key in one:
                wanted.append((image, ids.setdefault(one["label"], len(ids))))
        for one in label_documents(document.get(config.pred_field)):
            if key not in one:
                unknown += 1
            elif str(one.get(f"{key}_id")) not in crowds:
                number = ids.setdefault(one["label"], len(ids))
                found.append((image, number, _score(one), one[key] == "tp"))
    if unknown and not found:
        raise InvalidDataError(
            "the predictions were replaced since they were evaluated",
            f"no label of '{config.pred_field}' carries '{key}'",
            "evaluate them again",
        )
    columns = np.array(found, dtype=float).reshape(-1, 4)
    objects = np.array(wanted, dtype=int).reshape(-1, 2)
    listed = view._dataset.classes.get(config.gt_field) or view._dataset.default_classes or ()
    names = [*(name for name in listed if name in ids), *sorted(set(ids) - set(listed))]
    order = np.array([names.index(name) for name in ids], dtype=int)
    return Scores(
        dataset=str(view._dataset.name),
        key=key,
        pred_field=config.pred_field,
        gt_field=config.gt_field,
        iou=float(config.iou),
        images=image + 1,
        class_names=tuple(names),
        image=columns[:, 0].astype(int),
        class_id=order[columns[:, 1].astype(int)],
        confidence=columns[:, 2],
        right=columns[:, 3].astype(bool),
        object_image=objects[:, 0],
        object_class=order[objects[:, 1]],
    )


def _score(document: Mapping[str, Any]) -> float:
    """A label's score; of keypoints, whose ``confidence`` is a list, the whole object's or their mean."""
    value = document.get(DETECTION_CONFIDENCE, document.get("confidence"))
    if isinstance(value, list):
        known = [score for score in value if score is not None and score == score]
        value = sum(known) / len(known) if known else None
    return 1.0 if value is None else float(value)
