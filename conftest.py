"""For tests and for examples in docstrings: a session of their own, workers, and the world that examples speak of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from example_world import staged
from isolation import SESSION

# Looking for examples in it would run it again, and what is started afterwards would be of another session.
collect_ignore = ["tests/isolation.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (``-n``): a file stays with one worker for its fixtures, all that want the demo with another, and
    all examples with one that makes their world."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            group = "examples"
        elif "demo_run" in getattr(item, "fixturenames", ()):
            group = "demo"
        else:
            group = str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("OSV_KEEP_TEST_FILES") is None:
        shutil.rmtree(SESSION, ignore_errors=True)


@pytest.fixture(autouse=True)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The names and files that a docstring's examples speak of (:mod:`example_world`)."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    test, run = request.node.dtest, request.node.runtest
    folder: Path = tmp_path_factory.mktemp("example")
    with staged(test.examples, test.globs, folder, SESSION / "examples") as names, ThreadPoolExecutor(1) as thread:
        test.globs.update(names)
        # In a thread of its own: browser tests leave an event loop in this one, beside which none can be run.
        request.node.runtest = lambda: thread.submit(run).result()
        yield
