"""Hand an evaluation to FiftyOne so that its App shows it: the run, its results, and the fields it writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.evaluate.matching import Curves, ImageMatches
from osv_lab.store.bulk_attributes import set_attributes

if TYPE_CHECKING:
    import supervision as sv


def save_evaluation(
    view: Any,
    key: str,
    pred_field: str,
    gt_field: str,
    *,
    iou: float,
    thresholds: Sequence[float],
    most: int,
    classes: Sequence[str],
    predictions: Sequence[sv.Detections],
    targets: Sequence[sv.Detections],
    matches: Sequence[ImageMatches],
    curves: Curves,
    masks: bool = False,
) -> Any:
    """Write what ``view.evaluate_detections(..., method="coco", compute_mAP=True)`` writes.

    A run of the same key is replaced, and so is what a killed evaluation left behind.

    Returns:
        FiftyOne's results.
    """
    from fiftyone.utils.eval.coco import COCODetectionResults, COCOEvaluationConfig

    dataset = view._dataset
    if key in dataset.list_evaluations():
        dataset.delete_evaluation(key)
    config = COCOEvaluationConfig(
        pred_field,
        gt_field,
        iou=iou,
        classwise=True,
        compute_mAP=True,
        iou_threshs=list(thresholds),
        max_preds=most,
        use_masks=masks,
    )
    method = config.build()
    method.ensure_requirements()
    method.register_run(view, key)
    method.register_samples(view, key)
    _write_fields(view, key, pred_field, gt_field, predictions, targets, matches)
    results = COCODetectionResults(
        view,
        config,
        key,
        _pairs(predictions, targets, matches),
        curves.precision,
        curves.recall,
        list(thresholds),
        list(classes),
        recall_sweep=curves.largest_recall,
        thresholds=curves.confidence,
        backend=method,
    )
    method.save_run_results(view, key, results)
    method.add_fields_to_sidebar_group(view, key, omit_fields=(pred_field, gt_field))
    return results


def _write_fields(
    view: Any,
    key: str,
    pred_field: str,
    gt_field: str,
    predictions: Sequence[sv.Detections],
    targets: Sequence[sv.Detections],
    matches: Sequence[ImageMatches],
) -> None:
    found: dict[str, list[list[Any]]] = {"": [], "_id": [], "_iou": []}
    wanted: dict[str, list[list[Any]]] = {"": [], "_id": [], "_iou": []}
    counts: dict[str, list[int]] = {"tp": [], "fp": [], "fn": []}
    for ours, theirs, match in zip(predictions, targets, matches, strict=True):
        hit = match.target >= 0
        ids = [*theirs.data["id"], ""]
        found[""].append(np.where(hit, "tp", "fp").tolist())
        found["_id"].append([str(ids[index]) for index in match.target])
        found["_iou"].append([float(value) if ok else None for value, ok in zip(match.iou, hit, strict=True)])
        first: dict[int, int] = {}
        for index in match.order:
            if hit[index]:
                first.setdefault(int(match.target[index]), int(index))
        takers = [first.get(number) for number in range(len(theirs))]
        wanted[""].append(["fn" if taker is None else "tp" for taker in takers])
        wanted["_id"].append(["" if taker is None else str(ours.data["id"][taker]) for taker in takers])
        wanted["_iou"].append([None if taker is None else float(match.iou[taker]) for taker in takers])
        counts["tp"].append(int(hit.sum()))
        counts["fp"].append(int((~hit).sum()))
        counts["fn"].append(takers.count(None))
    set_attributes(
        view,
        {
            pred_field: [one.data["id"].tolist() for one in predictions],
            gt_field: [one.data["id"].tolist() for one in targets],
        },
        {
            pred_field: {f"{key}{suffix}": rows for suffix, rows in found.items()},
            gt_field: {f"{key}{suffix}": rows for suffix, rows in wanted.items()},
        },
        {f"{key}_{name}": numbers for name, numbers in counts.items()},
    )


def _pairs(
    predictions: Sequence[sv.Detections], targets: Sequence[sv.Detections], matches: Sequence[ImageMatches]
) -> list[tuple[Any, ...]]:
    """FiftyOne's list of ``(gt_label, pred_label, iou, confidence, gt_id, pred_id)``."""
    pairs: list[tuple[Any, ...]] = []
    for ours, theirs, match in zip(predictions, targets, matches, strict=True):
        names, ids = theirs.data["class_name"], theirs.data["id"]
        for index in match.order:
            target = int(match.target[index])
            known = (
                (str(names[target]), float(match.iou[index]), str(ids[target]))
                if target >= 0
                else (None, None, None)
            )
            label, score = str(ours.data["class_name"][index]), float(ours.confidence[index])
            pairs.append((known[0], label, known[1], score, known[2], str(ours.data["id"][index])))
        missed = np.setdiff1d(np.arange(len(theirs)), match.target)
        pairs += [(str(names[index]), None, None, None, str(ids[index]), None) for index in missed]
    return pairs
