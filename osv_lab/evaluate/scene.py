"""Everything that two fields say about a view, as columns: what errors, thresholds, slices and curves are computed on.

One row per box over all images, so that nothing downstream loops over images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.detect.matching import Matching
from osv_lab.evaluate.arrays import boxes_of, image_sizes
from osv_lab.evaluate.detection import MAX_DETECTIONS, check_arguments, classes_of, evaluable

if TYPE_CHECKING:
    import supervision as sv


@dataclass(frozen=True)
class Boxes:
    """Boxes of all images, in the order of the images and within one as the field has them.

    Attributes:
        image: ``(n,)`` int, rows of :attr:`Scene.samples`.
        xyxy: ``(n, 4)`` float64, pixels.
        class_id: ``(n,)`` int, rows of :attr:`Scene.class_names`.
        confidence: ``(n,)`` float64; 1 where there is none.
        crowd: ``(n,)`` bool.
        ids: ``(n,)`` the labels' ids.
    """

    image: np.ndarray
    xyxy: np.ndarray
    class_id: np.ndarray
    confidence: np.ndarray
    crowd: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: np.ndarray) -> Boxes:
        """The boxes of these rows (indices in order, or a mask)."""
        return Boxes(*(getattr(self, name)[rows] for name in _COLUMNS))

    @property
    def area(self) -> np.ndarray:
        """``(n,)`` square pixels."""
        return np.asarray(np.prod(self.xyxy[:, 2:] - self.xyxy[:, :2], axis=1))


_COLUMNS = ("image", "xyxy", "class_id", "confidence", "crowd", "ids")


@dataclass(frozen=True)
class Scene:
    """Predictions and objects of a view.

    Attributes:
        dataset: The dataset's name.
        pred_field: The predictions' field.
        gt_field: The objects' field.
        samples: Ids of the labelled samples, in the view's order.
        sizes: ``(images, 2)`` widths and heights in pixels.
        class_names: Names by class id.
        predictions: All predictions.
        objects: All objects.
        taken: ``(predictions,)`` the object that each prediction takes by COCO's rule, or -1.
        counted: ``(predictions,)`` bool, the 100 most confident of each image and class.
        iou: Least overlap of a match.
        notes: What was left out, and what is only on one side.
    """

    dataset: str
    pred_field: str
    gt_field: str
    samples: tuple[str, ...]
    sizes: np.ndarray
    class_names: tuple[str, ...]
    predictions: Boxes
    objects: Boxes
    taken: np.ndarray
    counted: np.ndarray
    iou: float
    notes: tuple[str, ...] = ()

    def view(self, images: np.ndarray | Sequence[int]) -> Any:
        """The samples of these rows, in that order, as a FiftyOne view."""
        from osv_lab.store.catalogue import open_dataset

        return open_dataset(self.dataset).select([self.samples[row] for row in images], ordered=True)


def with_labels(view: Any, field: str, ids: Sequence[str]) -> Any:
    """The view with only these labels of a field; other fields and all samples stay."""
    from bson import ObjectId
    from fiftyone import ViewField

    wanted = ViewField("_id").is_in([ObjectId(one) for one in ids])
    return view.filter_labels(field, wanted, only_matches=False)


def read_scene(
    view: Any,
    eval_key: str | None = None,
    *,
    pred_field: str = "predictions",
    gt_field: str = "ground_truth",
    iou: float = 0.5,
) -> Scene:
    """The predictions and objects of a view of images; samples that nobody labelled are left out.

    Args:
        view: A ``fiftyone.Dataset`` or view of images.
        eval_key: An evaluation, whose fields and IoU are taken.
        pred_field: The predictions, where no evaluation is named.
        gt_field: The objects, likewise.
        iou: Least overlap of a match, likewise.

    Raises:
        NotFoundError: no such evaluation or field.
        UsageError: fields that cannot be compared.
        InvalidDataError: no labelled or no predicted samples.
    """
    if eval_key is not None:
        known = view._dataset.list_evaluations()
        if eval_key not in known:
            fix = nearest(eval_key, known) if known else "run evaluate() first"
            raise NotFoundError("no such evaluation", repr(eval_key), fix)
        config = view._dataset.get_evaluation_info(eval_key).config
        if not getattr(config, "gt_field", None) or getattr(config, "type", "detection") != "detection":
            raise UsageError("not an evaluation of detections", repr(eval_key))
        if getattr(config, "use_masks", False):
            raise UsageError("only boxes can be looked at so far", f"{eval_key!r} compares masks")
        pred_field, gt_field, iou = config.pred_field, config.gt_field, float(config.iou)
    check_arguments(view, pred_field, gt_field, iou)
    for name in (pred_field, gt_field):
        if (kind := view.get_field(name).document_type.__name__) != "Detections":
            raise UsageError("only boxes can be looked at so far", f"'{name}' holds {kind}")
    chosen, notes = evaluable(view, pred_field, gt_field)
    class_names, more = classes_of(chosen, pred_field, gt_field)
    predictions, targets = (boxes_of(chosen, field, class_names) for field in (pred_field, gt_field))
    matching = Matching(predictions, targets, iou)
    return Scene(
        dataset=str(view._dataset.name),
        pred_field=pred_field,
        gt_field=gt_field,
        samples=tuple(chosen.values("id")),
        sizes=image_sizes(chosen),
        class_names=tuple(class_names),
        predictions=columns(predictions),
        objects=columns(targets),
        taken=matching.taken([iou])[0],
        counted=matching.rank < MAX_DETECTIONS,
        iou=iou,
        notes=(*notes, *more),
    )


def columns(sets: Sequence[sv.Detections]) -> Boxes:
    """The boxes of :func:`osv_lab.evaluate.arrays.boxes_of`, one under the other."""
    return Boxes(
        image=np.repeat(np.arange(len(sets)), [len(one) for one in sets]),
        xyxy=np.concatenate([one.xyxy for one in sets]),
        class_id=np.concatenate([one.class_id for one in sets]),
        confidence=np.concatenate([one.confidence for one in sets]),
        crowd=np.concatenate([one.data["iscrowd"] for one in sets]),
        ids=np.concatenate([one.data["id"] for one in sets]),
    )
