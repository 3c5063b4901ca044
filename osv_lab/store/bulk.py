"""The bulk route: records to documents to MongoDB and back, past FiftyOne's object layer.

FiftyOne spends most of its time on building and tracking one Python object per document. Here one ``insert_many`` or
``bulk_write`` carries a batch of plain documents. This is the only module that uses FiftyOne's private API and its
collections; a contract test holds the documents equal to the ones the SDK writes, field by field.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, UnavailableError, UsageError
from osv_lab.core.settings import SPLITS
from osv_lab.store.documents import (
    CONTAINER_OF_KIND,
    MADE_BY,
    Document,
    container_document,
    label_document,
    labels_of_container,
    track_index,
    track_instances,
)
from osv_lab.store.records import FIELDS, Keypoints, Label, Record
from osv_lab.store.schema import LabelSchema

if TYPE_CHECKING:
    import fiftyone as fo

DIGEST_FIELD = "content_digest"
BATCH = 1000
FRAME_BATCH = 2000
_IS_STRING = {"$type": "string"}


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
        values: Further fields, declared already.
    """

    filepath: str
    digest: str
    metadata: Document
    labels: Mapping[str, Sequence[Label]] = field(default_factory=dict)
    frames: Mapping[str, Mapping[int, Sequence[Label]]] | None = None
    tags: Sequence[str] = ()
    labelled: bool = True
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store has under a digest."""

    id: str
    filepath: str
    tags: tuple[str, ...]
    labelled: bool


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
    """

    def __init__(self, dataset: fo.Dataset) -> None:
        self._dataset = dataset
        self._schema = LabelSchema(dataset)
        self._frame_schema = LabelSchema(dataset, frames=True)

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
        with _writing():
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
    ) -> None:
        """Replace a label field of existing samples.

        Args:
            field_name: The sample field; declared if it is not there.
            labels: Labels per sample id. An empty sequence means "none found", not "unknown".
            container: The field's FiftyOne class; by default chosen by the kinds of the labels.
            made_by: What made the labels; kept with them, see :func:`made_by`.
        """
        from bson import ObjectId
        from pymongo import UpdateOne

        container = container or self._container(field_name, (one for some in labels.values() for one in some))
        self._schema.declare(field_name, container)
        now = datetime.now(UTC)
        operations = [
            UpdateOne(
                {"_id": ObjectId(sample_id)},
                {
                    "$set": {
                        field_name: self._field(self._schema, field_name, container, some, made_by=made_by),
                        "last_modified_at": now,
                    }
                },
            )
            for sample_id, some in labels.items()
        ]
        with _writing():
            for batch in _batches(operations, BATCH):
                self._dataset._sample_collection.bulk_write(batch, ordered=False)

    def set_frame_labels(
        self,
        field_name: str,
        sample_id: str,
        frames: Mapping[int, Sequence[Label]],
        container: str | None = None,
        made_by: str | None = None,
    ) -> None:
        """Replace a label field of frames of a video, creating frames that are not there.

        Args:
            field_name: The frame field, without ``frames.``.
            sample_id: The video.
            frames: Labels per frame number from 1.
            container: The field's FiftyOne class; by default chosen by the kinds of the labels.
            made_by: What made the labels; kept with them.
        """
        from bson import ObjectId
        from pymongo import UpdateOne

        video = ObjectId(sample_id)
        now = datetime.now(UTC)
        every = (one for some in frames.values() for one in some)
        container = container or self._container(field_name, every, frames=True)
        self._frame_schema.declare(field_name, container)
        instances = track_instances(frames.values())
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
        with _writing():
            for batch in _batches(operations, FRAME_BATCH):
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
                with _writing():
                    self._dataset._frame_collection.update_many(
                        {"_sample_id": ObjectId(sample_id)}, {"$unset": dict.fromkeys(sorted(every), "")}
                    )
                for field_name, frames in sample.frames.items():
                    self.set_frame_labels(field_name, sample_id, frames)
        with _writing():
            for batch in _batches(operations, BATCH):
                self._dataset._sample_collection.bulk_write(batch, ordered=False)

    def add_tag(self, tag: str, sample_ids: Iterable[str]) -> None:
        """Add a tag to samples."""
        from bson import ObjectId

        now = datetime.now(UTC)
        with _writing():
            for batch in _batches([ObjectId(sample_id) for sample_id in sample_ids], 10_000):
                self._dataset._sample_collection.update_many(
                    {"_id": {"$in": batch}}, {"$addToSet": {"tags": tag}, "$set": {"last_modified_at": now}}
                )

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
            **sample.values,
            **self._label_values(sample.labels),
        }

    def _label_values(self, labels: Mapping[str, Sequence[Label]]) -> Document:
        values: Document = {}
        for name, some in labels.items():
            container = "Classifications" if name == "ground_truth_classes" else container_for(some)
            self._schema.declare(name, container)
            values[name] = self._field(self._schema, name, container, some)
        return values

    def _insert_frames(
        self, frames: Mapping[str, Mapping[int, Sequence[Label]]], video: Any, now: datetime
    ) -> None:
        from pymongo.errors import BulkWriteError

        documents: dict[int, Document] = {}
        for name, numbers in frames.items():
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
        with _writing():
            collection.delete_many({"_sample_id": video})
            for batch in _batches([documents[number] for number in sorted(documents)], FRAME_BATCH):
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
        instances: Mapping[tuple[str, int], Any] | None = None,
        made_by: str | None = None,
    ) -> Document | None:
        documents = []
        for label in labels:
            if isinstance(label, Keypoints):
                if label.visible:
                    schema.declare_list(name, "visible", int)
                if label.xywh is not None:
                    schema.declare_list(name, "bounding_box", float)
            attributes = schema.fit(name, label.attributes) if label.attributes else label.attributes
            index = track_index(label) if instances else None
            instance = instances[label.label, index] if instances and index is not None else None
            documents.append(label_document(label, attributes, instance))
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
            partialFilterExpression={DIGEST_FIELD: _IS_STRING},
        )
    except DuplicateKeyError as error:
        raise InvalidDataError(
            "the dataset has samples with the same content",
            f"'{dataset.name}', digest {(error.details or {}).get('keyValue', '')!s}",
            "delete all but one of each before ingesting into it",
        ) from error
    except OperationFailure as error:
        raise UnavailableError("the database refused an index", error, "run `osv doctor`") from error


