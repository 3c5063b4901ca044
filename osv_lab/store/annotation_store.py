"""What the annotation loop needs of the database: label documents as they are, and records of its own.

Documents are read and written whole, so that what a person did not touch stays as it is, to the last bit. A write says
what it replaces: where a label field has changed since it was read, nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.store.bulk_read import batches
from osv_lab.store.database import connect, database_errors
from osv_lab.store.documents import Document, container_document, label_documents

if TYPE_CHECKING:
    import fiftyone as fo

RUNS = "osv_annotation_runs"
BASES = "osv_annotation_bases"
PARTS = "osv_annotation_parts"
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Labelled:
    """One sample with the content of its label field.

    Attributes:
        id: The sample's id.
        filepath: Its media file.
        size: Width and height in pixels, ``None`` where the dataset does not know.
        container: The field's document, ``None`` where it is not set.
    """

    id: str
    filepath: str
    size: tuple[int, int] | None
    container: Document | None

    @property
    def labels(self) -> Sequence[Document]:
        """The label documents."""
        return label_documents(self.container)


def read_labelled(view: Any, field: str) -> list[Labelled]:
    """The samples of a view, in its order."""
    shown = {"filepath": 1, "metadata.width": 1, "metadata.height": 1, field: 1}
    with database_errors():
        found = list(view.view()._aggregate(detach_frames=True, post_pipeline=[{"$project": shown}]))
    return [_labelled(document, field) for document in found]


def read_samples(dataset: fo.Dataset, samples: Iterable[str], field: str) -> list[Labelled]:
    """Samples by id; those that are gone are left out."""
    from bson import ObjectId

    shown = {"filepath": 1, "metadata.width": 1, "metadata.height": 1, field: 1}
    found: list[Labelled] = []
    with database_errors():
        for some in batches([ObjectId(sample) for sample in samples], _BATCH):
            cursor = dataset._sample_collection.find({"_id": {"$in": list(some)}}, shown)
            found += [_labelled(document, field) for document in cursor]
    return found


def container_of(dataset: fo.Dataset, field: str) -> str:
    """The FiftyOne class of a label field (``Detections``).

    Raises:
        NotFoundError: there is no such field.
        UsageError: it is no label field.
    """
    found = dataset.get_field(field)
    if found is None:
        raise NotFoundError("no such label field", repr(field), f"dataset {dataset.name}")
    kind = getattr(getattr(found, "document_type", None), "__name__", type(found).__name__)
    if kind not in ("Detections", "Polylines", "Keypoints", "Classifications", "Classification"):
        raise UsageError("the field holds nothing that CVAT could edit", f"'{field}' holds {kind}")
    return kind


def replace_labels(
    dataset: fo.Dataset,
    field: str,
    container: str,
    writes: Iterable[tuple[Labelled, Sequence[Document]]],
    marks: Mapping[str, str] | None = None,
) -> int:
    """Put label documents in place of those that were read.

    Args:
        dataset: The dataset.
        field: The label field.
        container: Its FiftyOne class.
        writes: Samples as they were read, and the labels that they are to have.
        marks: What to note in the field beside its labels; see :meth:`LabelSchema.declare_mark`.

    Returns:
        How many samples were not written, because their field has changed since; read them again.
    """
    from bson import ObjectId
    from pymongo import UpdateOne

    now = datetime.now(UTC)
    operations = []
    for sample, documents in writes:
        value = container_document(container, list(documents))
        if value is not None and sample.container and container != "Classification":
            value = {**sample.container, **value}
        if value is not None and marks:
            value = {**value, **marks}
        found = {"_id": ObjectId(sample.id), field: sample.container}
        operations.append(UpdateOne(found, {"$set": {field: value, "last_modified_at": now}}))
    written = 0
    with database_errors():
        for some in batches(operations, _BATCH):
            written += dataset._sample_collection.bulk_write(list(some), ordered=False).matched_count
    if operations:
        dataset._update_last_modified_at()
        dataset.reload()
    return len(operations) - written


def set_field(dataset: fo.Dataset, field: str, container: str, labels: Mapping[str, Sequence[Document]]) -> None:
    """A label field with these labels on these samples, and none on all others."""
    from bson import ObjectId
    from pymongo import UpdateOne

    operations = [
        UpdateOne({"_id": ObjectId(sample)}, {"$set": {field: container_document(container, list(documents))}})
        for sample, documents in labels.items()
    ]
    with database_errors():
        dataset._sample_collection.update_many({field: {"$ne": None}}, {"$set": {field: None}})
        for some in batches(operations, _BATCH):
            dataset._sample_collection.bulk_write(list(some), ordered=False)
    dataset.reload()


class RunStore:
    """The records of the annotation runs of one dataset: one document per run, one per run and sample.

    They lie in collections of their own: a snapshot of thousands of samples is no part of a dataset's document.
    """

    def __init__(self, dataset: fo.Dataset) -> None:
        connect()
        from fiftyone.core.odm import get_db_conn

        database = get_db_conn()
        self._dataset = dataset._doc.id
        self._runs, self._bases, self._parts = database[RUNS], database[BASES], database[PARTS]
        with database_errors():
            self._runs.create_index([("dataset", 1), ("key", 1)], unique=True)
            self._bases.create_index([("dataset", 1), ("key", 1), ("sample", 1)], unique=True)
            self._parts.create_index([("dataset", 1), ("key", 1), ("part", 1), ("name", 1)], unique=True)

    def keys(self) -> list[str]:
        """The keys of all runs, the oldest first."""
        with database_errors():
            return [one["key"] for one in self._runs.find({"dataset": self._dataset}, {"key": 1}).sort("_id", 1)]

    def get(self, key: str) -> Document | None:
        """The document of a run."""
        with database_errors():
            found: Document | None = self._runs.find_one(self._of(key), {"_id": 0, "dataset": 0})
        return found

    def put(self, key: str, values: Mapping[str, Any], *, make: bool = True) -> None:
        """Set values of a run's document; one that is not there is made, or with ``make=False`` left alone."""
        with database_errors():
            self._runs.update_one(self._of(key), {"$set": dict(values)}, upsert=make)

    def remove(self, key: str) -> None:
        """Forget a run; its snapshot first, so that a killed removal is repeated."""
        with database_errors():
            self._bases.delete_many(self._of(key))
            self._parts.delete_many(self._of(key))
            self._runs.delete_one(self._of(key))

    def base(self, key: str) -> Iterator[tuple[str, list[Document]]]:
        """The snapshot of a run: sample id and objects."""
        with database_errors():
            for one in self._bases.find(self._of(key)):
                yield one["sample"], one["objects"]

    def put_base(self, key: str, objects: Mapping[str, Sequence[Document]]) -> None:
        """Set the snapshot of some samples."""
        from pymongo import UpdateOne

        with database_errors():
            for some in batches(list(objects.items()), _BATCH):
                self._bases.bulk_write(
                    [
                        UpdateOne({**self._of(key), "sample": name}, {"$set": {"objects": list(one)}}, upsert=True)
                        for name, one in some
                    ],
                    ordered=False,
                )

    def part(self, key: str, part: str) -> dict[str, list[Document]]:
        """Further objects that are kept of a run, by name."""
        with database_errors():
            return {one["name"]: one["objects"] for one in self._parts.find({**self._of(key), "part": part})}

    def put_part(
        self, key: str, part: str, objects: Mapping[str, Sequence[Document]], *, alone: bool = False
    ) -> None:
        """Set some of them; with ``alone`` all others of the part are forgotten."""
        from pymongo import DeleteMany, UpdateOne

        of = {**self._of(key), "part": part}
        writes: list[Any] = [
            UpdateOne({**of, "name": name}, {"$set": {"objects": list(some)}}, upsert=True)
            for name, some in objects.items()
        ]
        if alone:
            writes.append(DeleteMany({**of, "name": {"$nin": list(objects)}}))
        with database_errors():
            for some in batches(writes, _BATCH):
                self._parts.bulk_write(list(some), ordered=True)

    def _of(self, key: str) -> Document:
        return {"dataset": self._dataset, "key": key}


def _labelled(document: Mapping[str, Any], field: str) -> Labelled:
    metadata = document.get("metadata") or {}
    width, height = metadata.get("width"), metadata.get("height")
    size = (int(width), int(height)) if width and height else None
    return Labelled(str(document["_id"]), document["filepath"], size, document.get(field))
