"""Which task on the server a detector is to label, and which of its images are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from osv_lab.annotate.connection import Connection
from osv_lab.annotate.records import Runs
from osv_lab.annotate.status import check_server
from osv_lab.annotate.webhooks import task_keys
from osv_lab.core.errors import UsageError

if TYPE_CHECKING:
    import fiftyone as fo


@dataclass(frozen=True, slots=True)
class Target:
    """A task of images.

    Attributes:
        task: CVAT's id of it.
        record: Under which name it is recorded what was written.
        files: The image of each frame on this machine; the others come from the server.
    """

    task: int
    record: str
    files: Mapping[int, str] = field(default_factory=dict)


def task_of_run(cvat: Connection, dataset: fo.Dataset, key: str) -> Target:
    """The task of a run.

    Raises:
        NotFoundError: no such run.
        UsageError: the run is of videos or sequences, was not sent to its end, or is on another server.
    """
    run = Runs(dataset).get(key)
    check_server(cvat, run)
    if run.task is None or run.phase != "sent":
        raise UsageError(f"'{key}' was interrupted while {run.phase}", fix="run the same send or cancel again")
    if run.clips:
        raise UsageError("only tasks of images can be labelled", f"'{key}' is of clips", "autolabel, then send")
    paths = dict(zip(*dataset.select(run.samples).values(["id", "filepath"]), strict=True))
    files = {frame: paths[sample] for frame, sample in enumerate(run.samples) if sample in paths}
    return Target(run.task, key, files)


def task_of_server(cvat: Connection, dataset: fo.Dataset, task: int) -> Target:
    """Any task, with images from the server; what is written to one of ours is recorded with its run."""
    runs = Runs(dataset)
    key = task_keys(runs, cvat.settings.url).get(task)
    # What is recorded is of one task, and of clips each is one.
    ours = key is not None and not runs.get(key).clips
    return Target(task, key if ours and key else f"{cvat.settings.url}/tasks/{task}")
