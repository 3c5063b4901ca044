"""Sending images: one task, with its labels written job by job, several writes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.clips import Place
from osv_lab.annotate.codec import to_cvat, written_ids
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.pack import Package
from osv_lab.annotate.parallel import beside, in_parallel
from osv_lab.annotate.records import Run, Runs
from osv_lab.annotate.schema import Schema
from osv_lab.annotate.status import annotation_jobs
from osv_lab.annotate.upload import Named, size_of, upload_images
from osv_lab.core.errors import InvalidDataError, UnavailableError
from osv_lab.core.progress import Progress

if TYPE_CHECKING:
    import fiftyone as fo

Object = dict[str, Any]
"""A shape or a tag as CVAT describes it."""

Made = list[tuple[tuple[int, str | None], int]]
"""Frame and uid of objects, with the ids that the server gave them."""

MEDIA: Mapping[str, Any] = {"image_quality": 80, "use_cache": True}
"""How CVAT keeps media: what a browser shows is made when somebody looks, as CVAT's own page asks for it too."""
CHUNK = {"chunk_size": 8}
"""Images that CVAT makes and a browser loads together. By itself CVAT takes up to 72 and makes the first 72 at once for
a preview; with a few, whoever opens an image waits for a few."""
OBJECT = 80
"""An object costs a server about as much as so many coordinates."""
WRITE = 850 * OBJECT
"""Coordinates per write, with those for which objects count: few enough to stay well within the deadline of a call, and
so that several writes can be under way."""
AT_ONCE = 4
"""Writes under way: a server works on some while others are on the line or in its database."""


def send_images(
    cvat: Connection,
    runs: Runs,
    dataset: fo.Dataset,
    package: Package,
    schema: Schema,
    jobs: tuple[int, int],
    progress: Progress,
) -> tuple[Package, Sequence[Mapping[str, Any]]]:
    """Make the task, write the labels, and keep what both sides agree on now.

    Args:
        cvat: The server.
        runs: The runs of the dataset.
        dataset: The dataset.
        package: What is to be sent.
        schema: The labels as the server has them.
        jobs: Images per job, 0 for one job, and images that each shares with the one before.
        progress: Told about the upload and the labels.

    Returns:
        The package, which knows its task now, and the task's jobs.

    Raises:
        UnavailableError: the server lost an image or a label.
        InvalidDataError: it cannot use the images, or shows one in another size.
    """
    run = package.run
    body = {"name": run.task_name(dataset.name), "project_id": run.project}
    body |= {"segment_size": jobs[0], "overlap": jobs[1]}
    run = replace(run, task=int(cvat.call("POST", "/api/tasks", body=body)["id"]))
    runs.put(run)
    assert run.task is not None
    broken: dict[str, str] = {}
    size = sum(size_of(package.files[sample]) for sample in run.samples)
    upload = upload_images(cvat, run.task, _files(package, broken), size, {**MEDIA, **CHUNK}, progress)
    package = replace(package, run=run).without(broken)
    run = package.run
    runs.put(run)
    # While the server looks at the images, what does not need it.
    frames: dict[Place, int] = {(sample, 0): frame for frame, sample in enumerate(run.samples)}
    objects = to_cvat(package.shapes, frames, schema)
    runs.put_sent(run.key, package.shapes, run.samples)
    cvat.wait(upload)
    made = annotation_jobs(cvat, run)
    looked = beside(partial(_check, cvat, run, [_name(package, sample) for sample in run.samples]))
    _write(cvat, runs, run, package.shapes, objects, made, schema, progress)
    looked.result()
    return package, made


def _files(package: Package, broken: dict[str, str]) -> Iterator[Named]:
    """The images that can be read, with their names; what is wrong with the others is added to ``broken``."""
    for sample in package.run.samples:
        problem = package.looking.problem(sample) if package.looking is not None else None
        if problem is None:
            yield _name(package, sample), package.files[sample]
        else:
            broken[sample] = problem


