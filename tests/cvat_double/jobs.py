"""Jobs: who has which frames, in which stage and state; the ground-truth job."""

from __future__ import annotations

from typing import Any

from cvat_double.access import FORBIDDEN, basic, in_context, is_staff, require_job, require_staff, require_user
from cvat_double.http import RefusedError, Request, Response, Routes, page
from cvat_double.state import Frame, Job, World, now
from cvat_double.tasks import frame_of, shown_meta
from cvat_double.webhooks import tell

STAGES = ("annotation", "validation", "acceptance")
STATES = ("new", "in progress", "completed", "rejected")


def job_of(world: World, request: Request, key: str) -> Job:
    require_user(request)
    job = world.jobs.get(int(key)) if key.isdigit() else None
    if job is None:
        raise RefusedError(404, {"detail": "No Job matches the given query."})
    require_job(world, request, job)
    return job


def shown_job(request: Request, job: Job) -> dict[str, Any]:
    return {
        "url": f"{request.base}/api/jobs/{job.id}",
        "id": job.id,
        "task_id": job.task.id,
        "project_id": job.task.project_id,
        "assignee": basic(request, job.assignee),
        "guide_id": None,
        "dimension": "2d",
        "bug_tracker": "",
        "status": job.status,
        "stage": job.stage,
        "state": job.state,
        "mode": job.task.mode,
        "frame_count": len(job.frames) if job.frames is not None else job.stop - job.start + 1,
        "start_frame": job.start,
        "stop_frame": job.stop,
        "data_chunk_size": 72,
        "data_compressed_chunk_type": "imageset" if job.task.window is None else "video",
        "data_original_chunk_type": "imageset" if job.task.window is None else "video",
        "created_date": job.created,
        "updated_date": job.updated,
        "issues": {"url": f"{request.base}/api/issues?job_id={job.id}", "count": 0},
        "labels": {"url": f"{request.base}/api/labels?job_id={job.id}"},
        "type": job.type,
        "organization": job.task.organization.id if job.task.organization else None,
        "target_storage": None,
        "source_storage": None,
        "assignee_updated_date": None,
        "parent_job_id": None,
        "consensus_replicas": 0,
    }


def routes(world: World, table: Routes) -> None:
    @table.on("GET", "/jobs")
    def jobs(request: Request) -> Response:
        user, query = require_user(request), request.query
        shown = [
            job
            for job in reversed(world.jobs.values())
            if in_context(request, job.task)
            and (job.assignee is user or is_staff(world, user, job.task))
            and query.get("task_id") in (None, str(job.task.id))
            and query.get("project_id") in (None, str(job.task.project_id))
            and query.get("type") in (None, job.type)
            and query.get("stage") in (None, job.stage)
            and query.get("state") in (None, job.state)
        ]
        return page(request, [shown_job(request, job) for job in shown])

    @table.on("POST", "/jobs")
    def make_truth(request: Request) -> Response:
        require_user(request)
        asked = request.json()
        task = world.tasks.get(asked["task_id"])
        if task is None:
            raise RefusedError(404, {"detail": "No Task matches the given query."})
        require_staff(world, request, task)
        if asked.get("type") != "ground_truth":
            raise RefusedError(400, [f"Unexpected job type '{asked.get('type')}'"])
        if task.has_truth:
            raise RefusedError(400, ['Task with validation mode "gt" cannot have more than 1 GT job'])
        frames = sorted(asked.get("frames") or range(asked.get("frame_count", 1)))
        if asked.get("frame_selection_method") == "manual" and not asked.get("frames"):
            raise RefusedError(400, {"frames": ["This field is required."]})
        if not set(frames) <= set(range(len(task.frames))):
            raise RefusedError(400, ["The following frames do not exist in the task"])
        job = Job(world.next_id("job"), task, 0, len(task.frames) - 1, "ground_truth", frames)
        world.jobs[job.id], task.has_truth = job, True
        return Response(201, shown_job(request, job))

    @table.on("GET", "/jobs/{key}")
    def job(request: Request, key: str) -> Response:
        return Response(body=shown_job(request, job_of(world, request, key)))

    @table.on("PATCH", "/jobs/{key}")
    def change_job(request: Request, key: str) -> Response:
        job, asked = job_of(world, request, key), request.json()
        assert request.user is not None
        if {"stage", "assignee"} & set(asked) and not is_staff(world, request.user, job.task):
            raise RefusedError(403, FORBIDDEN)
        for name, known in (("stage", STAGES), ("state", STATES)):
            if name in asked and asked[name] not in known:
                raise RefusedError(400, {name: [f'"{asked[name]}" is not a valid choice.']})
        if "assignee" in asked:
            assignee = world.users.get(asked["assignee"] or 0)
            if asked["assignee"] and assignee is None:
                raise RefusedError(
                    400, {"assignee": [f'Invalid pk "{asked["assignee"]}" - object does not exist.']}
                )
            job.assignee = assignee
        if asked.get("stage", job.stage) != job.stage:
            job.stage, job.state = asked["stage"], "new"
        job.state = asked.get("state", job.state)
        job.updated = now()
        tell(world, request, "update:job", job.task.project_id, {"job": shown_job(request, job)})
        return Response(body=shown_job(request, job))

    @table.on("DELETE", "/jobs/{key}")
    def delete_job(request: Request, key: str) -> Response:
        job = job_of(world, request, key)
        require_staff(world, request, job.task)
        if job.type != "ground_truth":
            raise RefusedError(400, ["Only ground truth jobs can be removed"])
        del world.jobs[job.id]
        job.task.has_truth = False
        return Response(204)

    @table.on("GET", "/jobs/{key}/data")
    def data(request: Request, key: str) -> Response:
        return frame_of(job_of(world, request, key).task, request)

    @table.on("GET", "/jobs/{key}/data/meta")
    def meta(request: Request, key: str) -> Response:
        job = job_of(world, request, key)
        numbers = range(job.start, job.stop + 1)
        frames = [job.task.frames[number] for number in numbers]
        if job.frames is not None:
            hidden = set(numbers) - set(job.frames)
            frames = [_hidden(frame) if number in hidden else frame for number, frame in enumerate(frames)]
        deleted = [number for number in job.task.deleted_frames if number in numbers]
        if job.frames is not None:
            deleted = [number for number in deleted if number in job.frames]
        return Response(body=shown_meta(job.task, frames, job.start, deleted, job.frames))


def _hidden(frame: Frame) -> Frame:
    return Frame("placeholder.jpg", frame.width, frame.height)
