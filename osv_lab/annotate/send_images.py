"""Sending images: one task, with its labels written job by job, several writes at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.clips import Place
from osv_lab.annotate.codec import from_cvat, to_cvat
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.files import named_files
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.pack import Package
from osv_lab.annotate.records import Runs
from osv_lab.annotate.schema import Schema
from osv_lab.annotate.status import annotation_jobs
from osv_lab.core.errors import InvalidDataError, UnavailableError
from osv_lab.core.progress import Progress

if TYPE_CHECKING:
    import fiftyone as fo

MEDIA: Mapping[str, Any] = {"image_quality": 80, "use_cache": True}
"""How CVAT keeps media: what a browser shows is made when somebody looks, as CVAT's own page asks for it too."""
WRITE = 1250
"""Objects per write, so that each stays well within the deadline of a call, and several can be under way."""
AT_ONCE = 2
"""Writes under way: a server works on some while others are on the line or in its database."""


def send_images(
    cvat: Connection,
    runs: Runs,
    dataset: fo.Dataset,
    package: Package,
    schema: Schema,
    jobs: tuple[int, int],
    progress: Progress,
) -> Package:
    """Make the task, write the labels, and keep what both sides agree on now.

    Args:
        cvat: The server.
        runs: The runs of the dataset.
        dataset: The dataset.
        package: What is to be sent.
        schema: The labels as the server has them.
        jobs: Images per job, 0 for one job, and images that each shares with the one before.
        progress: Told about the upload and the labels.

    Raises:
        UnavailableError: the server lost an image or a label.
        InvalidDataError: it cannot use the images, or shows one in another size.
    """
    run = package.run
    run = replace(run, task=_task(cvat, runs, dataset, package, jobs, progress))
    runs.put(run)
    shapes = _write(cvat, replace(package, run=run), schema, progress)
    runs.put_base(run.key, shapes, run.samples)
    runs.put_sent(run.key, shapes, run.samples)
    return replace(package, run=run)


def _task(
    cvat: Connection, runs: Runs, dataset: fo.Dataset, package: Package, jobs: tuple[int, int], progress: Progress
) -> int:
    """Make the task with its images; its frames are verified to be ours, in our order."""
    run = package.run
    body = {"name": run.task_name(dataset.name), "project_id": run.project}
    body |= {"segment_size": jobs[0], "overlap": jobs[1]}
    task = int(cvat.call("POST", "/api/tasks", body=body)["id"])
    runs.put(replace(run, task=task))
    with named_files(run.samples, package.files) as files:
        cvat.upload(task, files, {**MEDIA, "sorting_method": "predefined"}, progress)
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
    """Write the shapes, and return them with the ids that the server says it gave them."""
    run = package.run
    frames: dict[Place, int] = {(sample, 0): frame for frame, sample in enumerate(run.samples)}
    parts = list(_parts(package.shapes, frames, annotation_jobs(cvat, run)))
    count, done = sum(len(part) for _, part in parts), 0
    ids: dict[tuple[str, str | None], int | None] = {}

    def write(job: int, part: Sequence[Shape]) -> list[Shape]:
        body = to_cvat(part, frames, schema)
        answer = cvat.call("PATCH", f"/api/jobs/{job}/annotations", {"action": "create"}, body)
        # What was written, read from the database's ids; a second look would cost as much as a pull.
        return from_cvat(answer, run.samples, schema, run.types, job)[0]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        writes = [pool.submit(write, job, part) for job, part in parts]
        try:
            for one in writes:
                there = one.result()
                done += len(there)
                progress("labels", done, count)
                for shape in there:
                    # Of an object in two jobs the first one's is taken for it.
                    ids.setdefault((shape.sample, shape.uid), shape.server_id)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    missing = [shape for shape in package.shapes if ids.get((shape.sample, shape.uid)) is None]
    if missing or done != count:
        raise UnavailableError(
            "the server does not have the labels that were sent", f"{done} of {count} are there", "send again"
        )
    return [replace(shape, server_id=ids[shape.sample, shape.uid]) for shape in package.shapes]


def _parts(
    shapes: Sequence[Shape], frames: Mapping[Place, int], jobs: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[int, list[Shape]]]:
    """The shapes of each write, with its job; those on images that jobs share go to each of them."""
    for job in jobs:
        mine = [one for one in shapes if job["start_frame"] <= frames[one.sample, one.frame] <= job["stop_frame"]]
        for start in range(0, len(mine), WRITE):
            yield job["id"], mine[start : start + WRITE]
