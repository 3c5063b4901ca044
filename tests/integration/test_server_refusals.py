"""What a server refuses, and what does it no harm: each request gets a reason, and the next one its answer."""

from __future__ import annotations

import base64
import json
import socket
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_requests import FORM, IMAGE, JSON, RAW, TEXT, model, post, server
from serving import until

from osv_lab.serve.limits import Limits
from osv_lab.serve.run import ServerHandle, start_server

__all__ = ["model", "server"]


NO_FILE = b'--xyz\r\nContent-Disposition: form-data; name="iou_threshold"\r\n\r\n0.5\r\n--xyz--\r\n'
HALF = b"--xyz\r\nContent-Disposition: form-data; name=file"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


def with_size(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is as large as asked."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def said(**fields: Any) -> dict[str, Any]:
    return {"content": json.dumps({"image_url": TEXT} | fields).encode(), "headers": JSON}


HOSTILE: dict[str, tuple[int, dict[str, Any]]] = {
    "nothing at all": (415, {}),
    "empty JSON body": (422, {"content": b"", "headers": JSON}),
    "not JSON": (400, {"content": b"{image_url: 1", "headers": JSON}),
    "JSON in latin-1": (400, {"content": '{"image_url": "ä"}'.encode("latin-1"), "headers": JSON}),
    "a JSON list": (422, {"content": b"[]", "headers": JSON}),
    "JSON nested 100,000 deep": (400, {"content": b"[" * 100_000, "headers": JSON}),
    "no image_url": (422, {"content": b"{}", "headers": JSON}),
    "image_url is a number": (422, said(image_url=5)),
    "image_url is null": (422, said(image_url=None)),
    "image_url is empty": (422, said(image_url="")),
    "half a detection": (422, said(max_detections=0.5)),
    "a field of a form 65 times": (422, {"files": {"file": IMAGE}, "data": {"classes": ["lamp"] * 65}}),
    "image_url with a null byte": (400, said(image_url="\x00\x00\x00")),
    "an unknown field": (422, said(confidence_treshold=0.5)),
    "threshold in quotes": (422, said(confidence_threshold="0.5")),
    "threshold of 50": (422, said(confidence_threshold=50)),
    "threshold of true": (422, said(confidence_threshold=True)),
    "threshold of NaN": (422, {"content": b'{"image_url": "", "confidence_threshold": NaN}', "headers": JSON}),
    "threshold of 1e999": (422, {"content": b'{"image_url": "", "iou_threshold": 1e999}', "headers": JSON}),
    "minus one detections": (422, said(max_detections=-1)),
    "a million detections": (422, said(max_detections=10**6)),
    "an unknown class": (422, said(classes=["lapm"])),
    "a huge class id": (422, said(classes=[10**30])),
    "a path": (400, said(image_url="/etc/passwd")),
    "a file URL": (400, said(image_url="file:///etc/passwd")),
    "the server itself": (400, said(image_url="http://127.0.0.1/health")),
    "the server in decimal": (400, said(image_url="http://2130706433/health")),
    "the server in IPv6": (400, said(image_url="http://[::ffff:127.0.0.1]/health")),
    "cloud metadata": (400, said(image_url="http://169.254.169.254/latest/meta-data/")),
    "a data URI of HTML": (415, said(image_url="data:text/html;base64,PGI+PGI+PGI+PGI+")),
    "base64 of text": (422, said(image_url=base64.b64encode(b"hello world, this is no image").decode())),
    "base64 too long": (413, said(image_url="A" * 1_700_000)),
    "a body too long": (413, {"content": b"x" * 3_000_000, "headers": RAW}),
    "a body too long, in chunks": (413, {"content": (b"x" * 100_000 for _ in range(30)), "headers": RAW}),
    "an empty image": (422, {"content": b"", "headers": RAW}),
    "a text as image": (422, {"content": b"hello", "headers": RAW}),
    "a text as text": (415, {"content": b"hello", "headers": {"Content-Type": "text/plain"}}),
    "an SVG": (
        422,
        {"content": SVG, "headers": {"Content-Type": "image/svg+xml"}},
    ),
    "a truncated PNG": (422, {"content": IMAGE[:60], "headers": RAW}),
    "a PNG of 12,000 x 12,000": (413, {"content": with_size(12_000, 12_000), "headers": RAW}),
    "a PNG of 2 billion squared": (413, {"content": with_size(2**31 - 1, 2**31 - 1), "headers": RAW}),
    "a PNG of no width": (422, {"content": with_size(0, 10), "headers": RAW}),
    "a PNG with too few pixels": (422, {"content": with_size(1500, 1500), "headers": RAW}),
    "an unknown option": (422, {"content": IMAGE, "headers": RAW, "params": {"confidence": "0.5"}}),
    "an option that is no number": (422, {"content": IMAGE, "headers": RAW, "params": {"iou_threshold": "much"}}),
    "a form without a boundary": (400, {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}),
    "a form that ends early": (
        400,
        {"content": HALF, "headers": FORM},
    ),
    "a form without a file": (
        422,
        {"data": {"confidence_threshold": "0.5"}, "files": {}, "headers": FORM, "content": None},
    ),
    "a form with two files": (422, {"files": [("file", IMAGE), ("file", IMAGE)]}),
    "a query that cannot be beside a body": (422, said() | {"params": {"iou_threshold": "much"}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests_get_a_reason(server: ServerHandle, name: str) -> None:
    status, request = HOSTILE[name]
    if name == "a form without a file":
        request = {
            "content": b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--xyz--\r\n',
            "headers": FORM,
        }
    response = post(server, **request)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["what"]
    assert len(response.text) < 1000
    assert "Traceback" not in response.text
    assert post(server, content=IMAGE, headers=RAW).status_code == 200


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (422, {"json": {"images": []}}),
        (422, {"json": {"images": "no list"}}),
        (413, {"json": {"images": [TEXT] * 11}}),
        (422, {"json": {"images": [TEXT], "batch_size": 0}}),
        (422, {"json": {"images": [TEXT], "classes": ["dog"]}}),
        (422, {"content": NO_FILE, "headers": FORM}),
        (400, {"content": HALF, "headers": FORM}),
        (415, {"content": IMAGE, "headers": RAW}),
        (413, {"content": b"[" * (4 * 2**20), "headers": JSON}),
    ],
)
def test_hostile_batches(server: ServerHandle, status: int, request_: dict[str, Any]) -> None:
    response = post(server, "/predict/batch", **request_)
    assert response.status_code in {status, 400} if b"--xyz--" in str(request_).encode() else {status}, (
        response.text
    )
    assert response.json()["error"]["what"]


def test_unknown_paths_and_methods(server: ServerHandle) -> None:
    for method, path, status in (("GET", "/nope", 404), ("GET", "/predict", 405), ("POST", "/health", 405)):
        response = httpx.request(method, server.url + path, trust_env=False)
        assert response.status_code == status
        assert response.json()["error"]["what"]


def test_broken_connections_do_no_harm(server: ServerHandle, caplog: pytest.LogCaptureFixture) -> None:
    start = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    for sent in (
        start + b"Content-Length: 1000\r\n\r\nonly this",
        start + b"Content-Length: minus\r\n\r\n",
        start + b"Content-Length: 99999999999\r\n\r\n",
        start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01 this is no HTTP",
        b"GET /" + b"a" * 100_000,
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(200)
        assert b" 200 " not in answer
        assert b" 500 " not in answer
    # uvicorn remarks on what is no HTTP; nothing of ours has failed.
    assert {record.name for record in caplog.records} <= {"uvicorn.error"}
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    assert post(server, content=IMAGE, headers=RAW).status_code == 200


def test_more_at_once_than_fit_get_503(model: Path) -> None:
    """Four uploads that never end take all places; the next request is sent away at once, and served later."""
    import uvicorn

    from osv_lab.serve.app import create_app
    from osv_lab.serve.slot import ModelSlot

    app = create_app(ModelSlot(model), workers=2, max_waiting=4)
    listener = socket.create_server(("127.0.0.1", 0))
    with ServerHandle(uvicorn.Server(uvicorn.Config(app, log_level="error")), listener) as handle:
        slow = [socket.create_connection(("127.0.0.1", handle.port)) for _ in range(4)]
        for one in slow:
            one.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nx"
            )
        until(lambda: post(handle, content=IMAGE, headers=RAW).status_code == 503)
        response = post(handle, content=IMAGE, headers=RAW)
        assert response.headers["Retry-After"] == "1"
        assert httpx.get(handle.url + "/health", trust_env=False).status_code == 200
        for one in slow:
            one.close()
        until(lambda: post(handle, content=IMAGE, headers=RAW).status_code == 200)


def test_a_slow_body_loses_its_place(model: Path) -> None:
    with start_server(model, limits=Limits(body_timeout_s=0.3)) as handle:
        raw = socket.create_connection(("127.0.0.1", handle.port), timeout=20)
        raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nx")
        assert b" 408 " in raw.recv(200)
        raw.close()
