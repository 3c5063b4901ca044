"""Conflicts that a pull left open, with both versions: kept with the run, so that looking at them needs no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.changes import Conflict, Scope
from osv_lab.annotate.clips import Place, ranges_of
from osv_lab.annotate.documents import HOLDS, attributes_set, new_document, shapes_of
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.properties import values_of
from osv_lab.annotate.records import Run, Runs, shape_document, shape_from
from osv_lab.core.errors import UsageError
from osv_lab.core.report import Report
from osv_lab.store.annotation_store import (
    FRAMES,
    forget_fields,
    is_of_frames,
    known_samples,
    mark_frames,
    name_of,
    read_samples,
    set_field,
)
from osv_lab.store.documents import Document
from osv_lab.store.schema import LabelSchema

if TYPE_CHECKING:
    import fiftyone as fo

EXISTENCE = ("existence",)


@dataclass(frozen=True, slots=True)
class OpenConflict:
    """One object that both sides changed, differently.

    Attributes:
        object: Its identity: the label's id.
        sample: The id of its sample.
        properties: What the sides disagree on: ``geometry``, ``label``, ``occluded``, ``attributes.<name>``, ...;
            ``existence`` where one side deleted it.
        base: As it was when the sides last agreed, or ``None``.
        ours: As the dataset has it now, ``None`` where it was deleted here.
        theirs: As the server has it: one version, or several of annotators whose jobs overlap; none where it was
            deleted there.
    """

    object: str
    sample: str
    properties: tuple[str, ...]
    base: Shape | None
    ours: Shape | None
    theirs: tuple[Shape, ...]

    @property
    def frame(self) -> int:
        """The frame of a video that it is on, from 1; 0 for an image."""
        return next(shape.frame for shape in (self.base, self.ours, *self.theirs) if shape is not None)


@dataclass(frozen=True)
class ConflictReport(Report):
    """The open conflicts of a run.

    Attributes:
        key: The run.
        conflicts: What is open.
        settled: How many were settled by this call.
        view_name: The saved view of the samples, ``None`` without any.
        theirs_field: The field with the server's versions, ``None`` without any.
    """

    key: str
    conflicts: tuple[OpenConflict, ...]
    settled: int = 0
    view_name: str | None = None
    theirs_field: str | None = None
    dataset: Any = field(default=None, repr=False, compare=False)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per object."""
        return [
            {
                "object": one.object,
                "sample": one.sample,
                "frame": one.frame,
                "about": ", ".join(one.properties),
                "ours": _words(one.ours, one.properties),
                "theirs": " | ".join(_words(shape, one.properties) for shape in one.theirs) or "deleted",
            }
            for one in self.conflicts
        ]

    def summary(self) -> str:
        """One line."""
        count = len(self.conflicts)
        text = f"{count or 'no'} open conflict{'' if count == 1 else 's'} of '{self.key}'"
        return f"{self.settled} settled; {text}" if self.settled else text

    def view(self) -> Any:
        """The samples, as a FiftyOne view."""
        return self.dataset.load_saved_view(self.view_name) if self.view_name else self.dataset.select([])


def open_conflicts(dataset: fo.Dataset, key: str) -> ConflictReport:
    """The conflicts that the last pull left open; see :meth:`osv_lab.annotate.AnnotationLoop.conflicts`."""
    runs = Runs(dataset)
    run = runs.get(key)
    found = read_open(dataset, runs, run)
    view, theirs = _names(run.key, run.field) if found else (None, None)
    return ConflictReport(key, tuple(found), 0, view, theirs, dataset)


def remember(
    dataset: fo.Dataset,
    runs: Runs,
    run: Run,
    conflicts: Sequence[Conflict],
    looked_at: Scope,
    *,
    settled: bool,
) -> tuple[str | None, str | None]:
    """Keep the conflicts of a pull, and those of before where it did not look.

    Returns:
        The names of the saved view and of the field with the server's versions; ``None`` where nothing is open.
    """
    found = [one for one in read_open(dataset, runs, run) if not looked_at.holds(one.sample, one.frame)]
    for one in () if settled else conflicts:
        versions = [shape for shape in (one.theirs, *one.others) if isinstance(shape, Shape)]
        base, ours = (shape if isinstance(shape, Shape) else None for shape in (one.base, one.ours))
        found.append(OpenConflict(one.uid, one.sample, one.properties, base, ours, tuple(versions)))
    return keep_open(dataset, runs, run, found)


