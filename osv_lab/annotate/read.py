"""What finished jobs hold, of images and of clips, as labels of samples and frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from osv_lab.annotate.changes import Note, Scope
from osv_lab.annotate.clips import Place, parts_of, ranges_of
from osv_lab.annotate.codec import from_cvat, tracks_from_cvat
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.objects import Annotations, Shape, Track
from osv_lab.annotate.records import Run, Runs
from osv_lab.annotate.schema import Schema
from osv_lab.annotate.status import annotation_jobs, gone
from osv_lab.annotate.tracks import expand, part_name
from osv_lab.annotate.workflow import is_done, seen_jobs
from osv_lab.core.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class There:
    """What finished jobs hold.

    Attributes:
        shapes: Their labels; those of tracks frame by frame.
        places: The samples or frames of finished jobs with the jobs, without those that were deleted in CVAT.
        schema: The labels as the server has them.
        problems: What could not be read, in words.
        notes: What was noticed of the identities of tracks.
        pulled: How many jobs are finished.
        open: How many are not.
        jobs: All jobs, as they are remembered.
        tracks: The tracks of finished jobs, by part.
    """

    shapes: tuple[Shape, ...]
    places: tuple[tuple[int, Place], ...]
    schema: Schema
    problems: tuple[str, ...]
    notes: tuple[Note, ...]
    pulled: int
    open: int
    jobs: list[dict[str, Any]]
    tracks: Mapping[str, tuple[Track, ...]] = field(default_factory=dict)

    @property
    def scope(self) -> Scope:
        """What a merge of them is about."""
        return Scope(ranges_of(place for _, place in self.places))


def read_finished(cvat: Connection, runs: Runs, run: Run, base: Annotations, done: str) -> There:
    """Read the finished jobs of a run.

    Args:
        cvat: The server.
        runs: The runs of the dataset.
        run: The run.
        base: The labels as both sides last agreed on them.
        done: Which jobs count as finished.

    Raises:
        NotFoundError: a task is gone.
    """
    jobs = annotation_jobs(cvat, run)
    finished = [job for job in jobs if is_done(job, done)]
    schema = Schema.of(cvat.pages("/api/labels", {"task_id": run.task}))
    deleted = {task: _deleted(cvat, run, task) for task in dict.fromkeys(job["task_id"] for job in finished)}
    there = There((), (), schema, (), (), len(finished), len(jobs) - len(finished), seen_jobs(run, jobs))
    if run.clips:
        return _clips(cvat, runs, run, base, there, {job["id"] for job in finished}, deleted)
    return _images(cvat, run, there, finished, deleted.get(run.task or 0, set()))


def without_removed(base: Annotations, there: There) -> tuple[Annotations, tuple[str, ...]]:
    """What both sides last agreed on, without the labels of classes that were removed from the CVAT project.

    CVAT deletes the labels of a class with it, which says nothing of each of them: here they stay, and are none of the
    run's business any more.

    Returns:
        The base, and in words what was removed.
    """
    gone = {shape.label for shape in base.shapes} - set(there.schema.ids)
    if not gone:
        return base, ()
    present = {shape.uid for shape in there.shapes}
    scope = there.scope
    out = [
        shape
        for shape in base.shapes
        if shape.label in gone and shape.uid not in present and scope.holds(shape.sample, shape.frame)
    ]
    ids = set(map(id, out))
    counts = Counter(shape.label for shape in out)
    words = tuple(
        f"class '{label}' was removed from the CVAT project and {count} labels with it there; here they stay"
        for label, count in sorted(counts.items())
    )
    return replace(base, shapes=tuple(shape for shape in base.shapes if id(shape) not in ids)), words


def _deleted(cvat: Connection, run: Run, task: int) -> set[int]:
    try:
        return set(cvat.get(f"/api/tasks/{task}/data/meta").get("deleted_frames") or ())
    except NotFoundError:
        raise gone(run) from None


def _images(
    cvat: Connection, run: Run, there: There, finished: Sequence[Mapping[str, Any]], deleted: set[int]
) -> There:
    problems = [
        f"sample {run.samples[frame]}: its image was deleted in CVAT; left as it is" for frame in sorted(deleted)
    ]
    shapes: list[Shape] = []
    places: list[tuple[int, Place]] = []
    for job in finished:
        answer = cvat.get(f"/api/jobs/{job['id']}/annotations")
        some, wrong = from_cvat(answer, run.samples, there.schema, run.types, job["id"])
        shapes += some
        problems += wrong
        if answer.get("tracks"):
            problems.append(
                f"job {job['id']} has {len(answer['tracks'])} tracks, which images do not have; left there"
            )
        frames = range(job["start_frame"], job["stop_frame"] + 1)
        places += [(job["id"], (run.samples[frame], 0)) for frame in frames if frame not in deleted]
    return replace(there, shapes=tuple(shapes), places=tuple(places), problems=tuple(problems))


def _clips(
    cvat: Connection,
    runs: Runs,
    run: Run,
    base: Annotations,
    there: There,
    finished: set[int],
    deleted: Mapping[int, set[int]],
) -> There:
    labels: dict[Place, list[Shape]] = {}
    for shape in base.shapes:
        labels.setdefault((shape.sample, shape.frame), []).append(shape)
    shapes: list[Shape] = []
    places: list[tuple[int, Place]] = []
    problems: list[str] = []
    notes: list[Note] = []
    tracks = {}
    for clip, part in parts_of(run.clips):
        if part.job not in finished:
            continue
        gone_frames = deleted[clip.task or 0]
        answer = cvat.get(f"/api/jobs/{part.job}/annotations")
        name, every = part_name(clip, part), clip.places()
        plain, wrong = from_cvat(answer, every, there.schema, run.types, part.job)
        moving, lost = tracks_from_cvat(answer, name, there.schema, run.types, part.job)
        problems += (*wrong, *lost)
        mine = [label for place in every[part.start : part.stop + 1] for label in labels.get(place, ())]
        track_of = {label.uid: label.track for label in mine}
        shapes += [replace(shape, track=track_of.get(shape.uid)) for shape in plain]
        expanded = expand(moving, runs.tracks(run.key, name), mine, clip, part, gone_frames)
        shapes += expanded.shapes
        tracks[name] = expanded.tracks
        notes += expanded.notes
        for frame in range(part.start, part.stop + 1):
            if frame in gone_frames:
                sample, number = every[frame]
                where = f"sample {sample}" + (f" frame {number}" if number else "")
                problems.append(f"{where}: its frame was deleted in CVAT; left as it is")
            else:
                places.append((part.job, every[frame]))
    return replace(
        there,
        shapes=tuple(shapes),
        places=tuple(places),
        problems=tuple(problems),
        notes=tuple(notes),
        tracks=tracks,
    )
