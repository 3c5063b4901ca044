"""Fixtures that tests of several rooms share, and real data where it is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_driver import AppServer
from cvat_double.plugin import cvat, cvat_client, cvat_project, cvat_server, make_cvat_task
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from isolation import SESSION
from notebook_runner import notebook_lab
from support import ROOT, DemoRun, shared_data

__all__ = ["cvat", "cvat_client", "cvat_project", "cvat_server", "make_cvat_task", "notebook_lab", "shared_data"]

# No test asserts a time, and a submission is judged on the same examples every time.
hypothesis_settings.register_profile(
    "osv", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
hypothesis_settings.load_profile("osv")


@pytest.fixture(scope="session")
def output_dir() -> Path:
    """Where tests leave tables and screenshots for a person to look at."""
    folder = ROOT / "test-output"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def fo():  # type: ignore[no-untyped-def]
    """The FiftyOne module, its database ready."""
    from osv_lab.store.database import connect

    return connect()


@pytest.fixture
def dataset_name() -> Iterator[str]:
    """A dataset name that no other test uses; the dataset is deleted afterwards."""
    import uuid

    from osv_lab.store.database import connect

    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    fo = connect()
    if fo.dataset_exists(name):
        fo.delete_dataset(name)


@pytest.fixture(scope="session")
def demo_run() -> DemoRun:
    """``osv demo`` with its defaults, once per test session, in a process that cannot reach any other machine."""
    home, log = SESSION / "demo", SESSION / "network.log"
    guard = str(ROOT / "tests" / "guard")
    environment = {
        **os.environ,
        "OSV_HOME": str(home),
        "OSV_NETWORK_LOG": str(log),
        "PYTHONPATH": os.pathsep.join(filter(None, [guard, os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "osv_lab", "demo", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1200)
    assert run.returncode == 0, f"{run.stdout[-3000:]}\n{run.stderr[-6000:]}"
    return DemoRun(json.loads(run.stdout), home, log, run.stderr)


@pytest.fixture(scope="session")
def app_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The App's server with the lab's plugins, one for the session. Give each test a dataset of its own."""
    server = AppServer(tmp_path_factory.mktemp("app") / "server.log")
    yield server
    server.close()
