"""A merge's changes as documents of the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from osv_lab.annotate.changes import Change
from osv_lab.annotate.documents import attributes_set, changed_document, new_document
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.records import Run
from osv_lab.store.annotation_store import Labelled
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
    """The label documents of the samples that change; those of untouched labels are as they were read."""
    if not changes:
        return []
    schema = LabelSchema(dataset)
    schema.declare(run.field, run.container)
    of: dict[str, list[Change]] = {}
    for change in changes:
        of.setdefault(change.sample, []).append(change)
    writes = []
    for sample in samples:
        if sample.id not in of:
            continue
        documents = {str(document["_id"]): document for document in sample.labels}
        for change in of[sample.id]:
            after = change.after
            if after is None:
                documents.pop(change.uid, None)
                continue
            assert isinstance(after, Shape)
            if change.uid in documents:
                document = changed_document(documents[change.uid], after, change.properties, sizes[sample.id])
                document.update(schema.fit(run.field, attributes_set(after, change.properties)))
            else:
                document = new_document(after, sizes[sample.id])
                document.update(schema.fit(run.field, attributes_set(after)))
            documents[change.uid] = document
        writes.append((sample, list(documents.values())))
    return writes
