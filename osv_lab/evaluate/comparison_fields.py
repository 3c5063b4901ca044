"""What a comparison leaves in the dataset: attributes, counts, and saved views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from osv_lab.evaluate.outcomes import FALSE_POSITIVES, OBJECTS, ImageOutcome
from osv_lab.store.bulk_attributes import set_attributes

if TYPE_CHECKING:
    import supervision as sv

_COUNTED = ("fixed", "broken", "fp_gone", "fp_new")


def save_comparison(
    view: Any,
    name: str,
    fields: tuple[str, str],
    gt_field: str,
    found: tuple[Sequence[sv.Detections], ...],
    targets: Sequence[sv.Detections],
    outcomes: Sequence[ImageOutcome],
) -> None:
    """Write outcomes to objects, predictions and samples; one of the same name is replaced."""
    import fiftyone as fo

    dataset = view._dataset
    for field in (gt_field, *fields):
        if f"{field}.detections.{name}" not in dataset.get_field_schema(flat=True):
            dataset.add_sample_field(f"{field}.detections.{name}", fo.StringField)
    for what in _COUNTED:
        if not dataset.has_field(f"{name}_{what}"):
            dataset.add_sample_field(f"{name}_{what}", fo.IntField)
    sets = {gt_field: targets, fields[0]: found[0], fields[1]: found[1]}
    said = {
        gt_field: [one.objects.tolist() for one in outcomes],
        fields[0]: [one.first.tolist() for one in outcomes],
        fields[1]: [one.second.tolist() for one in outcomes],
    }
    set_attributes(
        view,
        {field: [one.data["id"].tolist() for one in rows] for field, rows in sets.items()},
        {field: {name: rows} for field, rows in said.items()},
        {f"{name}_{what}": [one.count(what) for one in outcomes] for what in _COUNTED},
    )
    of = fo.ViewField
    chosen = dataset.select(view.values("id"), ordered=True)
    for what in (*OBJECTS, *FALSE_POSITIVES):
        field = gt_field if what in OBJECTS else fields[0] if what == "fp_gone" else fields[1]
        saved = chosen.filter_labels(field, of(name) == what)
        if what in _COUNTED:
            saved = saved.sort_by(f"{name}_{what}", reverse=True)
        dataset.save_view(f"{name}_{what}", saved, overwrite=True)
