"""What is to be sent, checked as far as it can be here: images that can be read, labels that CVAT can hold.

Images are still being looked at when a package is made, since that takes long: those that turn out to be broken are
taken out again before the server is told which images there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.clips import Clip
from osv_lab.annotate.codec import normal
from osv_lab.annotate.documents import UnsendableError, shape_of
from osv_lab.annotate.looking import Looking
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.records import Run
from osv_lab.annotate.schema import attribute_types, sendable_name
from osv_lab.annotate.tracks import changes_along
from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.store.annotation_store import Labelled, container_of, read_labelled
from osv_lab.store.documents import MADE_BY

if TYPE_CHECKING:
    import fiftyone as fo


@dataclass(frozen=True, slots=True)
class Package:
    """What is to be sent: media with their labels.

    Attributes:
        run: The run, with what is known of it so far.
        files: The media file of each sample.
        shapes: The labels.
        choices: The values of attributes with a closed set of them.
        moving: The attributes that change along a track.
        problems: What is not sent, and why.
        looking: The look at the images, where it is not over.
    """

    run: Run
    files: Mapping[str, Path]
    shapes: tuple[Shape, ...]
    choices: Mapping[str, Sequence[str]]
    moving: frozenset[str]
    problems: tuple[str, ...]
    looking: Looking | None = None

    def looked(self) -> Package:
        """The package when all images were looked at: without the broken ones."""
        if self.looking is None:
            return self
        problems = {sample: self.looking.problem(sample) for sample in self.run.samples}
        return self.without({sample: problem for sample, problem in problems.items() if problem})

    def without(self, broken: Mapping[str, str]) -> Package:
        """The package without some samples, with what is wrong with each."""
        if not broken:
            return replace(self, looking=None)
        left = {
            sample: size
            for sample, size in zip(self.run.samples, self.run.sizes, strict=True)
            if sample not in broken
        }
        return replace(
            self,
            run=replace(self.run, samples=tuple(left), sizes=tuple(left.values())),
            shapes=tuple(shape for shape in self.shapes if shape.sample in left),
            problems=(*(_broken(sample, problem) for sample, problem in broken.items()), *self.problems),
            looking=None,
        )

    def close(self) -> None:
        """End the look at the images."""
        if self.looking is not None:
            self.looking.close()


def pack(
    view: Any,
    key: str,
    label_field: str,
    classes: Sequence[str] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
) -> Package:
    """Images that are to be sent, checked as far as it can be here; makes nothing.

    Raises:
        NotFoundError: no such field, or no sample that could be sent.
        UsageError: something else than images, or a class that CVAT cannot have.
    """
    if view.media_type != "image":
        raise UsageError(
            "these samples cannot be sent", f"the view holds {view.media_type}", "send images or videos"
        )
    container_of(view._dataset, label_field)
    every = read_labelled(view, label_field)
    looking = Looking(every)
    try:
        if all(looking.problem(sample.id) for sample in every):
            first = _broken(every[0].id, looking.problem(every[0].id) or "") if every else ""
            raise NotFoundError("no sample to send", f"{len(every)} in the view", first)
        # The size of an image that the dataset knows nothing of is waited for.
        found = {sample.id: sample.size or looking.size(sample.id) for sample in every}
        sizes = {sample: size for sample, size in found.items() if size is not None}
        problems = [_broken(sample, looking.problem(sample) or "") for sample in found if sample not in sizes]
        samples = [sample for sample in every if sample.id in sizes]
        files = {sample.id: Path(sample.filepath) for sample in samples}
        package = package_of(view._dataset, key, label_field, samples, sizes, files, classes, attributes, problems)
    except BaseException:
        looking.close()
        raise
    return replace(package, looking=looking)


def package_of(
    dataset: fo.Dataset,
    key: str,
    label_field: str,
    labelled: Sequence[Labelled],
    sizes: Mapping[str, tuple[int, int]],
    files: Mapping[str, Path],
    classes: Sequence[str] | None,
    attributes: Mapping[str, Sequence[str]] | None,
    problems: list[str],
    clips: Sequence[Clip] = (),
) -> Package:
    """Labels as shapes, and the run that they are sent in.

    Args:
        dataset: The dataset.
        key: The name of the run.
        label_field: The label field.
        labelled: Samples or frames with their labels.
        sizes: Width and height in pixels of each sample, in their order.
        files: The media file of each sample.
        classes: Only labels of these; by default of all.
        attributes: The values of attributes with a closed set of them.
        problems: What is not sent is added to it.
        clips: The clips that the samples are in; none for images.
    """
    for name in classes or ():
        if not sendable_name(name):
            raise UsageError("CVAT cannot have a label of that name", repr(name))
    owners = {sample: clip.name for clip in clips for sample in clip.samples}
    shapes = []
    for sample in labelled:
        made_by = (sample.container or {}).get(MADE_BY)
        where = f"sample {sample.id}" + (f" frame {sample.frame}" if sample.frame else "")
        for document in sample.labels:
            try:
                shape = shape_of(
                    document, sample.id, sizes[sample.id], made_by, sample.frame, owners.get(sample.id)
                )
            except UnsendableError as error:
                problems.append(f"label {document['_id']} of {where}: {error}")
                continue
            if classes is not None and shape.label not in classes:
                continue
            if not sendable_name(shape.label):
                problems.append(f"label {shape.uid} of {where}: class name {shape.label!r}")
                continue
            shapes.append(shape)
    marks = _marks(dataset)
    types = {name: kind for name, kind in attribute_types(shapes).items() if name not in marks}
    types |= dict.fromkeys(attributes or (), "str")
    found = (
        classes if classes is not None else sorted({*_declared(dataset, label_field), *(s.label for s in shapes)})
    )
    if not found:
        raise UsageError("there is no class to label", f"'{label_field}' is empty", "name them with classes=")
    run = Run(
        key,
        "",
        "sending",
        "",
        "",
        label_field,
        container_of(dataset, label_field),
        samples=tuple(sizes),
        sizes=tuple(sizes.values()),
        classes=tuple(dict.fromkeys(found)),
        chosen=classes is not None,
        types=types,
        made_by=next((m for s in labelled if (m := (s.container or {}).get(MADE_BY))), None),
        clips=tuple(clips),
    )
    shapes = [normal(shape, types) for shape in shapes]
    return Package(run, files, tuple(shapes), attributes or {}, frozenset(changes_along(shapes)), tuple(problems))


def readable(every: Sequence[Labelled], problems: list[str]) -> list[Labelled]:
    """The samples whose image can be decoded to its end, with their sizes; the others are added to ``problems``."""
    found = []
    with Looking(every) as looking:
        for sample in every:
            problem = looking.problem(sample.id)
            if problem is None:
                found.append(replace(sample, size=sample.size or looking.size(sample.id)))
            else:
                problems.append(_broken(sample.id, problem))
    return found


def _broken(sample: str, problem: str) -> str:
    return f"sample {sample}: {problem}"


def _declared(dataset: fo.Dataset, field: str) -> Sequence[str]:
    return [name for name in dataset.classes.get(field) or dataset.default_classes or () if sendable_name(name)]


def _marks(dataset: fo.Dataset) -> set[str]:
    """What evaluations write on labels: results, not something the labels say."""
    runs = [*dataset.list_evaluations(), *dataset.list_runs()]
    return {f"{key}{end}" for key in runs for end in ("", "_iou", "_id", "_index")}
