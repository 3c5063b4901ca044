"""Streams against clients that mean no good, or do not know what they do."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from stream_support import SlowDetector, heard, open_stream, png
from tiny_model import write_tiny_model
from websockets.exceptions import ConnectionClosed, InvalidStatus

import osv_lab.serve.stream
from osv_lab.serve.inputs import Limits
from osv_lab.serve.keys import Keys, add_key
from osv_lab.serve.run import ServerHandle, start_server

FRAME = png()
MEGABYTE = 2**20
BROKEN = 1006
"""No reason came: the connection was closed while the client was still sending, which resets it."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[ServerHandle]:
    limits = Limits(max_image_bytes=MEGABYTE, max_streams=3, stream_idle_s=1.0, body_timeout_s=0.5)
    with start_server(model, limits=limits) as handle:
        yield handle


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    made = {scope: add_key(file, scope, [scope]) for scope in ("predict", "models")}
    return {**made, "file": str(file)}


@pytest.fixture(scope="module")
def keyed(model: Path, keys: dict[str, str]) -> Iterator[ServerHandle]:
    with start_server(model, key=Keys.from_file(keys["file"])) as handle:
        yield handle


def refusal(server: ServerHandle, path: str = "/stream", **options: Any) -> tuple[int, str]:
    """The status and the reason of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        open_stream(server, path, **options)
    response = refused.value.response
    return response.status_code, str(json.loads(bytes(response.body or b"{}"))["error"]["what"])


def ending(connection: Any) -> tuple[int, str]:
    """The code and the reason with which the server closes."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            connection.recv(timeout=30)
    if closed.value.rcvd is None:
        return BROKEN, ""
    return closed.value.rcvd.code, closed.value.rcvd.reason


def as_protocol(key: str) -> list[Any]:
    return ["osv.stream", "osv.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")]


# -- who may ---------------------------------------------------------------------------------------------------


def test_keys(keyed: ServerHandle, keys: dict[str, str]) -> None:
    right, other = keys["predict"], keys["models"]
    assert refusal(keyed)[0] == 401
    assert refusal(keyed, additional_headers={"Authorization": "Bearer nonsense"})[0] == 401
    assert refusal(keyed, additional_headers={"Authorization": f"Bearer {other}"})[0] == 403
    assert refusal(keyed, subprotocols=as_protocol("nonsense"))[0] == 401
    assert refusal(keyed, subprotocols=["osv.stream", "osv.key.a"])[0] == 401
    for address in (f"/stream?key={right}", f"/stream?token={right}", f"/stream?Authorization=Bearer%20{right}"):
        assert refusal(keyed, address)[0] == 401
    for options in (
        {"additional_headers": {"Authorization": f"Bearer {right}"}},
        {"subprotocols": as_protocol(right)},
    ):
        with open_stream(keyed, **options) as connection:
            connection.send(FRAME)
            assert heard(connection)["frame"] == 1
            # The key itself is never repeated.
            assert connection.subprotocol in (None, "osv.stream")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "file://"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_gets_no_stream(server: ServerHandle, headers: dict[str, str]) -> None:
    assert refusal(server, additional_headers=headers) == (403, "pages of other sites may not ask this server")


def test_a_name_made_to_lead_to_this_machine_gets_no_stream(server: ServerHandle) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(handshake(f"evil.example:{server.port}", f"Origin: http://evil.example:{server.port}\r\n"))
        answer = raw.recv(4096)
    assert b" 403 " in answer.splitlines()[0]
    assert b"not addressed as this machine" in answer


def test_the_servers_own_page_gets_one(server: ServerHandle) -> None:
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    with open_stream(server, additional_headers=headers) as connection:
        connection.send(FRAME)
        assert heard(connection)["frame"] == 1


def test_no_more_streams_than_allowed(server: ServerHandle) -> None:
    open_ones = [open_stream(server) for _ in range(3)]
    try:
        with pytest.raises(InvalidStatus) as refused:
            open_stream(server)
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"] == "5"
    finally:
        for connection in open_ones:
            connection.close()
    until_quiet(server)
    open_stream(server).close()


# -- what is sent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"confidence_threshold": "0.5"}',
        '{"confidence_threshold": NaN}',
        '{"confidence_threshold": 2}',
        '{"track": 7}',
        '{"track": "deepsort"}',
        '{"track": {"algorithm": "botsort", "embedder": "/etc/passwd"}}',
        '{"track": {"algorithm": "bytetrack", "compiled": true}}',
        '{"track": {"lost_s": 1e308}}',
        '{"track": {"high": "a"}}',
        '{"track": {"frame_rate": 1}}',
        '{"frame_rate": 0}',
        '{"frame_rate": 1e9}',
        '{"max_detections": 5000}',
        '{"format": "image"}',
        '{"image_url": "http://127.0.0.1/"}',
        '{"nonsense": 1}',
        '{"classes": ' + "[" * 500 + "]" * 500 + "}",
        '{"model": "' + "x" * 70_000 + '"}',
        '{"classes": [' + "1," * 25_000 + "1]}",
    ],
)
def test_options_that_cannot_be_used_end_the_stream_with_a_reason(server: ServerHandle, text: str) -> None:
    with open_stream(server) as connection:
        connection.send(text)
        answer = heard(connection)
        assert answer["error"]["what"]
        assert len(json.dumps(answer)) < 2_000
        assert ending(connection)[0] == 1008
    until_quiet(server)