def keep_open(
    dataset: fo.Dataset, runs: Runs, run: Run, conflicts: Sequence[OpenConflict]
) -> tuple[str | None, str | None]:
    """Record what is open, and show it: a saved view, and the server's versions in a field of their own beside ours."""
    documents = {
        f"{one.sample} {one.object}": {
            "object": one.object,
            "sample": one.sample,
            "properties": list(one.properties),
            "base": shape_document(one.base) if one.base is not None else None,
            "theirs": [shape_document(shape) for shape in one.theirs],
        }
        for one in conflicts
    }
    view, theirs = _names(run.key, run.field)
    if not conflicts and not runs.documents(run.key, "conflicts"):
        return None, None
    if conflicts:
        runs.put_documents(run.key, "conflicts", documents)
    if dataset.has_saved_view(view):
        dataset.delete_saved_view(view)
    if not conflicts:
        forget_fields(dataset, (theirs, clips_field(view)))
        # Last: what is on record is ours to delete, and nothing else.
        runs.put_documents(run.key, "conflicts", documents)
        return None, None
    sizes = dict(zip(run.samples, run.sizes, strict=True))
    name = name_of(theirs)
    schema = LabelSchema(dataset, frames=is_of_frames(theirs))
    schema.declare(name, run.container)
    labels: dict[Place, list[Document]] = {}
    for one in conflicts:
        some = labels.setdefault((one.sample, one.frame), [])
        for shape in one.theirs:
            if shape.kind in HOLDS[run.container]:
                shape = replace(shape, uid=one.object)
                document = new_document(shape, sizes[one.sample])
                document.update(schema.fit(name, attributes_set(shape)))
                some.append(document)
    set_field(dataset, theirs, run.container, labels)
    shown = dataset.select(sorted({sample for sample, _ in labels}))
    if is_of_frames(theirs):
        mark_frames(dataset, clips_field(view), ranges_of(labels))
        shown = shown.to_clips(clips_field(view))
    dataset.save_view(view, shown)
    return view, theirs


def read_open(dataset: fo.Dataset, runs: Runs, run: Run) -> list[OpenConflict]:
    """What is on record, with ours as the dataset has it now; without that on samples that are gone."""
    documents = list(runs.documents(run.key, "conflicts").values())
    alive = known_samples(dataset, {one["sample"] for one in documents})
    documents = [one for one in documents if one["sample"] in alive]
    sizes = dict(zip(run.samples, run.sizes, strict=True))
    here = {
        (sample.id, shape.uid): shape
        for sample in read_samples(dataset, alive, run.field)
        for shape in shapes_of(sample, sizes[sample.id], run.owners.get(sample.id))
    }
    return [
        OpenConflict(
            one["object"],
            one["sample"],
            tuple(one["properties"]),
            shape_from(one["base"]) if one["base"] is not None else None,
            here.get((one["sample"], one["object"])),
            tuple(shape_from(shape) for shape in one["theirs"]),
        )
        for one in documents
    ]


def clips_field(view: str) -> str:
    """The field of a video's sample that says where on its frames the conflicts are."""
    return "".join(char if char.isalnum() else "_" for char in view)


def check_names(dataset: fo.Dataset, key: str, field: str) -> None:
    """That the saved view and the fields of a key's conflicts are nobody else's, which a pull would replace.

    Raises:
        UsageError: the dataset has one of that name, or the names are another run's too.
    """
    view, theirs = _names(key, field)
    others = {_names(other, field)[1] for other in Runs(dataset).names() if other != key}
    fields = [name for name in (theirs, clips_field(view)) if dataset.get_field(name) is not None]
    if fields or dataset.has_saved_view(view) or theirs in others:
        raise UsageError(
            "the key's names for conflicts are taken",
            f"'{view}', '{theirs}'",
            "choose another key, or rename those",
        )


def _names(key: str, field: str) -> tuple[str, str]:
    name = "".join(char if char.isalnum() else "_" for char in key)
    return f"{key}_conflicts", f"{FRAMES if is_of_frames(field) else ''}{name}_theirs"


def _words(shape: Shape | None, properties: Sequence[str]) -> str:
    if shape is None:
        return "deleted"
    values = values_of(shape)
    told = [shape.label]
    for name in properties:
        if name == "geometry":
            told.append("(" + ", ".join(f"{value:.1f}" for value in shape.points[:4]) + ")")
        elif name not in ("label", *EXISTENCE):
            told.append(f"{name.removeprefix('attributes.')} {values.get(name)}")
    return " ".join(told)
