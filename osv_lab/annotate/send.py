"""Sending samples with their labels to CVAT: all of it, or nothing.

A record is written before the first call that makes something on the server, and the task's name carries the record's
random uid. So whatever happens, to the server or to this process, the same command finds what was left and ends with
one task: a half-made task cannot be continued in CVAT, it is deleted and made anew.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.codec import from_cvat, normal, to_cvat
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.documents import UnsendableError, shape_of
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.records import Run, Runs
from osv_lab.annotate.schema import Schema, attribute_types, reconcile, sendable_name, wanted_labels
from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UnavailableError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.store.annotation_store import Labelled, container_of, read_labelled
from osv_lab.store.documents import MADE_BY

if TYPE_CHECKING:
    import fiftyone as fo

_ORIENTATION = 0x0112
"""The EXIF tag; from 5 on, width and height change places."""

WRITE = 5000
"""Objects per write, so that each stays well within the deadline of a call."""


@dataclass(frozen=True)
class AnnotationTask(Report):
    """What was sent.

    Attributes:
        key: The name to ask for status and to pull by.
        task: CVAT's id of the task.
        address: Where a person opens it.
        samples: How many samples it has.
        objects: How many labels went with them.
        labels: The classes that annotators can choose from.
        jobs: How many jobs it has.
        problems: Samples and labels that were not sent, and why.
    """

    key: str
    task: int
    address: str
    samples: int
    objects: int
    labels: tuple[str, ...]
    jobs: int
    problems: tuple[str, ...] = ()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row."""
        return [
            {
                "key": self.key,
                "task": self.task,
                "samples": self.samples,
                "objects": self.objects,
                "jobs": self.jobs,
                "problems": len(self.problems),
                "address": self.address,
            }
        ]

    def summary(self) -> str:
        """One line."""
        text = f"{self.samples} samples with {self.objects} labels are at {self.address}"
        return f"{text}; not sent: {len(self.problems)}, first {self.problems[0]}" if self.problems else text


@dataclass(frozen=True, slots=True)
class Package:
    """What is to be sent: samples that can be read, with their shapes."""

    run: Run
    files: Mapping[str, Path]
    shapes: tuple[Shape, ...]
    choices: Mapping[str, Sequence[str]]
    problems: tuple[str, ...]


def send(
    cvat: Connection,
    view: Any,
    key: str,
    label_field: str,
    classes: Sequence[str] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
    *,
    project: str | None = None,
    assignees: Sequence[str] = (),
    segment_size: int | None = None,
    progress: Progress = silent,
) -> AnnotationTask:
    """Send samples and what a label field says of them; see :meth:`osv_lab.annotate.AnnotationLoop.send`."""
    dataset = view._dataset
    if not key or key != key.strip():
        raise UsageError("a key needs a name", repr(key))
    if segment_size is not None and segment_size < 1:
        raise UsageError("segment_size is the number of images per job", repr(segment_size))
    runs = Runs(dataset)
    with runs.alone(key):
        package = pack(view, key, label_field, classes, attributes)
        before = runs.find(key)
        if before is not None and before.phase == "sent":
            return _as_before(cvat, before, package)
        people = [user_id(cvat, name) for name in assignees]
        if before is not None:
            remove_tasks(cvat, before)
            runs.remove(key)
        uid = secrets.token_hex(12)
        run = replace(package.run, uid=uid, url=cvat.settings.url, organization=cvat.settings.organization)
        package = replace(package, run=run)
        runs.put(run)
        try:
            return _send(
                cvat, runs, dataset, package, project or dataset.name, people, segment_size or 0, progress
            )
        except BaseException:
            # If the server cannot be reached the record stays, and the next send or cancel finds the task by its uid.
            with contextlib.suppress(OsvError):
                remove_tasks(cvat, run)
                runs.remove(key)
            raise


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


def remove_tasks(cvat: Connection, run: Run) -> int:
    """Delete the tasks of a run, found by its uid; how many there were."""
    found = [
        one["id"]
        for one in cvat.pages("/api/tasks", {"search": run.uid})
        if one["name"].endswith(f"[osv:{run.uid}]")
    ]
    for task in found:
        with contextlib.suppress(NotFoundError):
            cvat.call("DELETE", f"/api/tasks/{task}")
    return len(found)


def user_id(cvat: Connection, name: str) -> int:
    """CVAT's id of a user.

    Raises:
        NotFoundError: no such user, as far as we may see.
    """
    for one in cvat.pages("/api/users", {"search": name}):
        if one["username"] == name:
            return int(one["id"])
    raise NotFoundError("no such user on the CVAT server", repr(name), "invite them, or check the organisation")


