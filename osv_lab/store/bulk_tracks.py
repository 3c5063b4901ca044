"""The bulk route for tracks: the label fields of a clip's frames, whether frames of a video or images of a sequence.

A clip's field is many documents, and the database changes one at a time. So the first frame's says whether the rest is
whole: it is written first, as ``unfinished``, and again after all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.store.bulk import FRAME_BATCH, Writer
from osv_lab.store.bulk_read import batches
from osv_lab.store.clips import Clip
from osv_lab.store.database import database_errors
from osv_lab.store.documents import MADE_BY, Document, new_ids
from osv_lab.store.records import Box

if TYPE_CHECKING:
    import fiftyone as fo
    import numpy as np
    import numpy.typing as npt

UNFINISHED = "unfinished"
"""What the first frame's field is ``made_by`` while the rest is being written."""


def check_field(view: fo.SampleCollection, field: str) -> None:
    """Make sure that a field of ``Detections`` exists; ``frames.`` before it for videos.

    Raises:
        NotFoundError: no such field.
        UsageError: it holds something else.
    """
    declared = view.get_field(field)
    if declared is None:
        frames = view.get_frame_field_schema() or {} if view.media_type == "video" else {}
        names = [f"frames.{name}" for name in frames] or list(view.get_field_schema())
        raise NotFoundError("no such field", repr(field), nearest(field, names))
    kind = getattr(getattr(declared, "document_type", None), "__name__", "no labels")
    if kind != "Detections":
        raise UsageError("tracks are kept in fields of Detections", f"'{field}' holds {kind}")


def read_frames(view: fo.SampleCollection, clip: Clip, field: str) -> Iterator[tuple[int, list[Document]]]:
    """Frame numbers, in order, with the raw detections of a field, of all frames that have it.

    What the view filters out of the field stays out.

    Raises:
        InvalidDataError: a killed run left the field half written.
    """
    for number, container in _containers(view.view(), clip, field):
        if container.get(MADE_BY) == UNFINISHED:
            raise InvalidDataError(
                "the tracks are half written", f"'{field}' of '{clip.name}'", "track again, it was interrupted"
            )
        yield number, container.get("detections") or []


