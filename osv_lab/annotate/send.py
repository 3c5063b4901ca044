"""Sending samples with their labels to CVAT: all of it, or nothing.

A record is written before the first call that makes something on the server, and the task's name carries the record's
random uid. So whatever happens, to the server or to this process, the same command finds what was left and ends with
one task: a half-made task cannot be continued in CVAT, it is deleted and made anew.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.conflicts import check_names, keep_open
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.keyframes import TOLERANCE
from osv_lab.annotate.pack import Package, pack
from osv_lab.annotate.pack_clips import Windows, is_of_clips, pack_clips
from osv_lab.annotate.parallel import beside
from osv_lab.annotate.records import Run, Runs
from osv_lab.annotate.schema import reconcile, wanted_labels
from osv_lab.annotate.send_clips import send_clips
from osv_lab.annotate.send_images import send_images
from osv_lab.annotate.status import annotation_jobs, check_server
from osv_lab.annotate.workflow import check_done, user_id
from osv_lab.core.errors import NotFoundError, OsvError, UnavailableError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report

if TYPE_CHECKING:
    import fiftyone as fo


@dataclass(frozen=True)
class AnnotationTask(Report):
    """What was sent.

    Attributes:
        key: The name to ask for status and to pull by.
        task: CVAT's id of the task, the first one if there are several.
        address: Where a person opens it.
        samples: How many samples it has.
        objects: How many labels went with them.
        labels: The classes that annotators can choose from.
        jobs: How many jobs it has.
        problems: Samples and labels that were not sent, and why.
        tasks: The ids of all tasks: of images there is one, of videos and sequences one for each.
    """

    key: str
    task: int
    address: str
    samples: int
    objects: int
    labels: tuple[str, ...]
    jobs: int
    problems: tuple[str, ...] = ()
    tasks: tuple[int, ...] = ()

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


def send(
    connect: Callable[[], Connection],
    view: Any,
    key: str,
    label_field: str,
    classes: Sequence[str] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
    *,
    project: str | None = None,
    assignees: Sequence[str] = (),
    reviewers: Sequence[str] = (),
    segment_size: int | None = None,
    overlap: int = 0,
    done: str = "completed",
    windows: Windows | None = None,
    frame_step: int = 1,
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> AnnotationTask:
    """Send samples and what a label field says of them; see :meth:`osv_lab.annotate.AnnotationLoop.send`."""
    dataset = view._root_dataset
    if not key or key != key.strip():
        raise UsageError("a key needs a name", repr(key))
    if segment_size is not None and segment_size < 1:
        raise UsageError("segment_size is the number of images per job", repr(segment_size))
    if overlap and not (segment_size and 0 < overlap <= segment_size // 2):
        raise UsageError(
            "overlap is the number of images that two jobs share", repr(overlap), "at most half of segment_size"
        )
    check_done(done)
    runs = Runs(dataset)
    with runs.alone(key), contextlib.ExitStack() as stack:
        # What is to be sent is put together while the server is reached.
        connection = beside(connect)
        if is_of_clips(view, label_field):
            if overlap:
                raise UsageError("jobs of clips share no frames", f"overlap={overlap}", "leave it out")
            package = pack_clips(view, key, label_field, classes, attributes, windows, frame_step)
        elif windows is not None or frame_step != 1:
            raise UsageError("windows and frame_step are for videos and sequences", f"a view of {view.media_type}")
        else:
            package = pack(view, key, label_field, classes, attributes)
        stack.callback(package.close)
        cvat = connection.result()
        before = runs.find(key)
        if before is not None and before.phase == "sent":
            return _as_before(cvat, before, package.looked())
        if before is None:
            check_names(dataset, key, label_field)
        else:
            # What it left is on that server; elsewhere the same number is somebody else's project.
            check_server(cvat, before)
        people = [user_id(cvat, name) for name in assignees]
        for name in reviewers:
            user_id(cvat, name)
        if before is not None:
            remove_tasks(cvat, before)
            remove_project(cvat, before)
            runs.remove(key)
        uid = secrets.token_hex(12)
        run = replace(package.run, uid=uid, url=cvat.settings.url, organization=cvat.settings.organization)
        run = replace(run, done=done, reviewers=tuple(reviewers))
        package = replace(package, run=run)
        runs.put(run)
        try:
            return _send(
                cvat,
                runs,
                dataset,
                package,
                project or dataset.name,
                people,
                (segment_size or 0, overlap),
                tolerance,
                progress,
            )
        except BaseException as error:
            known = runs.find(key)
            unanswered = isinstance(error, UnavailableError) or not isinstance(error, OsvError)
            if unanswered and known is not None and known.task is None:
                # The server may yet make the task that it did not answer for, or whose answer we did not wait for: the
                # record stays, and whoever sends or cancels next finds the task by its uid.
                raise
            # Likewise where the server cannot be reached for this.
            with contextlib.suppress(OsvError):
                remove_tasks(cvat, run)
                remove_project(cvat, known or run)
                runs.remove(key)
            raise


def cancel(cvat: Connection, dataset: fo.Dataset, key: str) -> None:
    """Delete the tasks of a run and forget it; see :meth:`osv_lab.annotate.AnnotationLoop.cancel`."""
    runs = Runs(dataset)
    with runs.alone(key):
        run = runs.get(key)
        check_server(cvat, run)
        runs.put(replace(run, phase="cancelling"))
        remove_tasks(cvat, run)
        if run.phase == "sending":
            remove_project(cvat, run)
        keep_open(dataset, runs, run, ())
        runs.remove(key)


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


def remove_project(cvat: Connection, run: Run) -> None:
    """Delete the project that a send made before it failed, if it is still empty."""
    if run.made_project and not any(cvat.pages("/api/tasks", {"project_id": run.project})):
        with contextlib.suppress(NotFoundError):
            cvat.call("DELETE", f"/api/projects/{run.project}")


def _send(
    cvat: Connection,
    runs: Runs,
    dataset: fo.Dataset,
    package: Package,
    project: str,
    people: Sequence[int],
    jobs: tuple[int, int],
    tolerance: float,
    progress: Progress,
) -> AnnotationTask:
    run = package.run
    number, made = _project(cvat, project)
    run = replace(run, project=number, made_project=made)
    runs.put(run)
    labels = wanted_labels(run.classes, run.types, package.choices, package.moving)
    schema = reconcile(cvat, number, labels)
    package = replace(package, run=run)
    if run.clips:
        package, found = send_clips(cvat, runs, dataset, package, schema, jobs[0], tolerance, progress)
    else:
        package, found = send_images(cvat, runs, dataset, package, schema, jobs, progress)
    _assign(cvat, found, people)
    runs.put(replace(package.run, phase="sent"))
    return _report(cvat, package, len(found))


def _project(cvat: Connection, name: str) -> tuple[int, bool]:
    """CVAT's id of the project, and whether it was made now."""
    found = [one["id"] for one in cvat.pages("/api/projects", {"name": name}) if one["name"] == name]
    if found:
        return int(min(found)), False
    return int(cvat.call("POST", "/api/projects", body={"name": name, "labels": []})["id"]), True


