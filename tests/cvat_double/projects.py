"""Organizations, projects and their labels."""

from __future__ import annotations

from typing import Any

from cvat_double.access import basic, in_context, is_staff, require_job, require_staff, require_user
from cvat_double.http import SERVER_ERROR, RefusedError, Request, Response, Routes, page
from cvat_double.state import Label, Organization, Project, World, now

PALETTE = ("#e5b557", "#7ca7df", "#e400a8", "#33ddff", "#fa3253", "#34d1b7")


def project_of(world: World, request: Request, key: str) -> Project:
    require_user(request)
    project = world.projects.get(int(key)) if key.isdigit() else None
    if project is None:
        raise RefusedError(404, {"detail": "No Project matches the given query."})
    require_staff(world, request, project)
    return project


def shown_label(label: Label) -> dict[str, Any]:
    return {
        "id": label.id,
        "name": label.name,
        "color": label.color,
        "attributes": label.attributes,
        "type": label.type,
        "sublabels": [],
        **({"project_id": label.project_id} if label.project_id else {"task_id": label.task_id}),
        "parent_id": None,
        "has_parent": False,
    }


def shown_project(world: World, request: Request, project: Project) -> dict[str, Any]:
    tasks = [task for task in world.tasks.values() if task.project_id == project.id]
    return {
        "url": f"{request.base}/api/projects/{project.id}",
        "id": project.id,
        "name": project.name,
        "owner": basic(request, project.owner),
        "assignee": basic(request, project.assignee),
        "guide_id": None,
        "bug_tracker": "",
        "created_date": project.created,
        "updated_date": project.updated,
        "status": "annotation",
        "dimension": "2d" if tasks else None,
        "organization": project.organization.id if project.organization else None,
        "organization_id": project.organization.id if project.organization else None,
        "target_storage": None,
        "source_storage": None,
        "tasks": {"count": len(tasks), "url": f"{request.base}/api/tasks?project_id={project.id}"},
        "labels": {"url": f"{request.base}/api/labels?project_id={project.id}"},
        "assignee_updated_date": None,
        "task_subsets": sorted({task.subset for task in tasks if task.subset}),
    }


def merge_attributes(world: World, label: Label, asked: list[dict[str, Any]]) -> None:
    """Attributes named anew are added, those known are changed, none is removed for being left out."""
    for spec in asked:
        known = next((one for one in label.attributes if spec.get("id", one["id"]) == one["id"]), None)
        if known is None or "id" not in spec:
            known = next((one for one in label.attributes if one["name"] == spec.get("name")), None)
        if known is None:
            known = {"id": world.next_id("attribute"), "name": spec["name"], "mutable": False}
            known |= {"input_type": "text", "default_value": "", "values": [""]}
            label.attributes.append(known)
        known |= {key: value for key, value in spec.items() if key in known and key != "id"}


def change_label(world: World, label: Label, asked: dict[str, Any]) -> None:
    label.name = asked.get("name", label.name)
    label.color = asked.get("color") or label.color
    label.type = asked.get("type", label.type)
    merge_attributes(world, label, asked.get("attributes", []))


def delete_label(world: World, label: Label) -> None:
    """A label takes all that was drawn with it along."""
    del world.labels[label.id]
    for job in world.jobs.values():
        for kind in ("tags", "shapes", "tracks"):
            kept = [one for one in getattr(job, kind) if one["label_id"] != label.id]
            setattr(job, kind, kept)


def merge_labels(world: World, asked: list[dict[str, Any]], owner: dict[str, int | None]) -> None:
    project, task = owner.get("project_id"), owner.get("task_id")
    existing = [one for one in world.labels.values() if (one.project_id, one.task_id) == (project, task)]
    kept = [one.name for one in existing if one.id not in {label.get("id") for label in asked}]
    names = kept + [label["name"] for label in asked if "name" in label and not label.get("deleted")]
    if len(set(names)) != len(names):
        raise RefusedError(400, ["All label names must be unique"])
    for wanted in asked:
        label = world.labels.get(wanted["id"]) if "id" in wanted else None
        if "id" in wanted and label not in existing:
            raise RefusedError(404, {"detail": f"Not found label with id #{wanted['id']} to change"})
        if label is None:
            number = world.next_id("label")
            label = Label(number, wanted["name"], project, task, color=PALETTE[number % len(PALETTE)])
            world.labels[number] = label
        if wanted.get("deleted"):
            delete_label(world, label)
        else:
            change_label(world, label, wanted)


