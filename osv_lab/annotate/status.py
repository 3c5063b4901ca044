"""How far the annotators are, cheaply: the objects are read only where the server says that something changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from osv_lab.annotate.changes import Scope, key_of
from osv_lab.annotate.clips import parts_of
from osv_lab.annotate.codec import from_cvat, tracks_from_cvat
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.identity import identify
from osv_lab.annotate.merge import merge
from osv_lab.annotate.objects import Annotations, Shape
from osv_lab.annotate.records import Run, Runs
from osv_lab.annotate.schema import Schema
from osv_lab.annotate.tracks import part_name, unchanged
from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.core.report import Report


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job.

    Attributes:
        key: The run's key.
        task: CVAT's id of its task.
        job: CVAT's id.
        stage: ``annotation``, ``validation`` or ``acceptance``.
        state: ``new``, ``in progress``, ``completed`` or ``rejected``.
        assignee: Whose it is, ``""`` for nobody's.
        frames: How many images or frames it has.
        edited: Labels changed since they were sent or last pulled; a track counts as one.
        added: Labels that are new.
        removed: Labels that are gone.
        changed: When the job last changed, as the server says it (ISO 8601).
    """

    key: str
    task: int
    job: int
    stage: str
    state: str
    assignee: str
    frames: int
    edited: int
    added: int
    removed: int
    changed: str


