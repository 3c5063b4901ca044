"""Fixtures: ``cvat``, a double for each test, and ``cvat_server``, which is any server that is to behave like one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cvat_double.reach import Reachable
from cvat_double.server import CvatDouble

if TYPE_CHECKING:
    from cvat_sdk import Client
    from cvat_sdk.core.proxies.projects import Project
    from cvat_sdk.core.proxies.tasks import Task

    from cvat_double.scenes import MakeTask


@pytest.fixture
def cvat() -> Iterator[CvatDouble]:
    """A running double, empty but for its administrator; an error inside it fails the test."""
    double = CvatDouble()
    yield double
    double.close()
    assert not double.unexpected, double.unexpected


@pytest.fixture(params=["double", *(["real"] if os.environ.get("OSV_CVAT_URL") else [])])
def cvat_server(request: pytest.FixtureRequest) -> Iterator[Reachable]:
    """The double, and besides it the server of OSV_CVAT_URL, OSV_CVAT_USER and OSV_CVAT_PASSWORD if there is one."""
    if request.param == "double":
        yield request.getfixturevalue("cvat")
        return
    server = Reachable(*(os.environ[f"OSV_CVAT_{name}"] for name in ("URL", "USER", "PASSWORD")))
    yield server
    server.close()


@pytest.fixture
def cvat_client(cvat_server: Reachable) -> Client:
    return cvat_server.client()


@pytest.fixture
def cvat_project(cvat_client: Client) -> Iterator[Project]:
    """A project with the labels cell, which has an attribute, and crack; deleted afterwards with its tasks."""
    from cvat_sdk import models

    from cvat_double.scenes import UID

    labels = [models.PatchedLabelRequest(name="cell", attributes=[UID]), models.PatchedLabelRequest(name="crack")]
    name = f"osv-{uuid.uuid4().hex[:8]}"
    made = cvat_client.projects.create(models.ProjectWriteRequest(name=name, labels=labels))
    yield made
    made.remove()


@pytest.fixture
def make_cvat_task(cvat_client: Client, cvat_project: Project, tmp_path: Path) -> MakeTask:
    """Makes tasks of the project with so many images, two to a job unless told otherwise."""
    from cvat_sdk import models

    from cvat_double.scenes import PREDEFINED, pictures

    def make(frames: int = 5, **spec: Any) -> Task:
        asked = models.TaskWriteRequest(**{"name": "t", "project_id": cvat_project.id, "segment_size": 2, **spec})
        return cvat_client.tasks.create_from_data(asked, pictures(tmp_path, frames), data_params=PREDEFINED)

    return make
