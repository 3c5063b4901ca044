"""Annotations of tasks and jobs: replace, create, update, delete, with no locking and little checking."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

from cvat_double.access import require_job
from cvat_double.http import Page, RefusedError, Request, Response, Routes
from cvat_double.jobs import job_of
from cvat_double.state import Job, Label, Task, World
from cvat_double.tasks import task_of
from cvat_double.video import shown_track, with_first_frame

# Given back with every shape and refused when they are sent back as they came: write only fields you know.
UNSENDABLE = {"view_id": None, "description": None, "needs_review": None}
KINDS = ("tags", "shapes", "tracks")
SHAPE = {"group": None, "source": "manual", "occluded": False, "outside": False, "z_order": 0, "rotation": 0.0}
POINTS = {
    "rectangle": lambda count: count == 4,
    "ellipse": lambda count: count == 4,
    "polygon": lambda count: count >= 6 and count % 2 == 0,
    "polyline": lambda count: count >= 4 and count % 2 == 0,
    "points": lambda count: count >= 2 and count % 2 == 0,
    "cuboid": lambda count: count == 16,
    "mask": lambda count: count >= 5,
    "skeleton": lambda count: count == 0,
}


def complaint(kind: str, thing: dict[str, Any], action: str) -> dict[str, list[str]]:
    """What the first look at one object finds wrong: its form, not its sense."""
    wrong: dict[str, list[str]] = {}
    for name in ("frame", "label_id"):
        if name not in thing:
            wrong[name] = ["This field is required."]
        elif thing[name] < 0:
            wrong[name] = ["Ensure this value is greater than or equal to 0."]
    if action == "create" and "id" in thing:
        wrong["id"] = ["must be absent"]
    if action == "delete" and thing.get("id") is None:
        wrong["id"] = ["must be present and not null"]
    if kind == "tags" or wrong:
        return wrong
    for name in ("description", "needs_review"):
        if kind == "shapes" and thing.get(name, "") is None:
            wrong[name] = ["This field may not be null."]
    if wrong:
        return wrong
    for shape in thing.get("shapes", []) if kind == "tracks" else [thing]:
        if shape.get("type") not in POINTS:
            return {"type": [f'"{shape.get("type")}" is not a valid choice.']}
        if not 0 <= shape.get("rotation", 0) <= 360:
            return {"rotation": ["Ensure this value is less than or equal to 360."]}
        points = shape.get("points", [])
        if any(type(value) not in (int, float) for value in points):
            return {"points": ["Value must be a float or an integer"]}
        if not POINTS[shape["type"]](len(points)):
            return {"points": [f"invalid length for shape type '{shape['type']}'"]}
    return {}


def check(data: Any, action: str) -> dict[str, list[dict[str, Any]]]:
    """The body of a write as lists of objects, or a 400."""
    if not isinstance(data, dict):
        raise RefusedError(400, {"non_field_errors": ["Invalid data. Expected a dictionary."]})
    asked = {kind: data.get(kind) or [] for kind in KINDS}
    found = {kind: [complaint(kind, thing, action) for thing in things] for kind, things in asked.items()}
    bad = {kind: complaints for kind, complaints in found.items() if any(complaints)}
    if bad:
        raise RefusedError(400, bad)
    return asked


def check_tracks(asked: dict[str, list[dict[str, Any]]], labels: dict[int, Label]) -> None:
    """What changes along a track is on its keyframes and the rest is not; masks have no tracks."""
    for track in asked["tracks"]:
        mutable = {spec["id"]: spec["mutable"] for spec in labels[track["label_id"]].attributes}
        wrong = [value for value in track.get("attributes", []) if mutable.get(value["spec_id"], True)]
        for keyframe in track.get("shapes", []):
            wrong += [
                value for value in keyframe.get("attributes", []) if not mutable.get(value["spec_id"], False)
            ]
        if wrong:
            raise RefusedError(400, [f"spec_id `{wrong[0]['spec_id']}` is invalid"])


def check_labels(world: World, task: Task, asked: dict[str, list[dict[str, Any]]]) -> None:
    labels = {label.id: label for label in world.labels_of(task)}
    for kind in KINDS:
        for thing in asked[kind]:
            label = labels.get(thing["label_id"])
            if label is None:
                raise RefusedError(400, [f"label_id `{thing['label_id']}` is invalid"])
            specs = {spec["id"] for spec in label.attributes}
            for value in thing.get("attributes", []):
                if value["spec_id"] not in specs:
                    raise RefusedError(400, [f"spec_id `{value['spec_id']}` is invalid"])
    check_tracks(asked, labels)


def within(asked: dict[str, list[dict[str, Any]]], start: int, stop: int) -> dict[str, list[dict[str, Any]]]:
    """What lies in a job's frames; the rest of a task-level write is nobody's and is dropped without a word.

    A real server cuts tracks where the jobs are; here they have to lie within one.
    """
    return {kind: [thing for thing in things if start <= thing["frame"] <= stop] for kind, things in asked.items()}


def stored(world: World, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
    defaults = {"group": None, "source": "manual"} if kind != "shapes" else {**SHAPE, "points": [], "elements": []}
    known = {"id", "frame", "label_id", "type", "attributes", "shapes", *defaults}
    kept = {**defaults, **deepcopy({name: value for name, value in thing.items() if name in known})}
    if thing.get("id") is None:
        kept["id"] = world.next_id(kind)
    if kind == "tracks":
        kept = with_first_frame(kept)
        for keyframe in kept["shapes"]:
            keyframe |= {
                "points": [float(value) for value in keyframe["points"]],
                "id": world.next_id("keyframes"),
            }
            keyframe["attributes"] = keyframe.get("attributes") or []
            for name in ("occluded", "outside", "z_order", "rotation"):
                keyframe.setdefault(name, SHAPE[name])
    if kind == "shapes":
        kept["points"] = [float(value) for value in kept["points"]]
    kept["attributes"] = kept.get("attributes") or []
    return kept


def apply(world: World, job: Job, asked: dict[str, list[dict[str, Any]]], action: str) -> dict[str, Any]:
    """Write into one job. An update deletes by id and creates again, so it brings back what somebody deleted."""
    gone = {kind: {thing.get("id") for thing in asked[kind]} for kind in KINDS}
    changed = any(asked.values()) or (action == "put" and any(getattr(job, kind) for kind in KINDS))
    written: dict[str, Any] = {"version": 0, "tags": [], "shapes": [], "tracks": []}
    for kind in KINDS:
        kept = [] if action == "put" else getattr(job, kind)
        if action in ("update", "delete"):
            kept = [thing for thing in kept if thing["id"] not in gone[kind]]
        if action != "delete":
            written[kind] = [stored(world, kind, thing) for thing in asked[kind]]
        setattr(job, kind, kept + written[kind])
    if changed:
        world.touch(job)
    return asked | {"version": 0} if action == "delete" else written


def shown(world: World, jobs: list[Job]) -> dict[str, Any]:
    """What is there, by frame and then id, attributes never written filled with their defaults."""
    result: dict[str, Any] = {"version": 0}
    for kind in KINDS:
        things = [thing for job in jobs for thing in getattr(job, kind)]
        things.sort(key=lambda thing: (thing["frame"], thing["id"]))
        if kind == "tracks":
            result[kind] = [shown_track(world.labels[thing["label_id"]], thing) for thing in things]
            continue
        extra = UNSENDABLE if kind == "shapes" else {}
        result[kind] = [
            {**thing, **extra, "attributes": filled(world.labels[thing["label_id"]], thing)} for thing in things
        ]
    return result


def filled(label: Label, thing: dict[str, Any]) -> list[dict[str, Any]]:
    given = {value["spec_id"]: value["value"] for value in thing["attributes"]}
    return [
        {"spec_id": spec["id"], "value": given.get(spec["id"], spec["default_value"])} for spec in label.attributes
    ]


def merged(world: World, task: Task, jobs: list[Job]) -> dict[str, Any]:
    """A task's annotations: of two jobs' shapes on a shared frame, those that overlap by 0.75 count as one."""
    result = shown(world, jobs)
    if not task.overlap:
        return result
    owner = {id(thing): job for job in jobs for thing in job.shapes}
    of = {thing["id"]: owner[id(thing)] for job in jobs for thing in job.shapes}
    kept: list[dict[str, Any]] = []
    for shape in result["shapes"]:
        if not any(of[other["id"]] is not of[shape["id"]] and same(shape, other) for other in kept):
            kept.append(shape)
    return {**result, "shapes": kept}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if any(one[name] != other[name] for name in ("frame", "label_id", "type")):
        return False
    if one["type"] != "rectangle":
        return bool(one["points"] == other["points"])
    (left, top, right, bottom), (x1, y1, x2, y2) = one["points"], other["points"]
    shared = max(0.0, min(right, x2) - max(left, x1)) * max(0.0, min(bottom, y2) - max(top, y1))
    union = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1) - shared
    return union > 0 and shared / union >= 0.75


def action_of(request: Request) -> str:
    action = request.query.get("action", "")
    if action not in ("create", "update", "delete"):
        raise RefusedError(400, ["Please specify a correct 'action' for the request"])
    return action


def body_of(request: Request) -> Any:
    data = request.json()
    numbers = [
        value
        for shape in (data.get("shapes") or [] if isinstance(data, dict) else [])
        for value in shape.get("points", [])
        if isinstance(value, float)
    ]
    if not all(map(math.isfinite, numbers)):
        raise RefusedError(400, {"detail": "JSON parse error - Out of range float values are not JSON compliant"})
    return data


def routes(world: World, table: Routes) -> None:
    def working(task: Task) -> list[Job]:
        return [job for job in world.jobs_of(task) if job.type == "annotation"]

    def write_task(request: Request, task: Task, action: str) -> Response:
        asked = check(body_of(request), "create" if action == "put" else action)
        parts = [(job, within(asked, job.start, job.stop)) for job in working(task)]
        for _, part in parts:
            check_labels(world, task, part)
        written: dict[str, Any] = {"version": 0, "tags": [], "shapes": [], "tracks": []}
        for job, part in parts:
            answer = apply(world, job, part, action)
            for kind in KINDS:
                written[kind] += answer[kind]
        return Response(body=written)

    def write_job(request: Request, job: Job, action: str) -> Response:
        asked = check(body_of(request), "create" if action == "put" else action)
        check_labels(world, job.task, asked)
        return Response(body=apply(world, job, asked, action))

    def with_data(request: Request, key: str) -> Task:
        task = task_of(world, request, key)
        if not task.has_data:
            raise RefusedError(400, Page("Exporting annotations from a task without data is not allowed"))
        return task

    @table.on("GET", "/tasks/{key}/annotations")
    def read_task(request: Request, key: str) -> Response:
        task = with_data(request, key)
        return Response(body=merged(world, task, working(task)))

    @table.on("PUT", "/tasks/{key}/annotations")
    def put_task(request: Request, key: str) -> Response:
        return write_task(request, with_data(request, key), "put")

    @table.on("PATCH", "/tasks/{key}/annotations")
    def patch_task(request: Request, key: str) -> Response:
        return write_task(request, with_data(request, key), action_of(request))

    @table.on("DELETE", "/tasks/{key}/annotations")
    def clear_task(request: Request, key: str) -> Response:
        for job in working(with_data(request, key)):
            apply(world, job, {kind: [] for kind in KINDS}, "put")
        return Response(204)

    @table.on("GET", "/jobs/{key}/annotations")
    def read_job(request: Request, key: str) -> Response:
        return Response(body=shown(world, [job_of(world, request, key)]))

    @table.on("PUT", "/jobs/{key}/annotations")
    def put_job(request: Request, key: str) -> Response:
        return write_job(request, job_of(world, request, key), "put")

    @table.on("PATCH", "/jobs/{key}/annotations")
    def patch_job(request: Request, key: str) -> Response:
        job = job_of(world, request, key)
        require_job(world, request, job)
        return write_job(request, job, action_of(request))

    @table.on("DELETE", "/jobs/{key}/annotations")
    def clear_job(request: Request, key: str) -> Response:
        apply(world, job_of(world, request, key), {kind: [] for kind in KINDS}, "put")
        return Response(204)
