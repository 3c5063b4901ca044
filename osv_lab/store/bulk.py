"""The bulk route: records to documents to MongoDB, past FiftyOne's object layer. Reading is in ``bulk_read``,
the tracks of whole clips in ``bulk_tracks``.

FiftyOne spends most of its time on building and tracking one Python object per document. Here one ``insert_many`` or
``bulk_write`` carries a batch of plain documents. These modules are the only ones that use FiftyOne's private API
and its collections; a contract test holds the documents equal to the ones the SDK writes, field by field.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, UnavailableError, UsageError
from osv_lab.core.settings import SPLITS
from osv_lab.store.bulk_read import CAPTURE, DIGEST_FIELD, IS_STRING, batches
from osv_lab.store.bulk_read import iter_records as iter_records
from osv_lab.store.database import database_errors
from osv_lab.store.documents import (
    CONTAINER_OF_KIND,
    MADE_BY,
    Document,
    capture_document,
    container_document,
    label_document,
    new_ids,
    track_index,
    track_instances,
)
from osv_lab.store.memory import collecting_only_new
from osv_lab.store.records import FIELDS, Keypoints, Label
from osv_lab.store.schema import LabelSchema, ValueSchema

if TYPE_CHECKING:
    import fiftyone as fo

BATCH = 1000
FRAME_BATCH = 2000


@dataclass(slots=True)
class NewSample:
    """One sample to insert.

    Attributes:
        filepath: The media file, absolute.
        digest: SHA-256 of its bytes.
        metadata: The metadata document, with its ``_cls``.
        labels: Labels per sample field.
        frames: For a video: labels per frame field and frame number from 1.
        tags: Sample tags.
        labelled: Whether an annotation for it exists.
        values: Further sample fields.
        capture: What a server said of it, plain; the field must be declared
            (:func:`osv_lab.store.bulk_values.declare_capture`).
    """

    filepath: str
    digest: str
    metadata: Document
    labels: Mapping[str, Sequence[Label]] = field(default_factory=dict)
    frames: Mapping[str, Mapping[int, Sequence[Label]]] | None = None
    tags: Sequence[str] = ()
    labelled: bool = True
    values: Mapping[str, Any] = field(default_factory=dict)
    capture: Mapping[str, Any] = field(default_factory=dict)


def labels_by_field(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """Ground truth labels by the sample field that their kind belongs in.

    An image with several classes goes to ``ground_truth_classes``, since ``ground_truth_class`` holds one.
    """
    fields: dict[str, list[Label]] = {}
    for label in labels:
        fields.setdefault(FIELDS[label.kind], []).append(label)
    classes = fields.get(FIELDS["class"], ())
    if len(classes) > 1:
        fields["ground_truth_classes"] = list(fields.pop(FIELDS["class"]))
    return fields


def container_for(labels: Iterable[Label]) -> str:
    """The FiftyOne class that holds these labels.

    Raises:
        UsageError: they are of kinds that one field cannot hold together.
    """
    kinds: dict[str, int] = {}
    for label in labels:
        container = CONTAINER_OF_KIND[label.kind]
        kinds[container] = kinds.get(container, 0) + 1
    if len(kinds) > 1:
        raise UsageError("one field cannot hold labels of different kinds", ", ".join(sorted(kinds)))
    container = next(iter(kinds), "Detections")
    return "Classifications" if container == "Classification" and kinds[container] > 1 else container


class Writer:
    """Writes to one dataset; remembers what the dataset declares.

    Args:
        dataset: The dataset. Its media type must be set.
        containers: The FiftyOne class of fields of inserted samples, where the labels alone do not tell.
    """

    def __init__(self, dataset: fo.Dataset, containers: Mapping[str, str] | None = None) -> None:
        self._dataset = dataset
        self._containers = dict(containers or {})
        self._schema = LabelSchema(dataset)
        self._frame_schema = LabelSchema(dataset, frames=True)
        self._values = ValueSchema(dataset)

    def insert(self, samples: Sequence[NewSample]) -> list[str | None]:
        """Insert samples.

        Returns:
            Per sample the new id, or ``None`` where the dataset has its content already (another process was faster).

        Raises:
            UnavailableError: the database refused the write, for instance because its disk is full.
        """
        from pymongo.errors import BulkWriteError

        if not samples:
            return []
        now = datetime.now(UTC)
        documents = [self._sample_document(sample, now) for sample in samples]
        for sample, document in zip(samples, documents, strict=True):
            if sample.frames:
                self._insert_frames(sample.frames, document["_id"], now)
        failed: set[int] = set()
        with database_errors():
            try:
                self._dataset._sample_collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                failed = _duplicates(error)
        return [None if i in failed else str(document["_id"]) for i, document in enumerate(documents)]

    def set_labels(
        self,
        field_name: str,
        labels: Mapping[str, Sequence[Label]],
        container: str | None = None,
        made_by: str | None = None,
        instances: Mapping[tuple[str, int | None], Any] | None = None,
    ) -> None:
        """Replace a label field of existing samples.

        Args:
            field_name: The sample field; declared if it is not there.
            labels: Labels per sample id. An empty sequence means "none found", not "unknown".
            container: The field's FiftyOne class; by default chosen by the kinds of the labels.
            made_by: What made the labels; kept with them, see :func:`made_by`.
            instances: The instance of each track by class name and index, for images that are one sequence.
        """
        from bson import ObjectId
        from pymongo import UpdateOne

        container = container or self._container(field_name, (one for some in labels.values() for one in some))
        self._schema.declare(field_name, container)
        now = datetime.now(UTC)
        with collecting_only_new():
            operations = []
            for sample_id, some in labels.items():
                value = self._field(self._schema, field_name, container, some, instances, made_by)
                change = {"$set": {field_name: value, "last_modified_at": now}}
                operations.append(UpdateOne({"_id": ObjectId(sample_id)}, change))
        with database_errors():
            for batch in batches(operations, BATCH):
                self._dataset._sample_collection.bulk_write(batch, ordered=False)

    def set_frame_labels(
        self,
        field_name: str,
        sample_id: str,
        frames: Mapping[int, Sequence[Label]],
        container: str | None = None,
        made_by: str | None = None,
        instances: Mapping[tuple[str, int | None], Any] | None = None,
    ) -> None:
        """Replace a label field of frames of a video, creating frames that are not there.

        Args:
            field_name: The frame field, without ``frames.``.
            sample_id: The video.
            frames: Labels per frame number from 1.
            container: The field's FiftyOne class; by default chosen by the kinds of the labels.
            made_by: What made the labels; kept with them.
            instances: The instance of each track by class name and index; by default new ones, so that the frames of a
                track belong together only if they are written together.
        """
        from bson import ObjectId
        from pymongo import UpdateOne

        video = ObjectId(sample_id)
        now = datetime.now(UTC)
        every = (one for some in frames.values() for one in some)
        container = container or self._container(field_name, every, frames=True)
        self._frame_schema.declare(field_name, container)
        instances = track_instances(frames.values()) if instances is None else instances
        operations = []
        for number, some in frames.items():
            value = self._field(self._frame_schema, field_name, container, some, instances, made_by)
            found = {"_sample_id": video, "frame_number": number}
            new = {"created_at": now, "_dataset_id": self._dataset._doc.id}
            operations.append(
                UpdateOne(
                    found, {"$set": {field_name: value, "last_modified_at": now}, "$setOnInsert": new}, upsert=True
                )
            )
        with database_errors():
            for batch in batches(operations, FRAME_BATCH):
                self._dataset._frame_collection.bulk_write(batch, ordered=False)
            self._dataset._sample_collection.update_one({"_id": video}, {"$set": {"last_modified_at": now}})

    def replace_ground_truth(self, updates: Mapping[str, NewSample]) -> None:
        """Put new ground truth in place of the old one, in every field that ingested labels land in.

        Args:
            updates: What the samples should say, by sample id.
        """
        from bson import ObjectId
        from pymongo import UpdateOne

        now = datetime.now(UTC)
        every = {*FIELDS.values(), "ground_truth_classes"}
        operations = []
        for sample_id, sample in updates.items():
            fields = self._label_values(sample.labels)
            change: Document = {
                "$set": {**fields, "labelled": sample.labelled, "last_modified_at": now},
                "$unset": dict.fromkeys(sorted(every - set(fields)), ""),
            }
            operations.append(UpdateOne({"_id": ObjectId(sample_id)}, change))
            if sample.frames is not None:
                with database_errors():
                    self._dataset._frame_collection.update_many(
                        {"_sample_id": ObjectId(sample_id)}, {"$unset": dict.fromkeys(sorted(every), "")}
                    )
                for field_name, frames in sample.frames.items():
                    self.set_frame_labels(field_name, sample_id, frames)
        with database_errors():
            for batch in batches(operations, BATCH):
                self._dataset._sample_collection.bulk_write(batch, ordered=False)

    def set_split(self, split: str, sample_ids: Iterable[str]) -> None:
        """Tag samples with a split, save those that another process has given one meanwhile."""
        from bson import ObjectId

        now = datetime.now(UTC)
        with database_errors():
            for batch in batches([ObjectId(sample_id) for sample_id in sample_ids], 10_000):
                unsplit = {"_id": {"$in": batch}, "tags": {"$nin": list(SPLITS)}}
                change = {"$addToSet": {"tags": split}, "$set": {"last_modified_at": now}}
                self._dataset._sample_collection.update_many(unsplit, change)

    def finish(self) -> None:
        """Let FiftyOne see what was written: samples held in memory, and the dataset's time of change."""
        self._dataset._update_last_modified_at()
        self._dataset.reload()

    def _sample_document(self, sample: NewSample, now: datetime) -> Document:
        from bson import ObjectId
        from fiftyone.core.odm.sample import _generate_rand

        video = sample.frames is not None
        return {
            # A killed ingest may leave frames whose sample was never written. A video's id follows from its content, so
            # that the next run finds those frames and replaces them.
            "_id": _video_id(self._dataset._doc.id, sample.digest) if video else ObjectId(),
            "_dataset_id": self._dataset._doc.id,
            "_media_type": "video" if video else "image",
            "_rand": _generate_rand(),
            "filepath": sample.filepath,
            "tags": list(sample.tags),
            "metadata": sample.metadata,
            "created_at": now,
            "last_modified_at": now,
            DIGEST_FIELD: sample.digest,
            "labelled": sample.labelled,
            **({CAPTURE: capture_document(sample.capture)} if sample.capture else {}),
            **self._values.fit(sample.values),
            **self._label_values(sample.labels),
        }

    def _label_values(self, labels: Mapping[str, Sequence[Label]]) -> Document:
        values: Document = {}
        for name, some in labels.items():
            container = self._containers.get(name) or (
                "Classifications" if name == "ground_truth_classes" else container_for(some)
            )
            self._schema.declare(name, container)
            values[name] = self._field(self._schema, name, container, some)
        return values

    def _insert_frames(
        self, frames: Mapping[str, Mapping[int, Sequence[Label]]], video: Any, now: datetime
    ) -> None:
        from pymongo.errors import BulkWriteError

        documents: dict[int, Document] = {}
        for name, numbers in frames.items():
            container = self._containers.get(f"frames.{name}")
            if container is None:
                container = container_for(one for some in numbers.values() for one in some)
                container = "Detections" if container == "Classifications" else container
            self._frame_schema.declare(name, container)
            instances = track_instances(numbers.values())
            for number, some in numbers.items():
                frame = documents.setdefault(
                    number,
                    {
                        "_sample_id": video,
                        "_dataset_id": self._dataset._doc.id,
                        "frame_number": number,
                        "created_at": now,
                        "last_modified_at": now,
                    },
                )
                frame[name] = self._field(self._frame_schema, name, container, some, instances)
        collection = self._dataset._frame_collection
        with database_errors():
            collection.delete_many({"_sample_id": video})
            for batch in batches([documents[number] for number in sorted(documents)], FRAME_BATCH):
                try:
                    collection.insert_many(batch, ordered=False)
                except BulkWriteError as error:
                    # Another process writes the same video with the same content.
                    _duplicates(error)

    def _field(
        self,
        schema: LabelSchema,
        name: str,
        container: str,
        labels: Sequence[Label],
        instances: Mapping[tuple[str, int | None], Any] | None = None,
        made_by: str | None = None,
    ) -> Document | None:
        documents = []
        for label, label_id in zip(labels, new_ids(len(labels)), strict=True):
            if isinstance(label, Keypoints):
                schema.declare_keypoints(name, label)
            attributes = schema.fit(name, label.attributes) if label.attributes else None
            instance = instances.get((label.label, track_index(label))) if instances else None
            documents.append(label_document(label, label_id, attributes, instance))
        value = container_document(container, documents)
        if made_by is not None and value is not None:
            schema.declare_made_by(name)
            value[MADE_BY] = made_by
        return value

    def _container(self, name: str, labels: Iterable[Label], frames: bool = False) -> str:
        """The class of an existing field when there is nothing to choose it by, else the one these labels need."""
        labels = list(labels)
        existing = self._dataset.get_field(f"frames.{name}" if frames else name)
        declared = getattr(getattr(existing, "document_type", None), "__name__", None)
        if declared in ("Classification", "Classifications") or (declared and not labels):
            return str(declared)
        kinds = {CONTAINER_OF_KIND[label.kind] for label in labels}
        return kinds.pop() if len(kinds) == 1 else container_for(labels)


