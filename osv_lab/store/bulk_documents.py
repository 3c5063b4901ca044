"""Plain values of many samples in one write: what FiftyOne's ``set_values`` does, past its object layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osv_lab.store.bulk_read import batches
from osv_lab.store.database import database_errors
from osv_lab.store.schema import declaring_alone

if TYPE_CHECKING:
    import fiftyone as fo

BATCH = 2000


def write_documents(
    dataset: fo.Dataset, field: str, kinds: Mapping[str, type], values: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write one field of several named values per sample; the App shows and filters them as ``field.name``.

    Args:
        dataset: The dataset.
        field: The field, declared if it is not there.
        kinds: ``bool``, ``int``, ``float`` or ``str`` by name.
        values: What each sample says, by sample id. What it said before is replaced.
    """
    import fiftyone as fo
    from bson import ObjectId
    from pymongo import UpdateOne

    types = {bool: fo.BooleanField, int: fo.IntField, float: fo.FloatField, str: fo.StringField}
    document = fo.DynamicEmbeddedDocument
    with declaring_alone(dataset):
        if dataset.get_field(field) is None:
            dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=document)
        for name, kind in kinds.items():
            if dataset.get_field(f"{field}.{name}") is None:
                dataset.add_sample_field(f"{field}.{name}", types[kind])
    now = datetime.now(UTC)
    operations = [
        UpdateOne(
            {"_id": ObjectId(sample_id)},
            {"$set": {field: {"_cls": document.__name__, **one}, "last_modified_at": now}},
        )
        for sample_id, one in values.items()
    ]
    with database_errors():
        for batch in batches(operations, BATCH):
            dataset._sample_collection.bulk_write(batch, ordered=False)
    dataset._update_last_modified_at()
    dataset.reload()


def read_documents(view: fo.SampleCollection, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The stored documents of a view's samples with these fields only, in the view's order; ``_id`` is text."""
    shown = {"filepath": 1, "tags": 1, "metadata": 1, **dict.fromkeys(fields, 1)}
    found = view._aggregate(detach_frames=True, post_pipeline=[{"$project": shown}])
    return [{**document, "_id": str(document["_id"])} for document in found]


def boxes_in(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """The detections of a stored document's field; FiftyOne leaves out the key of an empty list."""
    return list((document.get(field) or {}).get("detections") or ())
