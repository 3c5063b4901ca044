"""Plain values of many samples in one write: what FiftyOne's ``set_values`` does, past its object layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, NotFoundError
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


def change_document(
    dataset: fo.Dataset,
    sample_id: str,
    fields: Sequence[str],
    change: Callable[[dict[str, Any]], Mapping[str, Any]],
) -> None:
    """Change fields of one sample together, in one write: all of it happens, or none.

    Args:
        dataset: The dataset.
        sample_id: The sample's id.
        fields: What the change depends on.
        change: From the stored document, with these fields only, to the new values by path.

    Raises:
        NotFoundError: no such sample.
        InvalidDataError: someone else changed the sample in between.
    """
    from bson import ObjectId

    collection, id = dataset._sample_collection, ObjectId(sample_id)
    with database_errors():
        before = collection.find_one({"_id": id}, {"last_modified_at": 1, **dict.fromkeys(fields, 1)})
        if before is None:
            raise NotFoundError("no such sample", sample_id, "it was deleted")
        now = datetime.now(UTC)
        same = {"_id": id, "last_modified_at": before.get("last_modified_at")}
        found = collection.update_one(same, {"$set": {**change(before), "last_modified_at": now}})
    if not found.matched_count:
        raise InvalidDataError("the sample was changed meanwhile", sample_id, "look again, then repeat it")
    dataset._update_last_modified_at()


def read_documents(view: fo.SampleCollection, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The stored documents of a view's samples with these fields only, in the view's order; ``_id`` is text."""
    shown = {"filepath": 1, "tags": 1, "metadata": 1, **dict.fromkeys(fields, 1)}
    found = view._aggregate(detach_frames=True, post_pipeline=[{"$project": shown}])
    return [{**document, "_id": str(document["_id"])} for document in found]


def read_columns(
    view: fo.SampleCollection, field: str, columns: Sequence[str], fields: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Per sample of a view, in its order, some values of its detections, each as one list; several times as fast as
    :func:`read_documents`, which has all there is to a label.

    Args:
        view: A dataset or view.
        field: A field of ``Detections``.
        columns: What is read of each detection; ``_id`` is given as ``id``.
        fields: Sample fields.

    Returns:
        Per sample ``_id`` (text), ``there`` (whether the field has a value), the columns (``None`` where a detection
        lacks the value) and the fields.
    """
    shown: dict[str, Any] = dict.fromkeys(fields, 1)
    for column in columns:
        # A field that nothing was ever written to, and an empty list, are no list in the database.
        every = {"$ifNull": [f"${field}.detections", []]}
        # By a map, since a path would pass over the detections that lack the value.
        values = {"$map": {"input": every, "as": "one", "in": {"$ifNull": [f"$$one.{column}", None]}}}
        shown[column.lstrip("_")] = values
    shown["there"] = {"$ne": [{"$type": f"${field}"}, "missing"]}
    shown["null"] = {"$eq": [f"${field}", None]}
    found = view._aggregate(detach_frames=True, post_pipeline=[{"$project": shown}])
    return [{**one, "_id": str(one["_id"]), "there": one["there"] and not one["null"]} for one in found]


def boxes_in(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """The detections of a stored document's field; FiftyOne leaves out the key of an empty list."""
    return list((document.get(field) or {}).get("detections") or ())
