"""The door answers by exact method and path, and leaves all others to FastAPI, which knows what to say of them."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_requests import IMAGE, RAW, model, post, server
from stream_support import in_thread

from osv_lab.serve.asked import Asked
from osv_lab.serve.door import Door
from osv_lab.serve.keys import Keys, add_key
from osv_lab.serve.message import Answer, json_answer
from osv_lab.serve.metrics import Metrics
from osv_lab.serve.run import ServerHandle, start_server

__all__ = ["model", "server"]

AT_THE_DOOR = {"/health": "GET", "/ready": "GET", "/predict": "POST", "/predict/batch": "POST"}


@pytest.mark.parametrize("path", AT_THE_DOOR)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_another_method_is_refused_and_the_right_one_named(server: ServerHandle, path: str, method: str) -> None:
    if method == AT_THE_DOOR[path]:
        return
    origin = {"Origin": "http://example.org", "Access-Control-Request-Method": AT_THE_DOOR[path]}
    answer = httpx.request(method, server.url + path, headers=origin, trust_env=False)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == AT_THE_DOOR[path]
    assert not [name for name in answer.headers if name.startswith("access-control")], "no other origin may"
    if method != "HEAD":
        assert answer.json()["error"]["what"] == "method not allowed"


def test_a_slash_too_many_leads_to_the_door(server: ServerHandle) -> None:
    for path, method in AT_THE_DOOR.items():
        answer = httpx.request(method, f"{server.url}{path}/?classes=cat", trust_env=False)
        assert (answer.status_code, answer.headers["Location"]) == (307, f"{server.url}{path}?classes=cat")
    assert post(server, "/predict/", content=IMAGE, headers=RAW, follow_redirects=True).status_code == 200
    for path in ("//predict", "/Predict", "/predict/one", "/predict%00"):
        assert post(server, path, content=IMAGE, headers=RAW).status_code in (404, 405), path


def test_no_origin_is_let_in_and_a_class_beside_another_counts(server: ServerHandle) -> None:
    answer = post(server, "/predict?classes=cat&classes=lamp", content=IMAGE, headers={**RAW, "Origin": "null"})
    assert len(answer.json()["predictions"]) == 1
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_key_comes_before_the_body(model: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    predict, metrics = add_key(keys, "camera", ["predict"]), add_key(keys, "prometheus", ["metrics"])
    with start_server(model, key=Keys.from_file(keys), processes=0) as handle:
        for path in ("/predict", "/predict/batch"):
            for key, status in ((None, 401), ("wrong", 401), (metrics, 403), (predict, 413)):
                # Nothing of the body is sent: the answer does not wait for it.
                asking = http.client.HTTPConnection("127.0.0.1", handle.port, timeout=20)
                asking.putrequest("POST", path)
                asking.putheader("Content-Length", str(10**12))
                if key is not None:
                    asking.putheader("Authorization", f"Bearer {key}")
                asking.endheaders()
                answer = asking.getresponse()
                assert answer.status == status, (path, key)
                assert ("WWW-Authenticate" in answer.headers) == (status == 401)
                asking.close()


class Client:
    """Speaks ASGI to a door whose parts are the test's."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def ask(self, method: str, path: str) -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
        await self._door(scope, receive, send)
        return int(sent[0]["status"])

    async def live(self) -> list[str]:
        """From start to stop; what was said."""
        heard, said = iter(["lifespan.startup", "lifespan.shutdown"]), []

        async def receive() -> dict[str, Any]:
            return {"type": next(heard)}

        async def send(message: Any) -> None:
            said.append(message["type"])

        try:
            await self._door({"type": "lifespan"}, receive, send)
        except RuntimeError as error:
            said.append(str(error))
        return said


async def fine(_: Asked) -> Answer:
    return json_answer({})


def door(living: Any, **routes: Any) -> Door:
    async def rest(scope: Any, receive: Any, send: Any) -> None:
        await json_answer({}, 404).send(send)

    handlers = {("GET", f"/{name}"): handler for name, handler in routes.items()}
    return Door(handlers, {}, lambda: rest, living, Metrics(), None)


@asynccontextmanager
async def quiet() -> AsyncIterator[None]:
    yield


def test_what_fails_at_the_door_is_an_answer_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Asked) -> Answer:
        raise ValueError("within")

    client = Client(door(quiet, fine=fine, broken=broken))
    asked = [in_thread(partial(asyncio.run, client.ask("GET", path))) for path in ("/fine", "/broken", "/other")]
    assert asked == [200, 500, 404]
    assert [record.message for record in caplog.records] == ["a request failed"]


@pytest.mark.parametrize("when", ["startup", "shutdown"])
def test_a_start_or_a_stop_that_fails_is_said(when: str, caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def failing() -> AsyncIterator[None]:
        if when == "startup":
            raise RuntimeError("it broke")
        yield
        raise RuntimeError("it broke")

    said = in_thread(lambda: asyncio.run(Client(door(failing)).live()))
    assert said[-2:] == [f"lifespan.{when}.failed", "it broke"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert in_thread(lambda: asyncio.run(Client(door(quiet)).live())) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
