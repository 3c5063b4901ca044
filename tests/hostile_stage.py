"""What hostile requests meet: a server process, a site that plays the internet, a listener nobody may reach."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil
import pytest
from hostile_bodies import MEGABYTE, png_header
from server_requests import IMAGE, JSON, RAW, TEXT
from support import ROOT
from tiny_model import write_tiny_model

PUBLIC = "93.184.215.14"
"""Played by the test's own site."""

Attack = Callable[["Stage"], tuple[int, str]]
"""Sends one hostile request; gives the status and the body of the answer."""


class Site(http.server.BaseHTTPRequestHandler):
    """A public host with bad intentions."""

    inside: ClassVar[int] = 0

    def do_GET(self) -> None:
        inside = self.inside
        redirects = {
            "/to-loopback": f"http://127.0.0.1:{inside}/",
            "/to-ipv6": f"http://[::1]:{inside}/",
            "/to-mapped": f"http://[::ffff:127.0.0.1]:{inside}/",
            "/to-decimal": f"http://2130706433:{inside}/",
            "/to-name": f"http://inside.test:{inside}/",
            "/to-private": "http://10.0.0.8/",
            "/to-metadata": "http://169.254.169.254/latest/meta-data/",
            "/to-file": "file:///etc/passwd",
            "/to-ftp": "ftp://public.test/a.png",
            "/to-gopher": f"gopher://127.0.0.1:{inside}/_GET",
            "/to-data": f"data:image/png;base64,{TEXT}",
            "/to-user": f"http://a:b@127.0.0.1:{inside}/",
            "/to-rebound": f"http://rebinds-later.test:{inside}/",
            "/loop": "/loop",
            "/ping": "/pong",
            "/pong": "/ping",
        }
        if self.path in redirects:
            return self.answer(302, b"", Location=redirects[self.path])
        if self.path == "/a.png":
            return self.answer(200, IMAGE)
        if self.path == "/html":
            return self.answer(200, b"<html>", **{"Content-Type": "text/html"})
        if self.path == "/gzip":
            bomb = gzip.compress(bytes(20 * MEGABYTE))
            return self.answer(200, bomb, **{"Content-Encoding": "gzip"})
        if self.path == "/declared":
            return self.answer(200, b"", **{"Content-Length": str(10**12)})
        if self.path == "/short":
            return self.answer(200, IMAGE[:50], **{"Content-Length": str(len(IMAGE))})
        if self.path == "/bomb":
            return self.answer(200, png_header(12_000, 12_000))
        if self.path == "/gone":
            return self.answer(404, b"")
        if self.path == "/headers":
            return self.answer(200, IMAGE, **{f"X-{number}": "x" * 1000 for number in range(300)})
        if self.path == "/silent":
            time.sleep(4)
        return self.stream(
            b"x" * 65536 if self.path == "/endless" else b"x", 0 if self.path == "/endless" else 0.05
        )

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in ({"Content-Type": "image/png"} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def stream(self, piece: bytes, pause: float) -> None:
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            for _ in range(4000):
                self.wfile.write(piece)
                time.sleep(pause)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Inside(threading.Thread):
    """A service on loopback, in IPv4 and IPv6, that counts who reaches it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.reached = 0
        self.sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self.sockets[0].getsockname()[1]
        with contextlib.suppress(OSError):
            self.sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for one in self.sockets:
            threading.Thread(target=self.accept, args=(one,), daemon=True).start()

    def accept(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = one.accept()
                self.reached += 1
                connection.close()


@dataclass
class Stage:
    """Everything a hostile request can touch."""

    port: int
    process: subprocess.Popen[str]
    inside: Inside
    connections: Path
    site: tuple[str, int]
    at_first: int = 0
    peak: int = 0
    answers: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory(self) -> int:
        """Resident bytes of the server and its children."""
        server = psutil.Process(self.process.pid)
        total = 0
        for one in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
        self.peak = max(self.peak, total)
        return total

    def ready(self) -> bool:
        try:
            return httpx.get(self.url + "/ready", trust_env=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def serves(self) -> bool:
        response = httpx.post(self.url + "/predict", content=IMAGE, headers=RAW, trust_env=False, timeout=30)
        return response.status_code == 200

    def settled(self) -> int:
        """Resident bytes when what a server imports and loads a moment after its start is there, too."""
        asked = {"image_url": TEXT}
        for _ in range(4):
            assert httpx.post(self.url + "/predict", json=asked, trust_env=False, timeout=30).status_code == 200
        assert httpx.get(self.url + "/openapi.json", trust_env=False, timeout=30).status_code == 200
        before, deadline = 0, time.monotonic() + 60
        while abs((now := self.memory()) - before) > MEGABYTE and time.monotonic() < deadline:
            before = now
            time.sleep(2)
        return now


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, output_dir: Path) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("hostile")
    model = write_tiny_model(folder / "tiny.onnx")
    inside = Inside()
    Site.inside = inside.port
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
    names = {
        "public.test": [[PUBLIC]],
        "localhost": [["127.0.0.1"]],
        "inside.test": [["127.0.0.1"]],
        "six.test": [["::1"]],
        "mapped.test": [["::ffff:10.0.0.8"]],
        "mixed.test": [[PUBLIC, "127.0.0.1"]],
        "metadata.google.internal": [["169.254.169.254"]],
        "rebinds.test": [[PUBLIC], ["127.0.0.1"]],
        "rebinds-once.test": [[PUBLIC], ["127.0.0.1"]],
        "rebinds-later.test": [["127.0.0.1"], [PUBLIC]],
        "xn--exmple-cua.test": [["127.0.0.1"]],
        "127.0.0.1.nip.test": [["127.0.0.1"]],
    }
    told = {"names": names, "public": PUBLIC, "site": site.server_address, "log": str(folder / "connections")}
    (folder / "stage.json").write_text(json.dumps(told))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "hostile"), str(ROOT)]),
        "OSV_TEST_STAGE": str(folder / "stage.json"),
        "OSV_MODEL": str(model),
        "OSV_PORT": str(port),
        "OSV_ALLOW_URLS": "true",
        "OSV_BODY_TIMEOUT_S": "1",
        "OSV_FETCH_TIMEOUT_S": "1",
        "OSV_MAX_IMAGE_BYTES": str(4 * MEGABYTE),
        "OSV_MAX_BATCH_BYTES": str(8 * MEGABYTE),
        "OSV_LOG_LEVEL": "warning",
    }
    log = (folder / "server.log").open("w+")
    process = subprocess.Popen([sys.executable, str(ROOT / "server" / "main.py")], env=environment, stderr=log)
    stage = Stage(port, process, inside, folder / "connections", site.server_address)  # type: ignore[arg-type]
    try:
        deadline = time.monotonic() + 90
        while not stage.ready():
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert stage.serves()
        stage.at_first = stage.settled()
        yield stage
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()
        site.shutdown()
        site.server_close()
        for one in inside.sockets:
            one.close()
    (output_dir / "hostile-requests.txt").write_text("\n".join(stage.answers) + "\n")
    said_by_server = (folder / "server.log").read_text()
    assert "Traceback" not in said_by_server, said_by_server[-3000:]


# -- ways to send ---------------------------------------------------------------------------------------------


def sent(path: str = "/predict", method: str = "POST", **request: Any) -> Attack:
    def attack(stage: Stage) -> tuple[int, str]:
        made = {name: value() if callable(value) else value for name, value in request.items()}
        response = httpx.request(method, stage.url + path, timeout=30, trust_env=False, **made)
        return response.status_code, response.text

    return attack


def body(content: Any, headers: dict[str, str] = RAW, path: str = "/predict") -> Attack:
    return sent(path, content=content, headers=headers)


def said(path: str = "/predict", **fields: Any) -> Attack:
    first = {"image_url": TEXT} if path == "/predict" else {}
    return body(json.dumps(first | fields).encode(), JSON, path)


def url(template: str) -> Attack:
    """``{port}`` becomes the port of the service that nobody may reach."""

    def attack(stage: Stage) -> tuple[int, str]:
        return said(image_url=template.replace("{port}", str(stage.inside.port)))(stage)

    return attack


def wire(*pieces: bytes, pause: float = 0.0, end: bool = False) -> Attack:
    """Bytes as they are, one piece after the other, until the server answers."""

    def attack(stage: Stage) -> tuple[int, str]:
        with socket.create_connection(("127.0.0.1", stage.port), timeout=20) as raw:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for piece in pieces:
                    raw.sendall(piece)
                    time.sleep(pause)
            if end:
                raw.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := raw.recv(65536):
                    answer += chunk
                    if complete(answer):
                        break
        head, _, text = answer.partition(b"\r\n\r\n")
        assert head, "the server closed the connection without a word"
        return int(head.split()[1]), text.decode()

    return attack


def complete(answer: bytes) -> bool:
    head, end, text = answer.partition(b"\r\n\r\n")
    length = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(end and length and len(text) >= int(length[0]))
