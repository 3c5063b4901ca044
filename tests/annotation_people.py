"""What people do in CVAT, and what a dataset and a server hold afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from osv_lab.annotate import AnnotationLoop
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.records import Runs


@contextlib.contextmanager
def looping(dataset: Any) -> Iterator[AnnotationLoop]:
    """The loop of a dataset; what it made on the server is deleted afterwards."""
    with AnnotationLoop(dataset, organization="") as found:
        yield found
        for name in Runs(dataset).names():
            found.cancel(name)
        for project in found.connection.pages("/api/projects", {"name": dataset.name}):
            found.connection.call("DELETE", f"/api/projects/{project['id']}")


def at_upload(patch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let something happen whenever images begin to be uploaded."""
    plain = Connection.call

    def call(self: Connection, method: str, path: str, *rest: Any, **options: Any) -> Any:
        if method == "POST" and path.endswith("/data/"):
            happens()
        return plain(self, method, path, *rest, **options)

    patch.setattr(Connection, "call", call)


class Annotator:
    """What a person does in CVAT, in a whole task or in one job of it."""

    def __init__(self, cvat: Connection, task: int, job: int | None = None) -> None:
        self.cvat, self.task = cvat, task
        self.path = f"/api/tasks/{task}/annotations" if job is None else f"/api/jobs/{job}/annotations"
        self.labels = {one["name"]: one["id"] for one in cvat.pages("/api/labels", {"task_id": task})}

    def objects(self, kind: str = "shapes") -> list[dict[str, Any]]:
        found = [{k: v for k, v in one.items() if v is not None} for one in self.cvat.get(self.path)[kind]]
        # Ids follow the order in which jobs were written, several at once.
        return sorted(found, key=lambda one: (one["frame"], one["id"]))

    def do(self, action: str, *objects: dict[str, Any], kind: str = "shapes") -> None:
        body = {"version": 0, "shapes": [], "tags": [], "tracks": []}
        self.cvat.call("PATCH", self.path, {"action": action}, {**body, kind: list(objects)})

    def finish(self, *jobs: int) -> None:
        every = sorted(job["id"] for job in self.cvat.pages("/api/jobs", {"task_id": self.task}))
        for job in jobs or every:
            self.cvat.call("PATCH", f"/api/jobs/{job}", body={"state": "completed"})


def labels_of(dataset: Any, field: str = "pred") -> dict[str, Any]:
    dataset.reload()
    return {sample.id: sample[field].to_dict() for sample in dataset}


def tasks_of(loop: AnnotationLoop) -> list[int]:
    name = loop.dataset.name
    return [
        one["id"] for one in loop.connection.pages("/api/tasks", {"search": name}) if one["name"].startswith(name)
    ]