def test_text_between_frames_ends_the_stream(server: ServerHandle) -> None:
    with open_stream(server) as connection:
        connection.send(FRAME)
        assert heard(connection)["frame"] == 1
        connection.send("{}")
        assert "before the first frame" in heard(connection)["error"]["what"]
        assert ending(connection)[0] == 1008


def test_a_model_or_class_there_is_not_is_said_for_each_frame(server: ServerHandle) -> None:
    for options, what in (({"model": "nope"}, "no such model"), ({"classes": ["dog"]}, "no such class")):
        with open_stream(server) as connection:
            connection.send(json.dumps(options))
            connection.send(FRAME)
            assert what in heard(connection)["error"]["what"]
        until_quiet(server)


def test_frames_that_are_too_large_cost_nothing(server: ServerHandle) -> None:
    before = psutil.Process().memory_info().rss
    for _ in range(5):
        with open_stream(server) as connection:
            with contextlib.suppress(ConnectionClosed):
                connection.send(bytes(MEGABYTE + 1))
            assert ending(connection)[0] in (1009, BROKEN)
        with open_stream(server) as connection:
            with contextlib.suppress(ConnectionClosed):
                connection.send(bytes(MEGABYTE // 2) for _ in range(8))  # as fragments
            assert ending(connection)[0] in (1009, BROKEN)
        with open_stream(server) as connection:
            connection.send(bomb(12_000))
            assert "too large" in heard(connection)["error"]["what"]
            connection.send(FRAME)
            assert heard(connection)["frame"] == 2
        until_quiet(server)
    assert psutil.Process().memory_info().rss - before < 100 * MEGABYTE


def test_compression_is_not_agreed_to(server: ServerHandle) -> None:
    with open_stream(server, compression="deflate") as connection:
        assert connection.response is not None
        assert "Sec-WebSocket-Extensions" not in connection.response.headers
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(handshake(f"127.0.0.1:{server.port}"))
        assert b" 101 " in raw.recv(4096)
        body = zlib.compress(bytes(10 * MEGABYTE))[2:-4]
        raw.sendall(frame(0x40 | 0x82, body[:60_000]))  # marked as compressed all the same
        answer = raw.recv(4096)
        assert answer[0] == 0x88
        assert struct.unpack("!H", answer[2:4]) == (1002,)


# -- how long --------------------------------------------------------------------------------------------------


def test_a_stream_outlives_the_time_a_requests_head_has(server: ServerHandle) -> None:
    with open_stream(server) as connection:
        for number in (1, 2, 3):
            time.sleep(0.4)  # of 0.5 s for a head, 1 s between frames
            connection.send(FRAME)
            assert heard(connection)["frame"] == number


def test_a_stream_without_frames_is_closed(server: ServerHandle) -> None:
    with open_stream(server) as connection:
        assert ending(connection) == (1000, "no frame for 1 s")
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(handshake(f"127.0.0.1:{server.port}"))
        assert b" 101 " in raw.recv(4096)
        raw.sendall(frame(0x02, FRAME[:20]))  # the beginning of a message that never ends
        raw.settimeout(30)
        assert raw.recv(4096)[0] == 0x88


def test_a_client_that_never_reads_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osv_lab.serve.stream, "_SEND_S", 0.5)

    class Talkative(SlowDetector):
        class_names = ("lamp" * 2_000, "cat")

        def predict(self, images: list[np.ndarray], **options: Any) -> list[Any]:
            from osv_lab.detect.detector import make_detections

            boxes = np.tile(np.array([[1, 1, 40, 40]], np.float32), (300, 1))
            many = make_detections(boxes, np.full(300, 0.8), np.zeros(300, int), self.class_names)
            return [many for _ in images]

    with (
        start_server(Talkative(), scheduling="batch", max_batch=1) as server,
        socket.create_connection(("127.0.0.1", server.port)) as raw,
    ):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(handshake(f"127.0.0.1:{server.port}"))
        assert b" 101 " in raw.recv(4096)
        raw.sendall(frame(0x81, b'{"track": false, "every_frame": true}'))
        sender = threading.Thread(target=keep_sending, args=(raw,), daemon=True)
        sender.start()
        until_quiet(server)
        raw.shutdown(socket.SHUT_RDWR)
        assert "osv_stream_frames_total 0" not in httpx.get(f"{server.url}/metrics", trust_env=False).text


def keep_sending(raw: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            raw.sendall(frame(0x82, FRAME))


def until_quiet(server: ServerHandle) -> None:
    until(server, "osv_streams 0")


def until(server: ServerHandle, line: str) -> None:
    deadline = time.monotonic() + 60
    while line not in httpx.get(f"{server.url}/metrics", trust_env=False, timeout=30).text.splitlines():
        assert time.monotonic() < deadline, f"waited for {line}"
        time.sleep(0.05)


def handshake(host: str, headers: str = "") -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    return (
        f"GET /stream HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n"
    ).encode()


def frame(first: int, payload: bytes) -> bytes:
    """A client's WebSocket frame, masked with zeros."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else b"\xfe" + struct.pack("!H", length)
    return bytes([first]) + size + bytes(4) + payload


def bomb(side: int) -> bytes:
    """A PNG of that many pixels each way, in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    packed = zlib.compress(bytes((side * 3 + 1) * 50), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack("!IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", packed)
        + chunk(b"IEND", b"")
    )