def _assign(cvat: Connection, jobs: Sequence[Mapping[str, Any]], people: Sequence[int]) -> None:
    """Give the jobs to people, in turn."""
    for number, job in enumerate(jobs):
        if people:
            cvat.call("PATCH", f"/api/jobs/{job['id']}", body={"assignee": people[number % len(people)]})


def _as_before(cvat: Connection, run: Run, package: Package) -> AnnotationTask:
    """A send repeated that was done already."""
    same = all(getattr(run, name) == getattr(package.run, name) for name in ("samples", "field"))
    same = same and [clip.places() for clip in run.clips] == [clip.places() for clip in package.run.clips]
    if not same or run.url != cvat.settings.url:
        raise UsageError(
            "the key is in use", f"'{run.key}' is task {run.task}", "choose another key, or cancel it first"
        )
    return _report(cvat, replace(package, run=run), len(annotation_jobs(cvat, run)))


def _report(cvat: Connection, package: Package, jobs: int) -> AnnotationTask:
    run = package.run
    where = f"tasks/{run.task}" if len(run.tasks) == 1 else f"projects/{run.project}"
    return AnnotationTask(
        run.key,
        run.task or 0,
        f"{cvat.settings.url}/{where}",
        len(run.samples),
        len(package.shapes),
        run.classes,
        jobs,
        package.problems,
        run.tasks,
    )