def _name(package: Package, sample: str) -> str:
    """What an image is called in CVAT: by its sample, so that there are no two of one name."""
    return f"{sample}{package.files[sample].suffix.lower()}"


def _check(cvat: Connection, run: Run, names: Sequence[str]) -> None:
    """That the frames of the task are our images, in our order."""
    frames = cvat.get(f"/api/tasks/{run.task}/data/meta")["frames"]
    if [Path(frame["name"]).name for frame in frames] != names:
        raise UnavailableError(
            "the task does not have the images that were sent", f"task {run.task}", "send again"
        )
    for sample, size, frame in zip(run.samples, run.sizes, frames, strict=True):
        if (frame["width"], frame["height"]) != size:
            raise InvalidDataError(
                "CVAT shows an image in another size than the dataset says",
                f"sample {sample}: {frame['width']}x{frame['height']}, not {size[0]}x{size[1]}",
                "compute the dataset's metadata anew",
            )


@dataclass(frozen=True, slots=True)
class _Part:
    """What one write has: a job's frames from one to another, and the objects on them."""

    job: int
    frames: range
    objects: Object

    @property
    def count(self) -> int:
        """How many objects it has."""
        return len(self.objects["shapes"]) + len(self.objects["tags"])


def _write(
    cvat: Connection,
    runs: Runs,
    run: Run,
    shapes: Sequence[Shape],
    objects: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    schema: Schema,
    progress: Progress,
) -> None:
    """Write shapes and tags; of each part, as it is there, what both sides agree on now is kept."""

    def write(part: _Part) -> Made:
        if not part.count:
            return []
        # What was written, with the database's ids; a second look would cost as much as a pull.
        answer = cvat.call("PATCH", f"/api/jobs/{part.job}/annotations", {"action": "create"}, part.objects)
        return list(written_ids(answer, schema))

    on: dict[str, list[Shape]] = {}
    for shape in shapes:
        on.setdefault(shape.sample, []).append(shape)
    parts = list(_parts(objects, jobs))
    if {frame for part in parts for frame in part.frames} != set(range(len(run.samples))):
        raise UnavailableError("the jobs do not have the images that were sent", f"task {run.task}", "send again")
    count = sum(part.count for part in parts)
    done = 0
    kept: set[int] = set()
    for part, made in zip(parts, in_parallel([partial(write, part) for part in parts], AT_ONCE), strict=True):
        ids = dict(made)
        # Of an object in two jobs the first one's is taken for it.
        frames = [frame for frame in part.frames if frame not in kept]
        kept.update(frames)
        there = [
            replace(shape, server_id=ids.get((frame, shape.uid)))
            for frame in frames
            for shape in on.get(run.samples[frame], ())
        ]
        lost = max(part.count - len(made), sum(shape.server_id is None for shape in there))
        if lost:
            raise UnavailableError(
                "the server does not have the labels that were sent",
                f"{lost} of {part.count} on frames {part.frames[0]} to {part.frames[-1]} are missing",
                "send again",
            )
        runs.put_base(run.key, there, [run.samples[frame] for frame in frames])
        done += part.count
        progress("labels", done, count)


def _parts(objects: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> Iterator[_Part]:
    """All frames of all jobs; objects on images that jobs share go to each of them."""
    on: dict[int, list[tuple[str, Object]]] = {}
    for kind in ("shapes", "tags"):
        for one in objects[kind]:
            on.setdefault(one["frame"], []).append((kind, one))
    for job in jobs:
        first, last = job["start_frame"], job["stop_frame"]
        part: Object = {"version": 0, "shapes": [], "tags": [], "tracks": []}
        size = 0
        for frame in range(first, last + 1):
            for kind, one in on.get(frame, ()):
                part[kind].append(one)
                size += OBJECT + len(one.get("points", ()))
            if size >= WRITE or frame == last:
                yield _Part(job["id"], range(first, frame + 1), part)
                part = {**part, "shapes": [], "tags": []}
                first, size = frame + 1, 0