def find_by_digest(dataset: fo.Dataset, digests: Iterable[str]) -> dict[str, Stored]:
    """What the dataset has of these contents."""
    wanted = {DIGEST_FIELD: {"$in": list(digests), **_IS_STRING}}
    shown = {DIGEST_FIELD: 1, "filepath": 1, "tags": 1, "labelled": 1}
    return {
        found[DIGEST_FIELD]: Stored(
            str(found["_id"]),
            found["filepath"],
            tuple(found.get("tags") or ()),
            found.get("labelled") is not False,
        )
        for found in dataset._sample_collection.find(wanted, shown)
    }


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
        with _writing(), contextlib.suppress(DuplicateKeyError):
            collection.update_one({"_id": found["_id"]}, {"$set": {DIGEST_FIELD: digests[found["filepath"]]}})


def set_filepath(dataset: fo.Dataset, sample_id: str, filepath: str) -> None:
    """Let a sample point at its file's new place."""
    from bson import ObjectId

    change = {"filepath": filepath, "last_modified_at": datetime.now(UTC)}
    with _writing():
        dataset._sample_collection.update_one({"_id": ObjectId(sample_id)}, {"$set": change})


def split_content(dataset: fo.Dataset) -> dict[str, dict[str, int]]:
    """How many samples of each split show each ground truth class; ``""`` counts all samples of the split."""
    counts: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    names = [*dict.fromkeys(FIELDS.values()), "ground_truth_classes"]
    for _, record in iter_records(dataset.match_tags(list(SPLITS)), names):
        labels = [*record.labels, *(label for some in (record.frames or {}).values() for label in some)]
        found = counts[record.split or ""]
        for name in {"", *(label.label for label in labels)}:
            found[name] = found.get(name, 0) + 1
    return counts


def made_by(view: fo.SampleCollection, field_name: str, maker: str) -> set[str]:
    """Ids of the samples of a view whose label field was made by ``maker``."""
    found = view._aggregate(
        detach_frames=True,
        post_pipeline=[{"$match": {f"{field_name}.{MADE_BY}": maker}}, {"$project": {"_id": 1}}],
    )
    return {str(document["_id"]) for document in found}


def frames_made_by(dataset: fo.Dataset, sample_id: str, field_name: str, maker: str) -> set[int]:
    """Numbers of the frames of a video whose label field was made by ``maker``."""
    from bson import ObjectId

    wanted = {"_sample_id": ObjectId(sample_id), f"{field_name}.{MADE_BY}": maker}
    return {found["frame_number"] for found in dataset._frame_collection.find(wanted, {"frame_number": 1})}


