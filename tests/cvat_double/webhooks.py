"""Webhooks of projects: registered, removed, and told of jobs that change, with CVAT's signature."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import threading
import urllib.request
from typing import Any

from cvat_double.access import basic, require_staff, require_user
from cvat_double.http import RefusedError, Request, Response, Routes, page
from cvat_double.state import World, now

_SHOWN = ("target_url", "description", "type", "content_type", "is_active", "enable_ssl", "events")


def tell(world: World, request: Request, event: str, project: int | None, what: dict[str, Any]) -> None:
    """Send a notice to everybody who asked for it, after the answer to what caused it."""
    for number, hook in list(world.webhooks.items()):
        if hook["project"] == project and hook["is_active"] and event in hook["events"]:
            notice = {"event": event, **what, "webhook_id": number, "sender": basic(request, request.user)}
            threading.Timer(0.02, deliver, (hook, notice)).start()


def deliver(hook: dict[str, Any], notice: dict[str, Any]) -> None:
    body = json.dumps(notice).encode()
    headers = {"Content-Type": "application/json"}
    if hook["secret"]:
        headers["X-Signature-256"] = (
            "sha256=" + hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
        )
    with contextlib.suppress(OSError):
        urllib.request.urlopen(urllib.request.Request(hook["target_url"], body, headers), timeout=5).close()


def shown(request: Request, number: int, hook: dict[str, Any]) -> dict[str, Any]:
    """All but the secret, which is write-only."""
    return {
        "id": number,
        "url": f"{request.base}/api/webhooks/{number}",
        **{name: hook[name] for name in _SHOWN},
        "project_id": hook["project"],
        "created_date": hook["created"],
        "last_status": None,
    }


def routes(world: World, table: Routes) -> None:
    def project_of(request: Request, number: Any) -> Any:
        project = world.projects.get(int(number or 0))
        if project is None:
            raise RefusedError(404, {"detail": "Not found."})
        require_staff(world, request, project)
        return project

    @table.on("GET", "/webhooks")
    def webhooks(request: Request) -> Response:
        require_user(request)
        wanted = request.query.get("project_id")
        rows = [
            shown(request, number, hook)
            for number, hook in reversed(world.webhooks.items())
            if wanted in (None, str(hook["project"]))
        ]
        return page(request, rows)

    @table.on("POST", "/webhooks")
    def make(request: Request) -> Response:
        asked = request.json()
        project = project_of(request, asked.get("project_id"))
        for name in ("target_url", "type", "events"):
            if not asked.get(name):
                raise RefusedError(400, {name: ["This field is required."]})
        defaults = {"description": "", "content_type": "application/json", "is_active": True, "enable_ssl": True}
        number = world.next_id("webhook")
        world.webhooks[number] = {"secret": "", **defaults, **asked, "project": project.id, "created": now()}
        return Response(201, shown(request, number, world.webhooks[number]))

    @table.on("DELETE", "/webhooks/{key}")
    def remove(request: Request, key: str) -> Response:
        hook = world.webhooks.get(int(key))
        if hook is None:
            raise RefusedError(404, {"detail": "No Webhook matches the given query."})
        project_of(request, hook["project"])
        del world.webhooks[int(key)]
        return Response(204)