def routes(world: World, table: Routes) -> None:
    @table.on("GET", "/organizations")
    def organizations(request: Request) -> Response:
        user = require_user(request)
        found = [one for one in world.organizations.values() if user.is_admin or user.id in one.members]
        slug = request.query.get("slug")
        return page(request, [_organization(request, one) for one in reversed(found) if slug in (None, one.slug)])

    @table.on("POST", "/organizations")
    def make_organization(request: Request) -> Response:
        user, asked = require_user(request), request.json()
        if any(one.slug == asked["slug"] for one in world.organizations.values()):
            raise RefusedError(400, {"slug": ["organization with this slug already exists."]})
        organization = Organization(world.next_id("organization"), asked["slug"], user, {user.id: "owner"})
        world.organizations[organization.id] = organization
        return Response(201, _organization(request, organization))

    @table.on("GET", "/projects")
    def projects(request: Request) -> Response:
        user = require_user(request)
        rows = [
            shown_project(world, request, project)
            for project in reversed(world.projects.values())
            if in_context(request, project) and is_staff(world, user, project)
        ]
        name, search = request.query.get("name"), request.query.get("search", "")
        return page(request, [row for row in rows if name in (None, row["name"]) and search in row["name"]])

    @table.on("POST", "/projects")
    def make_project(request: Request) -> Response:
        user, asked = require_user(request), request.json()
        if not asked.get("name"):
            raise RefusedError(400, {"name": ["This field is required."]})
        project = Project(world.next_id("project"), asked["name"], user, request.organization)
        merge_labels(world, asked.get("labels", []), {"project_id": project.id})
        world.projects[project.id] = project
        return Response(201, shown_project(world, request, project))

    @table.on("GET", "/projects/{key}")
    def project(request: Request, key: str) -> Response:
        return Response(body=shown_project(world, request, project_of(world, request, key)))

    @table.on("PATCH", "/projects/{key}")
    def change_project(request: Request, key: str) -> Response:
        project, asked = project_of(world, request, key), request.json()
        merge_labels(world, asked.get("labels", []), {"project_id": project.id})
        project.name = asked.get("name", project.name)
        if "assignee_id" in asked:
            project.assignee = world.users.get(asked["assignee_id"])
        project.updated = now()
        return Response(body=shown_project(world, request, project))

    @table.on("DELETE", "/projects/{key}")
    def delete_project(request: Request, key: str) -> Response:
        project = project_of(world, request, key)
        for task in [task for task in world.tasks.values() if task.project_id == project.id]:
            world.forget(task)
        world.labels = {key: label for key, label in world.labels.items() if label.project_id != project.id}
        del world.projects[project.id]
        return Response(204)

    @table.on("GET", "/labels")
    def labels(request: Request) -> Response:
        require_user(request)
        query = request.query
        if "job_id" in query:
            job = world.jobs.get(int(query["job_id"]))
            if job is None:
                return Response(500, SERVER_ERROR)
            require_job(world, request, job)
            found = world.labels_of(job.task)
        elif "task_id" in query:
            task = world.tasks.get(int(query["task_id"]))
            if task is None:
                return Response(500, SERVER_ERROR)
            require_staff(world, request, task)
            found = world.labels_of(task)
        elif "project_id" in query:
            if int(query["project_id"]) not in world.projects:
                return Response(500, SERVER_ERROR)
            project = project_of(world, request, query["project_id"])
            found = [label for label in world.labels.values() if label.project_id == project.id]
        else:
            found = list(world.labels.values())
        return page(request, [shown_label(label) for label in found])

    @table.on("GET", "/labels/{key}")
    def label(request: Request, key: str) -> Response:
        return Response(body=shown_label(_label(world, request, key)))

    @table.on("PATCH", "/labels/{key}")
    def patch_label(request: Request, key: str) -> Response:
        label = _label(world, request, key)
        change_label(world, label, request.json())
        return Response(body=shown_label(label))

    @table.on("DELETE", "/labels/{key}")
    def remove_label(request: Request, key: str) -> Response:
        delete_label(world, _label(world, request, key))
        return Response(204)


def _label(world: World, request: Request, key: str) -> Label:
    require_user(request)
    label = world.labels.get(int(key))
    if label is None:
        raise RefusedError(404, {"detail": "No Label matches the given query."})
    owner = world.projects.get(label.project_id or 0) or world.tasks[label.task_id or 0]
    require_staff(world, request, owner)
    return label


def _organization(request: Request, organization: Organization) -> dict[str, Any]:
    return {
        "id": organization.id,
        "slug": organization.slug,
        "name": organization.slug,
        "description": "",
        "created_date": "2026-01-01T00:00:00Z",
        "updated_date": "2026-01-01T00:00:00Z",
        "contact": {},
        "owner": basic(request, organization.owner),
    }