def iter_records(view: fo.SampleCollection, fields: Sequence[str]) -> Iterator[tuple[str, Record]]:
    """Read samples quickly, as plain records.

    Args:
        view: A dataset or view. What its stages filter out of the fields stays out.
        fields: Label fields. For a video, a name with or without ``frames.`` reads the labels of its frames.

    Yields:
        The sample id and its record. A split tag becomes ``split``; without a field ``labelled``, a sample with a
        label field set counts as labelled.
    """
    view = view.view()
    schema = view._dataset.get_frame_field_schema() or {}
    frame_fields = [name.removeprefix("frames.") for name in fields if name.removeprefix("frames.") in schema]
    names = [name for name in fields if not name.startswith("frames.") and view.get_field(name) is not None]
    shown = {"filepath": 1, "tags": 1, "labelled": 1, **{f"metadata.{key}": 1 for key in _SIZE_KEYS}}
    shown.update(dict.fromkeys(names, 1))
    # What an evaluation wrote on labels is a result, not something the labels say.
    marks = {f"{key}{end}" for key in view._dataset.list_evaluations() for end in ("", "_iou", "_id")}
    documents = view._aggregate(detach_frames=True, post_pipeline=[{"$project": shown}])
    if not frame_fields:
        for document in documents:
            yield str(document["_id"]), _record(document, names, marks)
        return
    for batch in _batches(documents, 16):
        frames = _frames_of(view, [document["_id"] for document in batch], frame_fields, marks)
        for document in batch:
            record = _record(document, names, marks)
            record.frames = frames.get(document["_id"], {})
            if "labelled" not in document:
                record.labelled = record.labelled or bool(record.frames)
            yield str(document["_id"]), record


_SIZE_KEYS = ("width", "height", "frame_width", "frame_height")


def _record(document: Mapping[str, Any], names: Sequence[str], marks: Set[str]) -> Record:
    tags = tuple(document.get("tags") or ())
    metadata = document.get("metadata") or {}
    width = metadata.get("width") or metadata.get("frame_width")
    height = metadata.get("height") or metadata.get("frame_height")
    labelled = document.get("labelled")
    return Record(
        path=Path(document.get("filepath", "")),
        labels=[label for name in names for label in labels_of_container(document.get(name), marks)],
        split=next((tag for tag in tags if tag in SPLITS), None),
        tags=tuple(tag for tag in tags if tag not in SPLITS),
        labelled=any(document.get(name) is not None for name in names) if labelled is None else labelled,
        size=(width, height) if width and height else None,
    )


def _frames_of(
    view: fo.SampleCollection, videos: Sequence[Any], fields: Sequence[str], marks: Set[str]
) -> dict[Any, dict[int, list[Label]]]:
    shown = {"_sample_id": 1, "frame_number": 1, **dict.fromkeys(fields, 1)}
    if any(stage._needs_frames(view) for stage in view._stages):
        only = {"$match": {"_sample_id": {"$in": list(videos)}}}
        documents: Iterable[Mapping[str, Any]] = view._aggregate(
            frames_only=True, post_pipeline=[only, {"$project": shown}]
        )
    else:
        order = [("_sample_id", 1), ("frame_number", 1)]
        found = view._dataset._frame_collection.find({"_sample_id": {"$in": list(videos)}}, shown)
        documents = found.sort(order)
    frames: dict[Any, dict[int, list[Label]]] = {}
    for video, group in groupby(documents, key=lambda document: document["_sample_id"]):
        numbers = frames.setdefault(video, {})
        for document in group:
            labels = [label for name in fields for label in labels_of_container(document.get(name), marks)]
            numbers.setdefault(document["frame_number"], []).extend(labels)
    return frames


def _video_id(dataset_id: Any, digest: str) -> Any:
    from bson import ObjectId

    return ObjectId(hashlib.sha256(dataset_id.binary + digest.encode()).digest()[:12])


def _duplicates(error: Any) -> set[int]:
    """Positions that a unique index refused; anything else is raised again."""
    problems = error.details.get("writeErrors", [])
    if error.details.get("writeConcernErrors") or any(problem.get("code") != 11000 for problem in problems):
        raise error
    return {problem["index"] for problem in problems}


_NOT_STORABLE = "a sample cannot be stored"
_SMALLER = "split its labels over several samples"
_TOO_LARGE = 10334
"""The server's code for a document over MongoDB's 16 MiB."""


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    from bson.errors import BSONError
    from pymongo.errors import BulkWriteError, DocumentTooLarge, PyMongoError

    try:
        yield
    except BulkWriteError as error:
        problems = error.details.get("writeErrors", [])
        reason = problems[0].get("errmsg", "") if problems else str(error)
        raise UnavailableError(
            "the database refused to write", reason, "check its disk with `osv doctor`"
        ) from error
    except (DocumentTooLarge, BSONError, UnicodeError, OverflowError) as error:
        raise InvalidDataError(_NOT_STORABLE, str(error)[:200], _SMALLER) from error
    except PyMongoError as error:
        if getattr(error, "code", None) == _TOO_LARGE:
            raise InvalidDataError(_NOT_STORABLE, str(error).partition(" First")[0], _SMALLER) from error
        fix = "check it with `osv doctor`, then run the same again"
        raise UnavailableError("the database did not take the write", error, fix) from error


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def absolute(path: str | os.PathLike[str]) -> str:
    """A path as FiftyOne keeps it: absolute, links not followed."""
    return os.path.abspath(os.path.expanduser(os.fspath(path)))  # noqa: PTH100, PTH111
