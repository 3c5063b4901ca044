"""The bulk route for what a server said about samples: the embedded document ``capture`` and its reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osv_lab.store.bulk import BATCH
from osv_lab.store.bulk_read import CAPTURE, batches
from osv_lab.store.database import database_errors
from osv_lab.store.documents import labels_of_container
from osv_lab.store.records import Label
from osv_lab.store.schema import declaring_alone

if TYPE_CHECKING:
    import fiftyone as fo

TAG = "captured"


@dataclass(frozen=True, slots=True)
class CapturedSample:
    """A sample with what a server said about it.

    Attributes:
        id: The sample's id.
        labels: Of the label field asked for; ``None`` where it is not set.
        capture: The document; empty where the sample was not captured.
    """

    id: str
    labels: list[Label] | None
    capture: Mapping[str, Any]


def declare_capture(dataset: fo.Dataset) -> None:
    """Make sure that the dataset has the field ``capture``, so that the App can show and filter it."""
    import fiftyone as fo

    kinds: dict[str, tuple[type, dict[str, Any]]] = {
        "rules": (fo.ListField, {"subfield": fo.StringField}),
        "why": (fo.StringField, {}),
        "at": (fo.DateTimeField, {}),
        "model": (fo.StringField, {}),
        "digest": (fo.StringField, {}),
        "dataset_version": (fo.StringField, {}),
        "threshold": (fo.FloatField, {}),
        "partial": (fo.BooleanField, {}),
        "brightness": (fo.FloatField, {}),
        "score": (fo.FloatField, {}),
    }
    if all(dataset.get_field(f"{CAPTURE}.{name}") is not None for name in kinds):
        return
    with declaring_alone(dataset):
        if dataset.get_field(CAPTURE) is None:
            dataset.add_sample_field(
                CAPTURE, fo.EmbeddedDocumentField, embedded_doc_type=fo.DynamicEmbeddedDocument
            )
        for name, (kind, options) in kinds.items():
            if dataset.get_field(f"{CAPTURE}.{name}") is None:
                dataset.add_sample_field(f"{CAPTURE}.{name}", kind, **options)


def captured_at(dataset: fo.Dataset, sample_ids: Sequence[str]) -> dict[str, datetime]:
    """When the samples' captures were taken, of those that have one."""
    from bson import ObjectId

    wanted = {"_id": {"$in": [ObjectId(one) for one in sample_ids]}, f"{CAPTURE}.at": {"$ne": None}}
    with database_errors():
        found = list(dataset._sample_collection.find(wanted, {f"{CAPTURE}.at": 1}))
    return {str(one["_id"]): one[CAPTURE]["at"].replace(tzinfo=UTC) for one in found}


def set_captures(dataset: fo.Dataset, captures: Mapping[str, Mapping[str, Any]], tags: Sequence[str]) -> None:
    """Set the samples' ``capture``, by sample id, and tag them."""
    from bson import ObjectId
    from pymongo import UpdateOne

    now = datetime.now(UTC)
    operations = [
        UpdateOne(
            {"_id": ObjectId(sample_id)},
            {
                "$set": {CAPTURE: {"_cls": "DynamicEmbeddedDocument", **values}, "last_modified_at": now},
                "$addToSet": {"tags": {"$each": list(tags)}},
            },
        )
        for sample_id, values in captures.items()
    ]
    with database_errors():
        for batch in batches(operations, BATCH):
            dataset._sample_collection.bulk_write(batch, ordered=False)


def iter_captured(view: fo.SampleCollection, field: str) -> Iterator[CapturedSample]:
    """The samples of a view of images with a label field and their ``capture``."""
    shown = {field: 1, CAPTURE: 1}
    for found in view.view()._aggregate(detach_frames=True, post_pipeline=[{"$project": shown}]):
        container = found.get(field)
        labels = None if container is None else labels_of_container(container)
        yield CapturedSample(str(found["_id"]), labels, found.get(CAPTURE) or {})