def read_indices(
    dataset: fo.Dataset, clip: Clip, field: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Frame number, index (-1: none) and class of every label of a clip, without fetching the labels.

    Returns:
        Three (n,) arrays in the order of frames; the classes are text.
    """
    import numpy as np
    from bson import ObjectId

    labels = {"$ifNull": [f"${field}.detections", []]}
    columns = {
        "index": {"$map": {"input": labels, "in": {"$ifNull": ["$$this.index", -1]}}},
        "label": {"$map": {"input": labels, "in": {"$ifNull": ["$$this.label", ""]}}},
    }
    if clip.video:
        own: Document = {"_sample_id": ObjectId(clip.sample_id)}
        collection = dataset._frame_collection
    else:
        own = {"_id": {"$in": [ObjectId(sample) for sample in clip.samples.values()]}}
        collection = dataset._sample_collection
    numbers = {sample: number for number, sample in clip.samples.items()}
    with database_errors():
        found = [
            (one["frame_number"] if clip.video else numbers[str(one["_id"])], one["index"], one["label"])
            for one in collection.aggregate([{"$match": own}, {"$project": {"frame_number": 1, **columns}}])
        ]
    found.sort(key=lambda row: row[0])
    frame = np.repeat([row[0] for row in found], [len(row[1]) for row in found]).astype(np.int64)
    index = np.array([value for row in found for value in row[1]], dtype=np.int64)
    return frame, index, np.array([value for row in found for value in row[2]], dtype=str)


def _containers(view: Any, clip: Clip, field: str) -> Iterator[tuple[int, Document]]:
    from bson import ObjectId

    if clip.video:
        own = {"_sample_id": ObjectId(clip.sample_id)}
        shown = {"frame_number": 1, field: 1}
        if any(stage._needs_frames(view) for stage in view._stages):
            found = view._aggregate(frames_only=True, post_pipeline=[{"$match": own}, {"$project": shown}])
        else:
            found = view._dataset._frame_collection.find(own, shown).sort("frame_number", 1)
        numbered = ((document["frame_number"], document) for document in found)
    else:
        numbers = {sample: number for number, sample in clip.samples.items()}
        ids = [ObjectId(sample) for sample in clip.samples.values()]
        documents = {
            numbers[str(document["_id"])]: document
            for document in _flat(view)._aggregate(
                post_pipeline=[{"$match": {"_id": {"$in": ids}}}, {"$project": {field: 1}}]
            )
        }
        numbered = ((number, documents[number]) for number in sorted(documents))
    with database_errors():
        for number, document in numbered:
            if document.get(field) is not None:
                yield number, document[field]


def _flat(view: Any) -> Any:
    return view.flatten() if view._is_dynamic_groups else view


def is_made_by(dataset: fo.Dataset, clip: Clip, field: str, maker: str) -> bool:
    """Whether ``maker`` has made the whole of a clip's field."""
    from bson import ObjectId

    made = {f"{field}.{MADE_BY}": maker}
    with database_errors():
        if clip.video:
            first = {"_sample_id": ObjectId(clip.sample_id), "frame_number": 1}
            return dataset._frame_collection.find_one({**first, **made}, {"_id": 1}) is not None
        ids = [ObjectId(sample) for sample in clip.samples.values()]
        return int(dataset._sample_collection.count_documents({"_id": {"$in": ids}, **made})) == len(ids)


def has_foreign_labels(dataset: fo.Dataset, clip: Clip, field: str) -> bool:
    """Whether the field holds labels that do not say what made them: those of a person, most likely."""
    from bson import ObjectId

    foreign = {f"{field}.detections.0": {"$exists": True}, f"{field}.{MADE_BY}": {"$exists": False}}
    with database_errors():
        if clip.video:
            own = {"_sample_id": ObjectId(clip.sample_id)}
            return dataset._frame_collection.find_one({**own, **foreign}, {"_id": 1}) is not None
        ids = [ObjectId(sample) for sample in clip.samples.values()]
        return dataset._sample_collection.find_one({"_id": {"$in": ids}, **foreign}, {"_id": 1}) is not None


def replace_field(
    writer: Writer,
    dataset: fo.Dataset,
    clip: Clip,
    field: str,
    frames: Iterator[tuple[int, list[Box]]],
    tracks: Sequence[tuple[str, int]],
    made_by: str,
) -> None:
    """Put the labels of all frames in place of the field's old ones.

    Args:
        writer: The data set's writer.
        dataset: The data set.
        clip: Whose field.
        field: Its name, without ``frames.``.
        frames: Frame numbers, in order, with their labels.
        tracks: Class name and index of every track: its labels get one FiftyOne instance.
        made_by: Kept with the labels.
    """
    from bson import ObjectId

    instances: dict[tuple[str, int | None], Any] = dict(zip(tracks, new_ids(len(tracks)), strict=True))

    def write(some: Mapping[int, list[Box]], maker: str) -> None:
        if clip.video:
            writer.set_frame_labels(field, clip.sample_id, some, "Detections", maker, instances)
        else:
            labels = {clip.samples[number]: boxes for number, boxes in some.items()}
            writer.set_labels(field, labels, "Detections", maker, instances)

    if not clip.video:
        frames = ((number, boxes) for number, boxes in frames if number in clip.samples)
    first = next(frames, (1 if clip.video else next(iter(clip.samples)), []))
    last = first[0]
    write(dict([first]), UNFINISHED)
    for batch in batches(frames, FRAME_BATCH):
        write(dict(batch), made_by)
        last = batch[-1][0]
    if clip.video:
        beyond = {"_sample_id": ObjectId(clip.sample_id), "frame_number": {"$gt": last}, field: {"$exists": True}}
        with database_errors():
            dataset._frame_collection.update_many(beyond, {"$unset": {field: ""}})
    write(dict([first]), made_by)


def mark_labels(
    dataset: fo.Dataset,
    clip: Clip,
    field: str,
    marks: Mapping[int, Mapping[str, Mapping[str, Any]]],
) -> None:
    """Set attributes, which must be declared, of labels of a clip's field.

    Args:
        dataset: The data set.
        clip: Whose field.
        field: A field of ``Detections``, without ``frames.``.
        marks: By frame number and label id: attribute values.

    Raises:
        InvalidDataError: labels were added or removed meanwhile; nothing of those frames is written.
    """
    from bson import ObjectId
    from pymongo import UpdateOne

    path = f"{field}.detections"
    now = datetime.now(UTC)
    collection = dataset._frame_collection if clip.video else dataset._sample_collection
    written = 0
    for numbers in batches(sorted(marks), FRAME_BATCH):
        if clip.video:
            wanted: Document = {"_sample_id": ObjectId(clip.sample_id), "frame_number": {"$in": numbers}}
        else:
            wanted = {"_id": {"$in": [ObjectId(clip.samples[number]) for number in numbers]}}
        by_id = {sample: number for number, sample in clip.samples.items()}
        operations = []
        with database_errors():
            for document in collection.find(wanted, {"frame_number": 1, f"{path}._id": 1}):
                number = document["frame_number"] if clip.video else by_id[str(document["_id"])]
                there = [one["_id"] for one in document[field]["detections"]]
                places = {str(label): place for place, label in enumerate(there)}
                if not places.keys() >= marks[number].keys():
                    continue
                change = {
                    f"{path}.{places[label]}.{name}": value
                    for label, values in marks[number].items()
                    for name, value in values.items()
                }
                unchanged = {f"{path}.{place}._id": there[place] for place in {0, len(there) - 1}}
                same = {"_id": document["_id"], path: {"$size": len(there)}, **unchanged}
                operations.append(UpdateOne(same, {"$set": {**change, "last_modified_at": now}}))
            if operations:
                written += collection.bulk_write(operations, ordered=False).matched_count
    if written < len(marks):
        raise InvalidDataError(
            "labels changed while results were being written to them",
            f"{len(marks) - written} of {len(marks)} frames of '{clip.name}'",
            "run it again",
        )


def set_sample_values(dataset: fo.Dataset, clip: Clip, values: Mapping[str, Any]) -> None:
    """Set declared sample fields of a video, or of all images of a sequence."""
    from bson import ObjectId

    ids = [ObjectId(sample) for sample in clip.samples.values()]
    with database_errors():
        dataset._sample_collection.update_many(
            {"_id": {"$in": ids}}, {"$set": {**values, "last_modified_at": datetime.now(UTC)}}
        )