def _send(
    cvat: Connection,
    runs: Runs,
    dataset: fo.Dataset,
    package: Package,
    project: str,
    people: Sequence[int],
    segment_size: int,
    progress: Progress,
) -> AnnotationTask:
    run = package.run
    number = _project(cvat, project)
    labels = wanted_labels(run.classes, run.types, package.choices)
    schema = reconcile(cvat, number, labels)
    run = replace(run, project=number)
    task = _task(cvat, runs, dataset, replace(package, run=run), segment_size, progress)
    package = replace(package, run=replace(run, task=task))
    runs.put(package.run)
    shapes = _write(cvat, package, schema, progress)
    jobs = _assign(cvat, task, people)
    runs.put_base(run.key, shapes, run.samples)
    runs.put(replace(package.run, phase="sent"))
    return _report(cvat, package, task, jobs)


def _project(cvat: Connection, name: str) -> int:
    found = [one["id"] for one in cvat.pages("/api/projects", {"name": name}) if one["name"] == name]
    if found:
        return int(min(found))
    return int(cvat.call("POST", "/api/projects", body={"name": name, "labels": []})["id"])


def _task(
    cvat: Connection, runs: Runs, dataset: fo.Dataset, package: Package, segment_size: int, progress: Progress
) -> int:
    """Make the task with its images; its frames are verified to be ours, in our order."""
    run = package.run
    body = {"name": run.task_name(dataset.name), "project_id": run.project, "segment_size": segment_size}
    task = int(cvat.call("POST", "/api/tasks", body=body)["id"])
    runs.put(replace(run, task=task))
    with _named_files(package) as files:
        cvat.upload(task, files, {"sorting_method": "predefined", "image_quality": 80}, progress)
        names = [file.name for file in files]
    frames = cvat.get(f"/api/tasks/{task}/data/meta")["frames"]
    if [Path(frame["name"]).name for frame in frames] != names:
        raise UnavailableError("the task does not have the images that were sent", f"task {task}", "send again")
    for sample, size, frame in zip(run.samples, run.sizes, frames, strict=True):
        if (frame["width"], frame["height"]) != size:
            raise InvalidDataError(
                "CVAT shows an image in another size than the dataset says",
                f"sample {sample}: {frame['width']}x{frame['height']}, not {size[0]}x{size[1]}",
                "compute the dataset's metadata anew",
            )
    return task


def _write(cvat: Connection, package: Package, schema: Schema, progress: Progress) -> list[Shape]:
    """Write the shapes, read them back, and return them with CVAT's ids."""
    run = package.run
    frames = {sample: frame for frame, sample in enumerate(run.samples)}
    path = f"/api/tasks/{run.task}/annotations"
    for start in range(0, len(package.shapes), WRITE):
        progress("labels", start, len(package.shapes))
        body = to_cvat(package.shapes[start : start + WRITE], frames, schema)
        cvat.call("PATCH", path, {"action": "create"}, body)
    progress("labels", len(package.shapes), len(package.shapes))
    there, _ = from_cvat(cvat.get(path), run.samples, schema, run.types)
    ids = {(shape.sample, shape.uid): shape.server_id for shape in there}
    missing = [shape for shape in package.shapes if (shape.sample, shape.uid) not in ids]
    if missing or len(there) != len(package.shapes):
        raise UnavailableError(
            "the server does not have the labels that were sent",
            f"{len(there)} of {len(package.shapes)} are there",
            "send again",
        )
    return [replace(shape, server_id=ids[shape.sample, shape.uid]) for shape in package.shapes]


def _assign(cvat: Connection, task: int, people: Sequence[int]) -> int:
    """Give the jobs to people, in turn; how many jobs there are."""
    jobs = [one for one in cvat.pages("/api/jobs", {"task_id": task}) if one["type"] == "annotation"]
    jobs.sort(key=lambda job: job["start_frame"])
    for number, job in enumerate(jobs):
        if people:
            cvat.call("PATCH", f"/api/jobs/{job['id']}", body={"assignee": people[number % len(people)]})
    return len(jobs)


def _as_before(cvat: Connection, run: Run, package: Package) -> AnnotationTask:
    """A send repeated that was done already."""
    if (run.samples, run.field) != (package.run.samples, package.run.field) or run.url != cvat.settings.url:
        raise UsageError(
            "the key is in use", f"'{run.key}' is task {run.task}", "choose another key, or cancel it first"
        )
    task = cvat.get(f"/api/tasks/{run.task}")
    return _report(cvat, replace(package, run=run), run.task or 0, int(task["jobs"]["count"]))


def _report(cvat: Connection, package: Package, task: int, jobs: int) -> AnnotationTask:
    run = package.run
    return AnnotationTask(
        run.key,
        task,
        f"{cvat.settings.url}/tasks/{task}",
        len(run.samples),
        len(package.shapes),
        run.classes,
        jobs,
        package.problems,
    )


@contextlib.contextmanager
def _named_files(package: Package) -> Iterator[list[Path]]:
    """The images under names that say which sample each is: hard links where the disk can, else copies."""
    home = load_settings().home
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="send-", dir=home) as folder:
        named = []
        for sample in package.run.samples:
            source = package.files[sample].resolve()
            target = Path(folder, f"{sample}{source.suffix.lower()}")
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
            named.append(target)
        yield named


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
