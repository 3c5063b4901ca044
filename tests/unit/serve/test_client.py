"""Both clients against a server that is busy, breaks off, or is none: when they ask again, and what they make of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest
from tiny_model import write_tiny_model

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UnavailableError, UsageError
from osv_lab.serve import client as client_module
from osv_lab.serve.client import AsyncClient, Client, Prediction
from osv_lab.serve.run import start_server

Result = TypeVar("Result")

ANSWER = {
    "model": {"ref": "m", "task": "detect", "digest": None},
    "image": {"width": 4, "height": 4},
    "predictions": [],
    "timing_ms": {},
}
BUSY = {"error": {"what": "the server is busy", "found": "", "fix": "try again"}}


@dataclass
class Moody:
    """A server that answers as it is told, and remembers who asked."""

    moods: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    url: str = ""


@pytest.fixture
def moody() -> Iterator[Moody]:
    state = Moody()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            state.asked.append(self.path)
            state.connections.add(self.client_address)
            mood = state.moods.pop(0) if state.moods else 200
            if mood == "hang up":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status, headers = mood if isinstance(mood, tuple) else (mood, {})
            body = json.dumps(ANSWER if status == 200 else BUSY).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting takes no time here; how long it would have been is written down."""
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    loop = SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread)
    monkeypatch.setattr(client_module, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(client_module, "asyncio", loop)
    return waited


Ask = Callable[..., Prediction]


def ask_sync(url: str, *, predict: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> Prediction:
    with Client(url, **options) as client:
        return client.predict(b"x", **predict)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """In a thread of its own: the browser tests of the same process keep a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def ask_async(url: str, *, predict: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> Prediction:
    async def ask() -> Prediction:
        async with AsyncClient(url, **options) as client:
            return await client.predict(b"x", **predict)

    return run(ask())


BOTH = pytest.mark.parametrize("ask", [ask_sync, ask_async])


@BOTH
def test_a_busy_server_is_asked_again_when_it_said(moody: Moody, waits: list[float], ask: Ask) -> None:
    moody.moods = [(503, {"Retry-After": "2"}), (503, {"Retry-After": "1"}), 200]
    assert ask(moody.url).width == 4
    assert waits == [2.0, 1.0]
    assert len(moody.asked) == 3
    assert len(moody.connections) == 1, "one connection for all"


@BOTH
def test_without_a_word_the_waits_double(moody: Moody, waits: list[float], ask: Ask) -> None:
    moody.moods = [503] * 10
    with pytest.raises(UnavailableError, match="busy"):
        ask(moody.url, retries=4)
    assert len(moody.asked) == 5
    for wait, least in zip(waits, [0.25, 0.5, 1.0, 2.0], strict=True):
        assert least <= wait <= least * 1.25


@BOTH
def test_a_broken_connection_is_made_again(moody: Moody, waits: list[float], ask: Ask) -> None:
    moody.moods = ["hang up", "hang up", 200]
    assert ask(moody.url).width == 4
    assert len(moody.asked) == 3


@BOTH
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 500])
def test_other_answers_are_final(moody: Moody, waits: list[float], ask: Ask, status: int) -> None:
    moody.moods = [status]
    with pytest.raises(OsvError):
        ask(moody.url)
    assert len(moody.asked) == 1
    assert waits == []


@BOTH
def test_a_server_that_wants_an_hour_is_left_alone(moody: Moody, waits: list[float], ask: Ask) -> None:
    moody.moods = [(503, {"Retry-After": "3600"})]
    with pytest.raises(UnavailableError):
        ask(moody.url)
    assert waits == []


@BOTH
def test_no_retries(moody: Moody, waits: list[float], ask: Ask) -> None:
    moody.moods = [503]
    with pytest.raises(UnavailableError):
        ask(moody.url, retries=0)
    with pytest.raises(UsageError, match="at least 0"):
        ask(moody.url, retries=-1)
    with pytest.raises(UsageError, match="asked by URL"):
        ask("127.0.0.1:8000")
    with pytest.raises(UnavailableError, match="osv serve"):
        ask("http://127.0.0.1:9")


@BOTH
def test_an_option_that_does_not_exist(moody: Moody, ask: Ask) -> None:
    with pytest.raises(UsageError, match="did you mean 'confidence_threshold'"):
        ask(moody.url, predict={"confidense_threshold": 0.5})
    assert not moody.asked, "nothing was sent"


def test_the_async_client_on_a_real_server(tmp_path: Path) -> None:
    """Many at once, batches in order, a bad item alone, as the other client answers."""
    levels = [90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190]
    images: list[Any] = [
        cv2.imencode(".png", np.full((32, 32, 3), level, np.uint8))[1].tobytes() for level in levels
    ]

    def score(one: Prediction) -> int:
        return round(one.predictions[0]["confidence"] * 255)

    async def work(url: str) -> None:
        async with AsyncClient(url) as client:
            assert await client.health()
            assert (await client.models())[0]["ref"] == "tiny.onnx"
            at_once = await asyncio.gather(*(client.predict(image) for image in images))
            assert [score(one) for one in at_once] == levels
            mixed = list(images)
            mixed[2], mixed[5] = tmp_path / "none.png", b"no image at all, only some words"
            for batch_size in (1, 3, 8, 64):
                found = await client.predict_batch(mixed, batch_size)
                assert [index for index, one in enumerate(found) if one.error] == [2, 5]
                assert [score(one) for one in found if not one.error] == [*levels[:2], *levels[3:5], *levels[6:]]
            assert await client.predict_batch([]) == []
            with pytest.raises(UsageError, match="between 1 and 64"):
                await client.predict_batch(images, 0)
            with pytest.raises(InvalidDataError, match="did you mean 'lamp'"):
                await client.predict(images[0], classes=["lapm"])
            data = "data:image/png;base64," + base64.b64encode(images[0]).decode()
            assert score(await client.predict(data)) == levels[0]

            with pytest.raises(NotFoundError, match="loaded are: default"):
                await client.predict(images[0], model="tyni")

    with start_server(write_tiny_model(tmp_path / "tiny.onnx")) as server:
        run(work(server.url))
        with Client(server.url) as client:
            assert [score(one) for one in client.predict_batch(images, 3)] == levels
    with contextlib.closing(Client(server.url)) as client:
        assert not client.health()