def ensure_digest_index(dataset: fo.Dataset) -> None:
    """Declare the content digest and let the database refuse a second sample with the same one.

    Raises:
        InvalidDataError: the dataset has such samples already.
    """
    import fiftyone as fo
    from pymongo.errors import DuplicateKeyError, OperationFailure

    from osv_lab.store.schema import declaring_alone

    if dataset.get_field(DIGEST_FIELD) is None or dataset.get_field("labelled") is None:
        with declaring_alone(dataset):
            dataset.add_sample_field(DIGEST_FIELD, fo.StringField)
            dataset.add_sample_field("labelled", fo.BooleanField)
    try:
        # Samples that the user added through FiftyOne have no digest, and must not count as equal for that.
        dataset._sample_collection.create_index(
            [(DIGEST_FIELD, 1)],
            name=f"{DIGEST_FIELD}_1",
            unique=True,
            partialFilterExpression={DIGEST_FIELD: IS_STRING},
        )
    except DuplicateKeyError as error:
        raise InvalidDataError(
            "the dataset has samples with the same content",
            f"'{dataset.name}', digest {(error.details or {}).get('keyValue', '')!s}",
            "delete all but one of each before ingesting into it",
        ) from error
    except OperationFailure as error:
        raise UnavailableError("the database refused an index", error, "run `osv doctor`") from error


