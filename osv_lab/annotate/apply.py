"""A merge's changes as documents of the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from osv_lab.annotate.changes import Change
from osv_lab.annotate.clips import Place
from osv_lab.annotate.documents import attributes_set, changed_document, new_document, track_of
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.records import Run
from osv_lab.store.annotation_store import Labelled, is_of_frames, name_of, read_samples
from osv_lab.store.documents import Document
from osv_lab.store.schema import LabelSchema

if TYPE_CHECKING:
    import fiftyone as fo


def label_writes(
    dataset: fo.Dataset,
    run: Run,
    samples: Sequence[Labelled],
    changes: Sequence[Change],
    sizes: Mapping[str, tuple[int, int]],
) -> list[tuple[Labelled, list[Document]]]:
    """The label documents of the samples or frames that change; those of untouched labels are as they were read."""
    if not changes:
        return []
    name = name_of(run.field)
    schema = LabelSchema(dataset, frames=is_of_frames(run.field))
    schema.declare(name, run.container)
    links = _TrackLinks(dataset, run)
    of: dict[Place, list[Change]] = {}
    for change in changes:
        of.setdefault(change.place, []).append(change)
    there = {(sample.id, sample.frame): sample for sample in samples}
    writes = []
    for place, some in of.items():
        sample = there.get(place)
        if sample is None:
            if not place[1]:
                continue
            # A frame without labels is not read.
            sample = Labelled(place[0], "", None, None, place[1])
        documents = {str(document["_id"]): document for document in sample.labels}
        for change in some:
            after = change.after
            if after is None:
                documents.pop(change.uid, None)
                continue
            assert isinstance(after, Shape)
            if change.uid in documents:
                document = changed_document(documents[change.uid], after, change.properties, sizes[sample.id])
                document.update(schema.fit(name, attributes_set(after, change.properties)))
                linked = bool({"track", "label"} & set(change.properties))
            else:
                document = new_document(after, sizes[sample.id])
                document.update(schema.fit(name, attributes_set(after)))
                linked = True
            if linked and after.track is not None:
                links.link(document, after)
            documents[change.uid] = document
        writes.append((sample, list(documents.values())))
    return writes


class _TrackLinks:
    """The number of each track, and its FiftyOne instance where it needs one to be told."""

    def __init__(self, dataset: fo.Dataset, run: Run) -> None:
        self._dataset, self._run = dataset, run
        self._numbers: dict[str, dict[str, int]] = {}
        self._instances: set[str] = set()

    def link(self, document: Document, shape: Shape) -> None:
        """Make a label one of its track.

        A track that is known by its class and number stays so; all others are known by an instance.
        """
        from bson import ObjectId

        assert shape.track is not None
        owner = self._run.owners[shape.sample]
        if owner not in self._numbers:
            self._numbers[owner] = self._read(owner)
        numbers = self._numbers[owner]
        document["index"] = numbers.setdefault(shape.track, max(numbers.values(), default=0) + 1)
        document.pop("instance", None)
        if shape.track in self._instances or track_of(document, owner) != shape.track:
            document["instance"] = {"_cls": "Instance", "_id": ObjectId(shape.track)}

    def _read(self, owner: str) -> dict[str, int]:
        samples = [sample for sample, name in self._run.owners.items() if name == owner]
        numbers: dict[str, int] = {}
        for sample in read_samples(self._dataset, samples, self._run.field):
            for document in sample.labels:
                track = track_of(document, owner)
                if track is not None and type(document.get("index")) is int:
                    numbers.setdefault(track, document["index"])
                    if document.get("instance"):
                        self._instances.add(track)
        return numbers
