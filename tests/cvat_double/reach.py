"""Signing in to a CVAT server with the real client library, the double or any other."""

from __future__ import annotations

import json
import urllib.request
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cvat_sdk import Client


class Reachable:
    """A server and an account that may create projects on it."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url, self.user, self.password = url, user, password
        self._clients: list[Client] = []

    def client(self, user: str | None = None, password: str | None = None, *, token: str | None = None) -> Client:
        """A signed-in client in the personal workspace that asks for finished work often."""
        from cvat_sdk import make_client

        if token is not None:
            client = make_client(self.url, access_token=token)
        else:
            client = make_client(self.url, credentials=(user or self.user, password or self.password))
        client.organization_slug = ""
        client.config.status_check_period = 0.05
        self._clients.append(client)
        return client

    def new_person(self) -> tuple[str, str]:
        """User name and password of an ordinary person, made for the occasion."""
        name, password = f"ann-{uuid.uuid4().hex[:10]}", f"Korb-{uuid.uuid4().hex[:8]}!"
        asked = {"username": name, "email": f"{name}@example.com", "password1": password, "password2": password}
        request = urllib.request.Request(
            f"{self.url}/api/auth/register",
            data=json.dumps({**asked, "confirmations": []}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()
        return name, password

    def as_annotator(self, *jobs: int) -> Client:
        """A client signed in as a new person, to whom the jobs are assigned."""
        annotator = self.client(*self.new_person())
        person = annotator.users.retrieve_current_user().id
        staff = self.client()
        for job in jobs:
            staff.jobs.retrieve(job).update({"assignee": person})
        return annotator

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
