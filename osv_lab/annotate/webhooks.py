"""Telling a CVAT server to tell us of changes, and acting on what it tells, for as long as somebody listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from osv_lab.annotate.connection import Connection
from osv_lab.annotate.listen import Listener
from osv_lab.annotate.records import Runs
from osv_lab.annotate.status import check_server
from osv_lab.core.errors import NotFoundError, UsageError

EVENTS = ("update:job", "update:task")
DESCRIPTION = "OpenSupervision Lab"
"""By this our webhooks are told from those of others."""
EVERYWHERE = ("", "0.0.0.0", "::")
"""Hosts that stand for all addresses of a machine, and are none that others reach."""


class Listening:
    """A listener for the runs of a dataset, told to the server for as long as it is open.

    Args:
        loop: The loop of the dataset; its own connection is not used by the thread that asks.
        keys: Which runs.
        ask: What to do for a run that something changed in.
        told: Called with each answer.
        target: How the server reaches us; by default the listener's own address.
        options: For :class:`Listener`.

    Raises:
        NotFoundError: no run, or none of a key.
        UsageError: a run on another server, or all addresses listened on and none told.
    """

    def __init__(
        self,
        loop: Any,
        keys: Sequence[str],
        ask: Callable[[Any, str], Any],
        told: Callable[[str, Any], Any],
        target: str | None,
        **options: Any,
    ) -> None:
        if not keys:
            raise NotFoundError("nothing to listen for", "no run", "send first")
        if target is None and options.get("host") in EVERYWHERE:
            raise UsageError(
                "CVAT has to be told how it reaches us",
                f"listening on {options['host']}",
                "give our address as target",
            )
        self._loop, self._keys = loop, tuple(keys)
        self._projects = self._projects_of_runs()
        self._own: Any = None
        self._ask, self._told = ask, told
        self.listener = Listener(self._changed, self._key_of, **options)
        self.target = target or self.listener.address
        try:
            for project in self._projects:
                register(loop.connection, project, self.target, self.listener.secret)
        except BaseException:
            self.close()
            raise
        # What changed before anybody listened.
        for key in self._keys:
            self.listener.hear(key)

    def close(self) -> None:
        """Tell the server to be quiet, and stop listening."""
        try:
            for project in self._projects:
                unregister(self._loop.connection, project, self.target)
        finally:
            self.listener.close()
            if self._own is not None:
                self._own.close()

    def __enter__(self) -> Listening:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _changed(self, key: str) -> None:
        if self._own is None:
            self._own = self._loop.another()
        self._told(key, self._ask(self._own, key))

    def _projects_of_runs(self) -> list[int]:
        runs = Runs(self._loop.dataset)
        found = set()
        for run in map(runs.get, self._keys):
            # On another server the same number is somebody else's project.
            check_server(self._loop.connection, run)
            if run.project is not None:
                found.add(run.project)
        return sorted(found)

    def _key_of(self, task: int) -> str | None:
        key = task_keys(Runs(self._loop.dataset), self._loop.connection.settings.url).get(task)
        return key if key in self._keys else None


def task_keys(runs: Runs, url: str) -> dict[int, str]:
    """The key of each task of ours on a server; of clips each is a task."""
    every = [runs.get(name) for name in runs.names()]
    return {task: run.key for run in every if run.url == url for task in run.tasks}


def register(cvat: Connection, project: int, target: str, secret: str) -> int:
    """Tell a project on the server to send notices; CVAT's id of the webhook.

    The same address is registered once: an earlier one of ours is taken away, for its secret is not known any more.
    """
    unregister(cvat, project, target)
    body = {
        "target_url": target,
        "description": DESCRIPTION,
        "type": "project",
        "content_type": "application/json",
        "secret": secret,
        "is_active": True,
        "enable_ssl": True,
        "project_id": project,
        "events": list(EVENTS),
    }
    return int(cvat.call("POST", "/api/webhooks", body=body)["id"])


def unregister(cvat: Connection, project: int, target: str | None = None) -> int:
    """Take the webhooks of ours (to one address) away; how many there were."""
    found = [
        one["id"]
        for one in cvat.pages("/api/webhooks", {"project_id": project})
        if one["description"] == DESCRIPTION and target in (None, one["target_url"])
    ]
    for number in found:
        cvat.call("DELETE", f"/api/webhooks/{number}")
    return len(found)