@dataclass(frozen=True)
class AnnotationStatus(Report):
    """The jobs of one run or of all, and runs that have none and why."""

    jobs: tuple[JobStatus, ...]
    problems: tuple[str, ...] = ()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per job."""
        return [asdict(job) for job in self.jobs]

    def summary(self) -> str:
        """One line."""
        done = sum(job.state == "completed" for job in self.jobs)
        edits = [sum(getattr(job, name) for job in self.jobs) for name in ("edited", "added", "removed")]
        text = f"{done} of {len(self.jobs)} jobs completed"
        changes = f"labels: {edits[0]} edited, {edits[1]} added, {edits[2]} removed"
        return "; ".join((text, changes, *self.problems))


def status(cvat: Connection, runs: Runs, key: str | None = None) -> AnnotationStatus:
    """The jobs of a run, or of all; see :meth:`osv_lab.annotate.AnnotationLoop.status`."""
    jobs: list[JobStatus] = []
    problems: list[str] = []
    for name in [key] if key is not None else runs.names():
        run = runs.get(name)
        if run.phase != "sent":
            problems.append(f"'{name}' was interrupted while {run.phase}: run the same again")
        elif key is None and not is_here(cvat, run):
            problems.append(f"'{name}' is on {run.url}")
        else:
            try:
                jobs += _jobs(cvat, runs, run)
            except NotFoundError:
                if key is not None:
                    raise
                problems.append(f"the task of '{name}' is gone from the server")
    return AnnotationStatus(tuple(jobs), tuple(problems))


def annotation_jobs(cvat: Connection, run: Run) -> list[Mapping[str, Any]]:
    """The annotation jobs of a run's task in the order of their frames: no ground truth, no replicas.

    Raises:
        NotFoundError: the task was deleted.
        UsageError: the run is on another server or in another organisation.
    """
    check_server(cvat, run)
    found: list[Mapping[str, Any]] = []
    for task in run.tasks:
        jobs = [job for job in cvat.pages("/api/jobs", {"task_id": task}) if job["type"] == "annotation"]
        if not jobs:
            raise gone(run)
        found += sorted(jobs, key=lambda job: (job["start_frame"], job["id"]))
    return found


def is_here(cvat: Connection, run: Run) -> bool:
    """Whether a run is on this server, in this organisation."""
    return (run.url, run.organization) == (cvat.settings.url, cvat.settings.organization)


def check_server(cvat: Connection, run: Run) -> None:
    """That a run is on this server.

    Raises:
        UsageError: it is not.
    """
    if not is_here(cvat, run):
        where = f"{run.url}, organisation {run.organization!r}"
        raise UsageError(f"'{run.key}' was sent elsewhere", where, "connect to that one")


def gone(run: Run) -> NotFoundError:
    """The error for a task that was deleted on the server."""
    return NotFoundError(
        "the task is gone from the server",
        f"task {run.task} of '{run.key}'",
        "nothing here was changed; cancel the key, then send again",
    )


def _jobs(cvat: Connection, runs: Runs, run: Run) -> list[JobStatus]:
    jobs = annotation_jobs(cvat, run)
    stamp = "|".join(f"{job['id']} {job['updated_date']}" for job in jobs)
    counted = run.counted
    if counted.get("stamp") != stamp:
        counted = {"stamp": stamp, "counts": _counts(cvat, runs, run, jobs)}
        runs.put_some(run.key, counted=counted)
    counts = counted["counts"]
    return [
        JobStatus(
            run.key,
            job["task_id"],
            job["id"],
            job["stage"],
            job["state"],
            (job["assignee"] or {}).get("username", ""),
            job["stop_frame"] - job["start_frame"] + 1,
            edited=counts[str(job["id"])][0],
            added=counts[str(job["id"])][1],
            removed=counts[str(job["id"])][2],
            changed=job["updated_date"],
        )
        for job in jobs
    ]


def _counts(
    cvat: Connection, runs: Runs, run: Run, jobs: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[int, int, int]]:
    """Edited, added and removed objects by job."""
    schema = Schema.of(cvat.pages("/api/labels", {"task_id": run.task}))
    if run.clips:
        # A job may lie beyond what was sent: CVAT has no window of a video's first frame alone.
        return {str(job["id"]): (0, 0, 0) for job in jobs} | _clip_counts(cvat, runs, run, schema)
    # Of images that jobs share, the whole task shows one annotator's work only.
    shared = sum(job["stop_frame"] - job["start_frame"] + 1 for job in jobs) > len(run.samples)
    base, defaults = runs.base(run.key), schema.defaults(run.types)
    found = {}
    shapes: Sequence[Shape] = ()
    for number, job in enumerate(jobs):
        if shared or not number:
            path = f"/api/jobs/{job['id']}" if shared else f"/api/tasks/{run.task}"
            shapes, _ = from_cvat(cvat.get(f"{path}/annotations"), run.samples, schema, run.types)
        samples = run.samples[job["start_frame"] : job["stop_frame"] + 1]
        before = base.of(samples)
        scope = Scope(dict.fromkeys(samples, ((0, 0),)))
        there = Annotations(tuple(shapes)).of(samples)
        counts = merge(before, there, before, scope=scope, defaults=defaults).counts
        found[str(job["id"])] = (counts.get("edited", 0), counts.get("added", 0), counts.get("deleted", 0))
    return found


def _clip_counts(cvat: Connection, runs: Runs, run: Run, schema: Schema) -> dict[str, tuple[int, int, int]]:
    """Likewise of clips, where a track is one object however many frames of it changed."""
    base = runs.base(run.key)
    found = {}
    for clip, part in parts_of(run.clips):
        answer = cvat.get(f"/api/jobs/{part.job}/annotations")
        tracks, _ = tracks_from_cvat(answer, part_name(clip, part), schema, run.types, part.job)
        known = {track.uid: track for track in runs.tracks(run.key, part_name(clip, part))}
        versions, added, _ = identify({key_of(track): track for track in known.values()}, tracks)
        edited = sum(not unchanged(known[key[2]], some[0]) for key, some in versions.items())
        shapes, _ = from_cvat(answer, clip.places(), schema, run.types)
        places = set(clip.places(part.start, part.stop))
        before = [s for s in base.shapes if s.server_id is not None and (s.sample, s.frame) in places]
        tracked = {shape.uid: shape.track for shape in before}
        there = [replace(shape, track=tracked.get(shape.uid)) for shape in shapes]
        counts = merge(
            Annotations(tuple(before)),
            Annotations(tuple(there)),
            Annotations(tuple(before)),
            defaults=schema.defaults(run.types),
        ).counts
        found[str(part.job)] = (
            edited + counts.get("edited", 0),
            len(added) + counts.get("added", 0),
            len(known) - len(versions) + counts.get("deleted", 0),
        )
    return found
