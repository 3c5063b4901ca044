"""The bulk route's other half: MongoDB's documents to records, past FiftyOne's object layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.settings import SPLITS
from osv_lab.store.documents import MADE_BY, labels_of_container, plain_capture
from osv_lab.store.records import FIELDS, Label, Record

if TYPE_CHECKING:
    import fiftyone as fo

DIGEST_FIELD = "content_digest"
CAPTURE = "capture"
"""The sample field for what a server said about a captured sample."""

IS_STRING = {"$type": "string"}
"""Part of every query by digest: the index is over samples that have one."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store has under a digest."""

    id: str
    filepath: str
    tags: tuple[str, ...]
    labelled: bool


def find_by_digest(dataset: fo.Dataset, digests: Iterable[str]) -> dict[str, Stored]:
    """What the dataset has of these contents."""
    wanted = {DIGEST_FIELD: {"$in": list(digests), **IS_STRING}}
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
    values = _value_fields(view)
    shown.update(dict.fromkeys([*names, *values], 1))
    # What an evaluation wrote on labels is a result, not something the labels say.
    runs = [*view._dataset.list_evaluations(), *view._dataset.list_runs()]
    marks = {f"{key}{end}" for key in runs for end in ("", "_iou", "_id", "_index")}
    documents = view._aggregate(detach_frames=True, post_pipeline=[{"$project": shown}])
    if not frame_fields:
        for document in documents:
            yield str(document["_id"]), _record(document, names, values, marks)
        return
    for batch in batches(documents, 16):
        frames = _frames_of(view, [document["_id"] for document in batch], frame_fields, marks)
        for document in batch:
            record = _record(document, names, values, marks)
            record.frames = frames.get(document["_id"], {})
            if "labelled" not in document:
                record.labelled = record.labelled or bool(record.frames)
            yield str(document["_id"]), record


@dataclass(slots=True)
class Content:
    """All that a dataset version keeps of a sample.

    Attributes:
        id: The sample's id.
        filepath: Its media file.
        digest: The content digest that ingest stored, or ``None``.
        tags: All its tags, the split among them.
        labelled: Whether someone has labelled it, as for a :class:`~osv_lab.store.records.Record`.
        metadata: The metadata document, plain values only.
        labels: Labels per field; a field that is not set is not among them, one without a label is empty.
        frames: For a video: labels per frame field and frame number.
        values: Further sample fields.
        capture: What a server said of it, as :func:`~osv_lab.store.documents.plain_capture` has it.
    """

    id: str
    filepath: str
    digest: str | None
    tags: tuple[str, ...]
    labelled: bool
    metadata: dict[str, Any]
    labels: dict[str, list[Label]]
    frames: dict[str, dict[int, list[Label]]] | None
    values: dict[str, bool | int | float | str]
    capture: dict[str, Any]


def iter_contents(view: fo.SampleCollection, fields: Sequence[str]) -> Iterator[Content]:
    """Read samples quickly, with their labels by field. Arguments as for :func:`iter_records`."""
    view = view.view()
    video = view.media_type == "video"
    frame_fields = [name.removeprefix("frames.") for name in fields if name.startswith("frames.")]
    names = [name for name in fields if not name.startswith("frames.")]
    runs = [*view._dataset.list_evaluations(), *view._dataset.list_runs()]
    marks = {f"{key}{end}" for key in runs for end in ("", "_iou", "_id", "_index")}
    results = {f"{key}{end}" for key in runs for end in ("_tp", "_fp", "_fn", "_score")}
    values = [name for name in _value_fields(view) if name not in results]
    shown = dict.fromkeys(["filepath", "tags", "labelled", "metadata", DIGEST_FIELD, CAPTURE, *names, *values], 1)
    documents = view._aggregate(detach_frames=True, post_pipeline=[{"$project": shown}])
    for batch in batches(documents, 256 if not video else 16):
        ids = [document["_id"] for document in batch]
        of_field = {name: _frames_of(view, ids, [name], marks) for name in frame_fields}
        for document in batch:
            labels = {
                name: labels_of_container(document[name], marks)
                for name in names
                if document.get(name) is not None
            }
            frames = {name: found.get(document["_id"], {}) for name, found in of_field.items()} if video else None
            labelled = document.get("labelled")
            metadata = document.get("metadata") or {}
            yield Content(
                id=str(document["_id"]),
                filepath=document.get("filepath", ""),
                digest=document.get(DIGEST_FIELD),
                tags=tuple(document.get("tags") or ()),
                labelled=bool(labels or any((frames or {}).values())) if labelled is None else labelled,
                metadata={key: value for key, value in metadata.items() if isinstance(value, (int, float, str))},
                labels=labels,
                frames=frames,
                values={name: document[name] for name in values if document.get(name) is not None},
                capture=plain_capture(document.get(CAPTURE)),
            )


_SIZE_KEYS = ("width", "height", "frame_width", "frame_height")


def _value_fields(view: fo.SampleCollection) -> list[str]:
    """Sample fields with plain values that are not the store's own."""
    import fiftyone as fo

    plain = (fo.BooleanField, fo.IntField, fo.FloatField, fo.StringField)
    own = {"filepath", "labelled", DIGEST_FIELD}
    return [name for name, kind in view.get_field_schema().items() if type(kind) in plain and name not in own]


def _record(document: Mapping[str, Any], names: Sequence[str], values: Sequence[str], marks: Set[str]) -> Record:
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
        fields={name: document[name] for name in values if document.get(name) is not None},
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


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Items in lists of ``size``, the last one shorter.

    Example:
        >>> list(batches("abc", 2))
        [['a', 'b'], ['c']]
    """
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
