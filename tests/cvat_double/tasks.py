"""Tasks: what they say of themselves, their frames, their originals, the requests that made them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from cvat_double.access import basic, in_context, is_staff, require_staff, require_user
from cvat_double.http import SERVER_ERROR, Page, RefusedError, Request, Response, Routes, page
from cvat_double.projects import merge_labels
from cvat_double.state import Frame, Task, World, now


def task_of(world: World, request: Request, key: str) -> Task:
    require_user(request)
    task = world.tasks.get(int(key)) if key.isdigit() else None
    if task is None:
        raise RefusedError(404, {"detail": "No Task matches the given query."})
    require_staff(world, request, task)
    return task


def shown_task(world: World, request: Request, task: Task) -> dict[str, Any]:
    jobs = world.jobs_of(task)
    annotating = [job for job in jobs if job.type == "annotation"]
    completed = [job for job in annotating if job.status == "completed"]
    validating = [job for job in annotating if job.status == "validation"]
    status = "annotation"
    if annotating and len(completed) == len(annotating):
        status = "completed"
    elif annotating and len(completed) + len(validating) == len(annotating):
        status = "validation"
    chunks = "imageset" if task.window is None else "video"
    data = {
        "data_chunk_size": 72 if task.frames else None,
        "data_original_chunk_type": chunks,
        "data_compressed_chunk_type": chunks,
        "data_cloud_storage_id": None,
        "size": len(task.frames),
        "image_quality": task.image_quality,
        "data": task.id,
    }
    organization = task.organization.id if task.organization else None
    return {
        "url": f"{request.base}/api/tasks/{task.id}",
        "id": task.id,
        "name": task.name,
        "project_id": task.project_id,
        "mode": task.mode,
        "owner": basic(request, task.owner),
        "assignee": basic(request, task.assignee),
        "bug_tracker": "",
        "created_date": task.created,
        "updated_date": task.updated,
        "overlap": task.overlap,
        "segment_size": task.segment_size,
        "status": status,
        **(data if task.has_data else {}),
        "guide_id": None,
        "dimension": "2d",
        "subset": task.subset,
        "organization_id": organization,
        "organization": organization,
        "target_storage": None,
        "source_storage": None,
        "jobs": {
            "count": len(jobs),
            "completed": len(completed),
            "validation": len(validating),
            "url": f"{request.base}/api/jobs?task_id={task.id}",
        },
        "labels": {"url": f"{request.base}/api/labels?task_id={task.id}"},
        "assignee_updated_date": None,
        "validation_mode": "gt" if task.has_truth else None,
        "consensus_enabled": False,
    }


def shown_meta(
    task: Task, frames: list[Frame], start: int, deleted: list[int], included: list[int] | None
) -> dict[str, Any]:
    window, size = task.window, len(frames)
    first, last, step = (start, start + size - 1, 1)
    if window is not None:
        first, step = window.first + start * window.step, window.step
        last = first + (size - 1) * step
        # A video has one entry, however many frames.
        frames = frames[:1]
    return {
        "chapters": None,
        "chunks_updated_date": task.created,
        "chunk_size": CHUNK,
        "size": len(included) if included is not None else size,
        "image_quality": task.image_quality,
        "start_frame": first,
        "stop_frame": last,
        "frame_filter": f"step={step}" if step > 1 else "",
        "frames": [
            {
                "width": frame.width,
                "height": frame.height,
                "name": frame.name,
                "related_files": 0,
                "has_related_context": False,
            }
            for frame in frames
        ],
        "deleted_frames": deleted,
        "included_frames": included,
        "storage": "local",
        "cloud_storage_id": None,
    }


CHUNK = 72


def frame_of(task: Task, request: Request) -> Response:
    """One frame as it was uploaded, or a chunk of them: an archive of numbered files."""
    number, kind = request.query.get("number", ""), request.query.get("type")
    if kind not in ("frame", "chunk") or not number.isdigit():
        raise RefusedError(400, {"detail": "Data type not specified or not supported"})
    if kind == "chunk":
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for place, frame in enumerate(task.frames[int(number) * CHUNK : (int(number) + 1) * CHUNK]):
                archive.writestr(f"{place:06}{Path(frame.name).suffix}", task.files[frame.name])
        return Response(body=content.getvalue())
    if int(number) >= len(task.frames):
        raise RefusedError(404, {"detail": "Incorrect requested frame number"})
    return Response(body=task.files[task.frames[int(number)].name])


def routes(world: World, table: Routes) -> None:
    @table.on("GET", "/tasks")
    def tasks(request: Request) -> Response:
        user, query = require_user(request), request.query
        shown = [
            task
            for task in reversed(world.tasks.values())
            if in_context(request, task)
            and is_staff(world, user, task)
            and query.get("name") in (None, task.name)
            and query.get("project_id") in (None, str(task.project_id))
            and query.get("search", "") in task.name
        ]
        return page(request, [shown_task(world, request, task) for task in shown])

    @table.on("POST", "/tasks")
    def make_task(request: Request) -> Response:
        user, asked = require_user(request), request.json()
        if not asked.get("name"):
            raise RefusedError(400, {"name": ["This field is required."]})
        project = world.projects.get(asked.get("project_id") or 0)
        if asked.get("project_id") and project is None:
            raise RefusedError(400, ["Project matching query does not exist."])
        if project is not None:
            require_staff(world, request, project)
        task = Task(
            world.next_id("task"),
            asked["name"],
            user,
            project.id if project else None,
            project.organization if project else request.organization,
            segment_size=asked.get("segment_size") or 0,
            overlap=asked.get("overlap"),
            subset=asked.get("subset") or "",
            assignee=world.users.get(asked.get("assignee_id") or 0),
        )
        merge_labels(world, asked.get("labels") or [], {"task_id": task.id})
        world.tasks[task.id] = task
        return Response(201, shown_task(world, request, task))

    @table.on("GET", "/tasks/{key}")
    def task(request: Request, key: str) -> Response:
        return Response(body=shown_task(world, request, task_of(world, request, key)))

    @table.on("PATCH", "/tasks/{key}")
    def change_task(request: Request, key: str) -> Response:
        task, asked = task_of(world, request, key), request.json()
        task.name, task.subset = asked.get("name", task.name), asked.get("subset", task.subset)
        if "assignee_id" in asked:
            task.assignee = world.users.get(asked["assignee_id"] or 0)
        if task.project_id is None:
            merge_labels(world, asked.get("labels", []), {"task_id": task.id})
        task.updated = now()
        return Response(body=shown_task(world, request, task))

    @table.on("DELETE", "/tasks/{key}")
    def delete_task(request: Request, key: str) -> Response:
        world.forget(task_of(world, request, key))
        return Response(204)

    @table.on("GET", "/tasks/{key}/data")
    def data(request: Request, key: str) -> Response:
        return frame_of(task_of(world, request, key), request)

    @table.on("GET", "/tasks/{key}/data/meta")
    def meta(request: Request, key: str) -> Response:
        task = task_of(world, request, key)
        if not task.has_data:
            return Response(500, SERVER_ERROR)
        return Response(body=shown_meta(task, task.frames, 0, task.deleted_frames, None))

    @table.on("PATCH", "/tasks/{key}/data/meta")
    def change_meta(request: Request, key: str) -> Response:
        task = task_of(world, request, key)
        task.deleted_frames = sorted(set(request.json().get("deleted_frames", task.deleted_frames)))
        task.updated = now()
        return Response(body=shown_meta(task, task.frames, 0, task.deleted_frames, None))

    @table.on("GET", "/requests")
    def requests(request: Request) -> Response:
        user = require_user(request)
        return page(request, [one for one in reversed(world.requests.values()) if one["owner"]["id"] == user.id])

    @table.on("GET", "/requests/{key}")
    def background(request: Request, key: str) -> Response:
        user = require_user(request)
        found = world.requests.get(key)
        if found is None:
            raise RefusedError(404, Page("There is no request with specified id"))
        if found["owner"]["id"] != user.id and not user.is_admin:
            raise RefusedError(403, {"detail": "You do not have permission to perform this action."})
        if found["operation"]["task_id"] not in world.tasks:
            raise RefusedError(400, ["Task matching query does not exist."])
        return Response(body=found)
