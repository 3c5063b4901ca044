"""Sending clips: a task for each, with its tracks as keyframes.

Labels are written job by job and not to the task, so that CVAT does not cut tracks itself: where there are several
jobs, each has its own part of a track, with the same identity, and no frame is in two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.clips import Clip, Part, parts_of
from osv_lab.annotate.codec import from_cvat, to_cvat, tracks_from_cvat
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.files import named_files
from osv_lab.annotate.objects import Shape, Track
from osv_lab.annotate.pack import Package
from osv_lab.annotate.records import Run, Runs, place_name
from osv_lab.annotate.schema import Schema
from osv_lab.annotate.send_images import MEDIA
from osv_lab.annotate.status import annotation_jobs
from osv_lab.annotate.tracks import part_name, tracks_of
from osv_lab.core.errors import InvalidDataError, UnavailableError
from osv_lab.core.progress import Progress

if TYPE_CHECKING:
    import fiftyone as fo

WRITE = 20_000
"""Keyframes and shapes per write, so that each stays well within the deadline of a call."""


def send_clips(
    cvat: Connection,
    runs: Runs,
    dataset: fo.Dataset,
    package: Package,
    schema: Schema,
    segment_size: int,
    tolerance: float,
    progress: Progress,
) -> tuple[Package, Sequence[Mapping[str, Any]]]:
    """Make the tasks, write the labels, read them back, and keep what both sides agree on now.

    Returns:
        The package, which knows its tasks now, and their jobs.
    """
    run = _tasks(cvat, runs, dataset, package, segment_size)
    problems = list(package.problems)
    clips = [_upload(cvat, package, clip, problems, progress) for clip in run.clips]
    run = replace(run, clips=tuple(clips))
    jobs: dict[int, list[Part]] = {}
    made = annotation_jobs(cvat, run)
    for job in made:
        jobs.setdefault(job["task_id"], []).append(Part(job["id"], job["start_frame"], job["stop_frame"]))
    run = replace(run, clips=tuple(clip.with_parts(jobs[clip.task or 0]) for clip in clips))
    runs.put(run)
    parts = list(parts_of(run.clips))
    shapes: list[Shape] = []
    for number, (clip, part) in enumerate(parts):
        progress("labels", number, len(parts))
        shapes += _write(cvat, runs, replace(package, run=run), clip, part, schema, tolerance, problems)
    progress("labels", len(parts), len(parts))
    places = [place_name(*place) for clip in run.clips for place in clip.places()]
    runs.put_base(run.key, shapes, places)
    runs.put_sent(run.key, shapes, places)
    return replace(package, run=run, shapes=tuple(shapes), problems=tuple(dict.fromkeys(problems))), made


def _tasks(cvat: Connection, runs: Runs, dataset: fo.Dataset, package: Package, segment_size: int) -> Run:
    """Make the tasks, empty; only when the server has answered for all of them is the run's own known."""
    run = package.run
    clips = []
    for number, clip in enumerate(run.clips):
        body = {"name": run.task_name(dataset.name, _title(package, clip)), "project_id": run.project}
        body |= {"segment_size": segment_size, "overlap": 0}
        made = cvat.call("POST", "/api/tasks", body=body)
        clips.append(replace(clip, task=int(made["id"])))
        runs.put(replace(run, clips=(*clips, *run.clips[number + 1 :])))
    run = replace(run, clips=tuple(clips), task=clips[0].task)
    runs.put(run)
    return run


def _title(package: Package, clip: Clip) -> str:
    if not clip.is_video:
        return clip.name
    last = clip.first + (clip.length - 1) * clip.step
    return f"{package.files[clip.samples[0]].stem} {clip.first}-{last}"


