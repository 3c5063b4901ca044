"""A merge's changes and conflicts as documents of the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from osv_lab.annotate.changes import Change, Merge
from osv_lab.annotate.documents import HOLDS, attributes_set, changed_document, new_document
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.records import Run
from osv_lab.store.annotation_store import Labelled, set_field
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


def keep_conflicts(
    dataset: fo.Dataset, run: Run, merged: Merge, *, settled: bool
) -> tuple[str | None, str | None]:
    """The saved view of open conflicts, with the server's versions in a field of their own beside ours."""
    name = "".join(char if char.isalnum() else "_" for char in run.key)
    view, theirs = f"{run.key}_conflicts", f"{name}_theirs"
    open_ones = () if settled else merged.conflicts
    if dataset.has_saved_view(view):
        dataset.delete_saved_view(view)
    if not open_ones:
        if dataset.has_sample_field(theirs):
            dataset.delete_sample_field(theirs)
        return None, None
    sizes = dict(zip(run.samples, run.sizes, strict=True))
    schema = LabelSchema(dataset)
    schema.declare(theirs, run.container)
    labels: dict[str, list[Document]] = {}
    for one in open_ones:
        some = labels.setdefault(one.sample, [])
        for shape in (one.theirs, *one.others):
            if isinstance(shape, Shape) and shape.kind in HOLDS[run.container]:
                shape = replace(shape, uid=one.uid)
                document = new_document(shape, sizes[one.sample])
                document.update(schema.fit(theirs, attributes_set(shape)))
                some.append(document)
    set_field(dataset, theirs, run.container, labels)
    dataset.save_view(view, dataset.select(sorted(labels)))
    return view, theirs
