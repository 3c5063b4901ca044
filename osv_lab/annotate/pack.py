"""What is to be sent, checked as far as it can be here: images that can be read, labels that CVAT can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.codec import normal
from osv_lab.annotate.documents import UnsendableError, shape_of
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.records import Run
from osv_lab.annotate.schema import attribute_types, sendable_name
from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.store.annotation_store import Labelled, container_of, read_labelled
from osv_lab.store.documents import MADE_BY

if TYPE_CHECKING:
    import fiftyone as fo

_ORIENTATION = 0x0112
"""The EXIF tag; from 5 on, width and height change places."""


@dataclass(frozen=True, slots=True)
class Package:
    """What is to be sent: samples that can be read, with their shapes."""

    run: Run
    files: Mapping[str, Path]
    shapes: tuple[Shape, ...]
    choices: Mapping[str, Sequence[str]]
    problems: tuple[str, ...]


def pack(
    view: Any,
    key: str,
    label_field: str,
    classes: Sequence[str] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
) -> Package:
    """What is to be sent, checked as far as it can be here; makes nothing.

    Raises:
        NotFoundError: no such field, or no sample that could be sent.
        UsageError: videos, or a class that CVAT cannot have.
    """
    dataset = view._dataset
    if view.media_type != "image":
        raise UsageError("only images can be sent", f"the view holds {view.media_type}", "send frames as images")
    container = container_of(dataset, label_field)
    for name in classes or ():
        if not sendable_name(name):
            raise UsageError("CVAT cannot have a label of that name", repr(name))
    every = read_labelled(view, label_field)
    problems: list[str] = []
    samples = _readable(every, problems)
    if not samples:
        raise NotFoundError("no sample to send", f"{len(every)} in the view", problems[0] if problems else "")
    shapes = []
    for sample in samples:
        made_by = (sample.container or {}).get(MADE_BY)
        for document in sample.labels:
            try:
                shape = shape_of(document, sample.id, sample.size or (1, 1), made_by)
            except UnsendableError as error:
                problems.append(f"label {document['_id']} of sample {sample.id}: {error}")
                continue
            if classes is not None and shape.label not in classes:
                continue
            if not sendable_name(shape.label):
                problems.append(f"label {shape.uid} of sample {sample.id}: class name {shape.label!r}")
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
        container,
        samples=tuple(sample.id for sample in samples),
        sizes=tuple(sample.size or (0, 0) for sample in samples),
        classes=tuple(dict.fromkeys(found)),
        chosen=classes is not None,
        types=types,
        made_by=next((m for s in samples if (m := (s.container or {}).get(MADE_BY))), None),
    )
    files = {sample.id: Path(sample.filepath) for sample in samples}
    return Package(run, files, tuple(normal(s, types) for s in shapes), attributes or {}, tuple(problems))


def _readable(every: Sequence[Labelled], problems: list[str]) -> list[Labelled]:
    """The samples whose image can be decoded to its end, with their sizes; CVAT itself looks at the header only."""
    with ThreadPoolExecutor() as pool:
        looked = list(pool.map(_look_at, every))
    found = []
    for sample, size in zip(every, looked, strict=True):
        if isinstance(size, str):
            problems.append(f"sample {sample.id}: {Path(sample.filepath).name}: {size}")
        else:
            found.append(replace(sample, size=sample.size or size))
    return found


def _look_at(sample: Labelled) -> tuple[int, int] | str:
    """Width and height in pixels as displayed, or what is wrong with the file."""
    from PIL import Image

    path = Path(sample.filepath)
    if not path.is_file():
        return "there is no such file"
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
            # A JPEG is decoded small, which is faster and still reads all of it.
            image.draft(image.mode, (width // 8, height // 8))
            image.load()
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        return f"it cannot be read ({type(error).__name__})"
    return (height, width) if turned else (width, height)


def _declared(dataset: fo.Dataset, field: str) -> Sequence[str]:
    return [name for name in dataset.classes.get(field) or dataset.default_classes or () if sendable_name(name)]


def _marks(dataset: fo.Dataset) -> set[str]:
    """What evaluations write on labels: results, not something the labels say."""
    runs = [*dataset.list_evaluations(), *dataset.list_runs()]
    return {f"{key}{end}" for key in runs for end in ("", "_iou", "_id", "_index")}
