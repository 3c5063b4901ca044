"""Errors as the App shows them: an attribute of each label, and one saved view per type."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.evaluate.errors import TYPES
from osv_lab.evaluate.scene import Boxes, Scene
from osv_lab.store.bulk_attributes import set_attributes

if TYPE_CHECKING:
    from osv_lab.evaluate.error_budget import ErrorBudget


def save_views(budget: ErrorBudget) -> list[str]:
    """See :meth:`osv_lab.evaluate.error_budget.ErrorBudget.save_views`."""
    import fiftyone as fo
    from fiftyone import ViewField

    from osv_lab.store.catalogue import open_dataset

    scene: Scene = budget._matched.scene
    dataset = open_dataset(budget.dataset)
    attribute = f"{budget.key}_error"
    said = {
        budget.pred_field: np.full(len(scene.predictions), None, object),
        budget.gt_field: np.full(len(scene.objects), None, object),
    }
    errors, names = budget._errors, np.array(TYPES, object)
    wrong = errors.prediction >= 0
    said[budget.pred_field][budget._matched.rows[errors.prediction[wrong]]] = names[errors.kind[wrong]]
    said[budget.gt_field][errors.target[~wrong]] = "missed"
    boxes = {budget.pred_field: scene.predictions, budget.gt_field: scene.objects}
    for name in boxes:
        path = f"{name}.detections.{attribute}"
        if not dataset.has_field(path):
            dataset.add_sample_field(path, fo.StringField)
    view = dataset.select(list(scene.samples), ordered=True)
    set_attributes(
        view,
        {name: _by_image(scene, own, own.ids) for name, own in boxes.items()},
        {name: {attribute: _by_image(scene, own, said[name])} for name, own in boxes.items()},
        {},
    )
    saved = []
    for kind in TYPES:
        field = budget.gt_field if kind == "missed" else budget.pred_field
        found = dataset.filter_labels(field, ViewField(attribute) == kind)
        name = f"{budget.key}_{kind}"
        share = budget.share(kind)
        text = f"{share.count} {kind} errors; mending them brings mAP {share.gain:+.3f}"
        dataset.save_view(name, found, description=text, overwrite=True)
        saved.append(name)
    return saved


def _by_image(scene: Scene, boxes: Boxes, values: np.ndarray) -> list[list[Any]]:
    edges = np.searchsorted(boxes.image, np.arange(len(scene.samples) + 1))
    column = values.tolist()
    return [column[low:high] for low, high in itertools.pairwise(edges)]