def adopt(dataset: fo.Dataset, digests: Mapping[str, str]) -> None:
    """Give samples that were added without a digest theirs, so that they are recognised.

    Args:
        dataset: The dataset.
        digests: Digests by file path.
    """
    from pymongo.errors import DuplicateKeyError

    collection = dataset._sample_collection
    strangers = list(collection.find({"filepath": {"$in": list(digests)}, DIGEST_FIELD: None}, {"filepath": 1}))
    for found in strangers:
        with database_errors(), contextlib.suppress(DuplicateKeyError):
            collection.update_one({"_id": found["_id"]}, {"$set": {DIGEST_FIELD: digests[found["filepath"]]}})


def set_filepath(dataset: fo.Dataset, sample_id: str, filepath: str) -> None:
    """Let a sample point at its file's new place."""
    from bson import ObjectId

    change = {"filepath": filepath, "last_modified_at": datetime.now(UTC)}
    with database_errors():
        dataset._sample_collection.update_one({"_id": ObjectId(sample_id)}, {"$set": change})


def _video_id(dataset_id: Any, digest: str) -> Any:
    from bson import ObjectId

    return ObjectId(hashlib.sha256(dataset_id.binary + digest.encode()).digest()[:12])


def _duplicates(error: Any) -> set[int]:
    """Positions that a unique index refused; anything else is raised again."""
    problems = error.details.get("writeErrors", [])
    if error.details.get("writeConcernErrors") or any(problem.get("code") != 11000 for problem in problems):
        raise error
    return {problem["index"] for problem in problems}


def absolute(path: str | os.PathLike[str]) -> str:
    """A path as FiftyOne keeps it: absolute, links not followed."""
    return os.path.abspath(os.path.expanduser(os.fspath(path)))  # noqa: PTH100, PTH111
