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
FRAMES = "frames."
_BATCH = 1000
_DUPLICATE = 11000


@dataclass(frozen=True, slots=True)
class Labelled:
    """One sample, or one frame of a video, with the content of its label field.

    Attributes:
        id: The sample's id.
        filepath: Its media file, ``""`` where it is a frame.
        size: Width and height in pixels, ``None`` where the dataset does not know.
        container: The field's document, ``None`` where it is not set.
        frame: The number of the frame, from 1; 0 for a sample.
    """

    id: str
    filepath: str
    size: tuple[int, int] | None
    container: Document | None
    frame: int = 0

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
    """Samples by id, and of a field ``frames.<name>`` their frames that have it; those that are gone are left out."""
    from bson import ObjectId

    if is_of_frames(field):
        return _read_frames(dataset, samples, name_of(field))
    shown = {"filepath": 1, "metadata.width": 1, "metadata.height": 1, field: 1}
    found: list[Labelled] = []
    with database_errors():
        for some in batches([ObjectId(sample) for sample in samples], _BATCH):
            cursor = dataset._sample_collection.find({"_id": {"$in": list(some)}}, shown)
            found += [_labelled(document, field) for document in cursor]
    return found


def known_samples(dataset: fo.Dataset, samples: Iterable[str]) -> set[str]:
    """Those of some sample ids that the dataset has."""
    from bson import ObjectId

    found: set[str] = set()
    with database_errors():
        for some in batches([ObjectId(sample) for sample in samples], _BATCH):
            cursor = dataset._sample_collection.find({"_id": {"$in": list(some)}}, {"_id": 1})
            found.update(str(one["_id"]) for one in cursor)
    return found


def is_of_frames(field: str) -> bool:
    """Whether a field is one of a video's frames."""
    return field.startswith(FRAMES)


def name_of(field: str) -> str:
    """The name of a field, without ``frames.``."""
    return field.removeprefix(FRAMES)


def read_places(dataset: fo.Dataset, places: Iterable[tuple[str, int]], field: str) -> list[Labelled]:
    """Samples and frames by sample id and frame number, 0 for a sample; frames without the field too.

    Samples that are gone are left out, and frames of a video that is.
    """
    if not is_of_frames(field):
        return read_samples(dataset, [sample for sample, _ in places], field)
    from bson import ObjectId

    name = name_of(field)
    wanted: dict[str, list[int]] = {}
    for sample, frame in places:
        wanted.setdefault(sample, []).append(frame)
    found: list[Labelled] = []
    with database_errors():
        for sample in sorted(known_samples(dataset, wanted)):
            asked = {"_sample_id": ObjectId(sample), "frame_number": {"$in": wanted[sample]}}
            cursor = dataset._frame_collection.find(asked, {"frame_number": 1, name: 1})
            there = {one["frame_number"]: one.get(name) for one in cursor}
            found += [Labelled(sample, "", None, there.get(frame), frame) for frame in wanted[sample]]
    return found


def _read_frames(dataset: fo.Dataset, samples: Iterable[str], name: str) -> list[Labelled]:
    from bson import ObjectId

    shown = {"_sample_id": 1, "frame_number": 1, name: 1}
    found: list[Labelled] = []
    with database_errors():
        for some in batches([ObjectId(sample) for sample in samples], _BATCH):
            asked = {"_sample_id": {"$in": list(some)}, name: {"$ne": None}}
            cursor = dataset._frame_collection.find(asked, shown).sort([("_sample_id", 1), ("frame_number", 1)])
            found += [Labelled(str(one["_sample_id"]), "", None, one[name], one["frame_number"]) for one in cursor]
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
        writes: Samples or frames as they were read, and the labels that they are to have.
        marks: What to note in the field beside its labels; see :meth:`LabelSchema.declare_mark`.

    Returns:
        How many were not written, because their field has changed since; read them again.
    """
    from bson import ObjectId
    from pymongo import UpdateOne
    from pymongo.errors import BulkWriteError

    now = datetime.now(UTC)
    frames, name = is_of_frames(field), name_of(field)
    operations = []
    for sample, documents in writes:
        value = container_document(container, list(documents))
        if value is not None and sample.container and container != "Classification":
            value = {**sample.container, **value}
        if value is not None and marks:
            value = {**value, **marks}
        change: Document = {"$set": {name: value, "last_modified_at": now}}
        if frames:
            found = {"_sample_id": ObjectId(sample.id), "frame_number": sample.frame, name: sample.container}
            change["$setOnInsert"] = {"_dataset_id": dataset._doc.id, "created_at": now}
        else:
            found = {"_id": ObjectId(sample.id), name: sample.container}
        # A frame without labels may have no document yet.
        operations.append(UpdateOne(found, change, upsert=frames and sample.container is None))
    collection = dataset._frame_collection if frames else dataset._sample_collection
    written = 0
    with database_errors():
        for some in batches(operations, _BATCH):
            try:
                done = collection.bulk_write(list(some), ordered=False)
                written += done.matched_count + done.upserted_count
            except BulkWriteError as error:
                # The frame was made by somebody else meanwhile.
                if any(one["code"] != _DUPLICATE for one in error.details["writeErrors"]):
                    raise
                written += error.details["nMatched"] + error.details["nUpserted"]
    if operations:
        dataset._update_last_modified_at()
        dataset.reload()
    return len(operations) - written


def set_field(
    dataset: fo.Dataset, field: str, container: str, labels: Mapping[tuple[str, int], Sequence[Document]]
) -> None:
    """A label field with these labels on these samples or frames, and none on all others."""
    from bson import ObjectId
    from pymongo import UpdateOne

    now = datetime.now(UTC)
    frames, name = is_of_frames(field), name_of(field)
    collection = dataset._frame_collection if frames else dataset._sample_collection
    operations = [
        UpdateOne(
            {"_sample_id": ObjectId(sample), "frame_number": frame} if frames else {"_id": ObjectId(sample)},
            {
                "$set": {name: container_document(container, list(documents)), "last_modified_at": now},
                "$setOnInsert": {"_dataset_id": dataset._doc.id, "created_at": now},
            },
            upsert=frames,
        )
        for (sample, frame), documents in labels.items()
    ]
    with database_errors():
        collection.update_many({name: {"$ne": None}}, {"$set": {name: None}})
        for some in batches(operations, _BATCH):
            collection.bulk_write(list(some), ordered=False)
    dataset.reload()


def mark_frames(dataset: fo.Dataset, field: str, ranges: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    """A field of temporal detections, one for each range of frames of these samples, and none on all others."""
    import fiftyone as fo

    if not dataset.has_sample_field(field):
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.TemporalDetections)
    marks = {
        sample: fo.TemporalDetections(
            detections=[fo.TemporalDetection(label="conflict", support=[first, last]) for first, last in some]
        )
        for sample, some in ranges.items()
    }
    with database_errors():
        dataset._sample_collection.update_many({field: {"$ne": None}}, {"$set": {field: None}})
    dataset.set_values(field, marks, key_field="id", progress=False)


def forget_fields(dataset: fo.Dataset, fields: Iterable[str]) -> None:
    """Delete those of some fields that there are."""
    for field in fields:
        name = name_of(field)
        if is_of_frames(field):
            if dataset.media_type == "video" and dataset.has_frame_field(name):
                dataset.delete_frame_field(name)
        elif dataset.has_sample_field(name):
            dataset.delete_sample_field(name)


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
