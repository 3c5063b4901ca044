"""The bulk route for edits of tracks: changes of single labels in many frames, which can be repeated and reversed.

A change names its label by id and says what it was and what it becomes. So applying one twice is applying it once, its
reverse is another change, and other labels of the same frames may change meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.bulk import FRAME_BATCH
from osv_lab.store.bulk_read import batches
from osv_lab.store.bulk_tracks import UNFINISHED
from osv_lab.store.clips import Clip
from osv_lab.store.database import database_errors
from osv_lab.store.documents import MADE_BY, Document

if TYPE_CHECKING:
    import fiftyone as fo


@dataclass(frozen=True, slots=True)
class LabelChange:
    """What an edit does to one label.

    Attributes:
        frame: ``ObjectId`` of the frame's document (of an image: the sample's).
        label: ``ObjectId`` of the label.
        place: Where the label lies in its frame, for one that is taken out or put back.
        before: Its properties that change; ``None`` if it is not there before.
        after: The same afterwards; properties that are missing here are taken off. ``None``: it is taken out.
    """

    frame: Any
    label: Any
    place: int
    before: Document | None
    after: Document | None

    def reversed(self) -> LabelChange:
        """The change that takes this one back."""
        return LabelChange(self.frame, self.label, self.place, self.after, self.before)

    def is_done(self, found: Document | None) -> bool:
        """Whether a label is as this change leaves it."""
        if found is None or self.after is None:
            return found is self.after
        names = {*self.after, *(self.before or ())}
        return all(found.get(name) == self.after.get(name) for name in names)


@dataclass(frozen=True, slots=True)
class TrackedLabel:
    """One label of a track: its frame's number and document, where it lies there, and its own document."""

    number: int
    frame: Any
    place: int
    document: Document

    @property
    def index(self) -> int:
        """The identity it carries."""
        return int(self.document["index"])


@dataclass(frozen=True, slots=True)
class Identities:
    """The identities of a clip.

    Attributes:
        last: The highest ``index``, 0 without tracks.
        shared: Whether a frame has an index twice: then classes count on their own.
    """

    last: int
    shared: bool


def known_identities(dataset: fo.Dataset, clip: Clip, field: str) -> Identities:
    """What identities a clip has, without fetching its labels.

    Raises:
        InvalidDataError: a killed run left the field half written.
    """
    index = f"${field}.detections.index"
    per_frame: Document = {
        "last": {"$max": index},
        "twice": {
            "$ne": [{"$size": {"$ifNull": [index, []]}}, {"$size": {"$setUnion": [{"$ifNull": [index, []]}]}}]
        },
        "unfinished": {"$eq": [f"${field}.{MADE_BY}", UNFINISHED]},
    }
    whole = {name: {"$max": f"${name}"} for name in per_frame}
    pipeline = [{"$match": _own(clip)}, {"$project": per_frame}, {"$group": {"_id": None, **whole}}]
    with database_errors():
        found: Document = next(iter(_collection(dataset, clip).aggregate(pipeline)), {})
    if found.get("unfinished"):
        raise InvalidDataError(
            "the tracks are half written", f"'{field}' of '{clip.name}'", "track again, it was interrupted"
        )
    return Identities(int(found.get("last") or 0), bool(found.get("twice")))


def read_identity_labels(
    dataset: fo.Dataset, clip: Clip, field: str, indices: Sequence[int]
) -> list[TrackedLabel]:
    """The labels that carry these indices, in the order of frames."""
    path = f"{field}.detections"
    theirs = list(indices)
    there = {
        "$let": {"vars": {"one": {"$arrayElemAt": [f"${path}", "$$at"]}}, "in": {"$in": ["$$one.index", theirs]}}
    }
    every = {"$range": [0, {"$size": f"${path}"}]}
    pipeline = [
        {"$match": {**_own(clip), f"{path}.index": {"$in": theirs}}},
        {
            "$project": {
                "frame_number": 1,
                "kept": {"$filter": {"input": f"${path}", "as": "one", "cond": {"$in": ["$$one.index", theirs]}}},
                "places": {"$filter": {"input": every, "as": "at", "cond": there}},
            }
        },
    ]
    numbers = {sample: number for number, sample in clip.samples.items()}
    with database_errors():
        found = [
            TrackedLabel(one["frame_number"] if clip.video else numbers[str(one["_id"])], one["_id"], place, label)
            for one in _collection(dataset, clip).aggregate(pipeline)
            for place, label in zip(one["places"], one["kept"], strict=True)
        ]
    return sorted(found, key=lambda label: label.number)


def apply_changes(dataset: fo.Dataset, clip: Clip, field: str, changes: Iterable[LabelChange]) -> None:
    """Apply changes. Those that are done already change nothing."""
    from bson import ObjectId

    path = f"{field}.detections"
    now = datetime.now(UTC)
    by_frame: dict[Any, list[LabelChange]] = {}
    for change in changes:
        by_frame.setdefault(change.frame, []).append(change)
    operations = [one for frame, some in by_frame.items() for one in _operations(frame, path, some, now)]
    samples = [ObjectId(sample) for sample in clip.samples.values()]
    with database_errors():
        for batch in batches(operations, FRAME_BATCH):
            _collection(dataset, clip).bulk_write(list(batch), ordered=False)
        if clip.video:
            dataset._sample_collection.update_one({"_id": samples[0]}, {"$set": {"last_modified_at": now}})
    dataset._update_last_modified_at()


def _operations(frame: Any, path: str, changes: Sequence[LabelChange], now: datetime) -> Iterator[Any]:
    """The updates of one frame: all properties that are set in one, each label taken out or put back in another."""
    from pymongo import UpdateOne

    modified: Document = {"last_modified_at": now}
    put: Document = {}
    off: Document = {}
    filters = []
    for number, change in enumerate(changes):
        if change.before is None or change.after is None:
            yield _moved(frame, path, change, modified)
            continue
        name = f"{path}.$[l{number}]"
        filters.append({f"l{number}._id": change.label})
        put |= {f"{name}.{key}": value for key, value in change.after.items()}
        off |= {f"{name}.{key}": "" for key in change.before if key not in change.after}
    if filters:
        update = {"$set": {**put, **modified}, **({"$unset": off} if off else {})}
        yield UpdateOne({"_id": frame, f"{path}.0": {"$exists": True}}, update, array_filters=filters)


def _moved(frame: Any, path: str, change: LabelChange, modified: Document) -> Any:
    from pymongo import UpdateOne

    if change.after is None:
        return UpdateOne({"_id": frame}, {"$pull": {path: {"_id": change.label}}, "$set": modified})
    back = {"$each": [change.after], "$position": change.place}
    return UpdateOne(
        {"_id": frame, f"{path}._id": {"$ne": change.label}}, {"$push": {path: back}, "$set": modified}
    )


def _collection(dataset: fo.Dataset, clip: Clip) -> Any:
    return dataset._frame_collection if clip.video else dataset._sample_collection


def _own(clip: Clip) -> Document:
    from bson import ObjectId

    if clip.video:
        return {"_sample_id": ObjectId(clip.sample_id)}
    return {"_id": {"$in": [ObjectId(sample) for sample in clip.samples.values()]}}