def _upload(cvat: Connection, package: Package, clip: Clip, problems: list[str], progress: Progress) -> Clip:
    """Give a task its media; its frames are verified to be ours."""
    options: dict[str, Any] = dict(MEDIA)
    if clip.is_video:
        options |= {"start_frame": clip.start_frame, "stop_frame": clip.stop_frame}
        if clip.step > 1:
            options["frame_filter"] = f"step={clip.step}"
    else:
        options["sorting_method"] = "predefined"
    with named_files(clip.samples, package.files) as files:
        try:
            cvat.upload(clip.task or 0, files, options, progress)
        except InvalidDataError as error:
            where = package.files[clip.samples[0]].name
            raise InvalidDataError(
                error.what, f"{where}: {error.found}", "leave it out, or re-encode it"
            ) from None
        names = [file.name for file in files]
    meta = cvat.get(f"/api/tasks/{clip.task}/data/meta")
    frames = meta["frames"]
    if [frame["name"].rpartition("/")[2] for frame in frames] != names:
        raise UnavailableError("the task does not have what was sent", f"task {clip.task}", "send again")
    sizes = dict(zip(package.run.samples, package.run.sizes, strict=True))
    for sample, frame in zip(clip.samples, frames, strict=True):
        if (frame["width"], frame["height"]) != sizes[sample]:
            raise InvalidDataError(
                "CVAT shows it in another size than the dataset says",
                f"sample {sample}: {frame['width']}x{frame['height']}, not {sizes[sample][0]}x{sizes[sample][1]}",
                "compute the dataset's metadata anew",
            )
    if meta["size"] != clip.length:
        problems.append(f"sample {clip.samples[0]}: CVAT counts {meta['size']} frames, the dataset {clip.length}")
    # What CVAT has beyond the dataset's last frame, or beyond a window of one frame, is none of ours.
    return replace(clip, length=min(meta["size"], clip.length))


def _write(
    cvat: Connection,
    runs: Runs,
    package: Package,
    clip: Clip,
    part: Part,
    schema: Schema,
    tolerance: float,
    problems: list[str],
) -> list[Shape]:
    """Write the labels of a job, read them back, and return them with CVAT's ids."""
    run = package.run
    frames = clip.frames()
    mine = [
        shape for shape in package.shapes if part.start <= frames.get((shape.sample, shape.frame), -1) <= part.stop
    ]
    tracks, plain, lost = tracks_of(mine, clip, part, schema.along(), tolerance)
    problems += lost
    path = f"/api/jobs/{part.job}/annotations"
    for some, others in _batches(tracks, plain):
        cvat.call("PATCH", path, {"action": "create"}, to_cvat(others, frames, schema, some))
    answer = cvat.get(path)
    there, _ = from_cvat(answer, clip.places(), schema, run.types)
    made, _ = tracks_from_cvat(answer, part_name(clip, part), schema, run.types, part.job)
    ids = {(shape.sample, shape.frame, shape.uid): shape.server_id for shape in there}
    _verify(tracks, made, len(plain), len(there), all((s.sample, s.frame, s.uid) in ids for s in plain))
    runs.put_tracks(run.key, part_name(clip, part), [replace(track, job=None) for track in made])
    unseen = {id(shape) for shape in plain}
    return [
        replace(shape, server_id=ids[shape.sample, shape.frame, shape.uid]) if id(shape) in unseen else shape
        for shape in mine
    ]


def _batches(tracks: Sequence[Track], plain: Sequence[Shape]) -> list[tuple[list[Track], list[Shape]]]:
    """Tracks and shapes in writes of a bounded size."""
    found: list[tuple[list[Track], list[Shape]]] = []
    size = WRITE
    every: list[Track | Shape] = [*tracks, *plain]
    for one in every:
        weight = len(one.keyframes) if isinstance(one, Track) else 1
        if size + weight > WRITE:
            found.append(([], []))
            size = 0
        size += weight
        if isinstance(one, Track):
            found[-1][0].append(one)
        else:
            found[-1][1].append(one)
    return found


def _verify(tracks: Sequence[Track], made: Sequence[Track], plain: int, there: int, known: bool) -> None:
    """That the server has what was written; it drops what it does not like without a word."""
    sent = {track.uid: len(track.keyframes) for track in tracks}
    if {track.uid: len(track.keyframes) for track in made} != sent or there != plain or not known:
        raise UnavailableError(
            "the server does not have the labels that were sent",
            f"{len(made)} of {len(tracks)} tracks and {there} of {plain} labels without one are there",
            "send again",
        )
