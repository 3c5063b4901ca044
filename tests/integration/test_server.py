"""The server as its users meet it: a real uvicorn on a loopback port, a real ONNX model."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from support import ROOT, shared_data
from tiny_model import write_tiny_model

from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, UsageError
from osv_lab.serve.client import Client
from osv_lab.serve.fetch import FetchPolicy
from osv_lab.serve.inputs import Limits
from osv_lab.serve.run import ServerHandle, start_server


def png(level: int = 200, size: tuple[int, int] = (64, 64)) -> bytes:
    return cv2.imencode(".png", np.full((size[1], size[0], 3), level, np.uint8))[1].tobytes()


IMAGE = png()
TEXT = base64.b64encode(IMAGE).decode()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[ServerHandle]:
    limits = Limits(max_image_bytes=2**20, max_pixels=4_000_000, max_batch=10, max_batch_bytes=3 * 2**20)
    with start_server(model, limits=limits) as handle:
        yield handle


def post(server: ServerHandle, path: str = "/predict", **request: Any) -> httpx.Response:
    return httpx.post(server.url + path, timeout=60, trust_env=False, **request)


# -- what it answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"image_url": TEXT, "confidence_threshold": 0.5}},
        {"json": {"image_url": f"data:image/png;base64,{TEXT}", "confidence_threshold": 0.5, "classes": ["lamp"]}},
        {
            "files": {"file": ("a.png", IMAGE, "image/png")},
            "data": {"confidence_threshold": "0.5", "classes": "lamp,cat"},
        },
        {"files": {"image": IMAGE}, "params": {"confidence_threshold": 0.5}},
        {
            "content": IMAGE,
            "headers": {"Content-Type": "image/png"},
            "params": {"confidence_threshold": "0.5", "classes": 0},
        },
        {"content": IMAGE, "headers": {"Content-Type": "application/octet-stream"}},
    ],
)
def test_every_way_to_send_an_image(server: ServerHandle, request_: dict[str, Any]) -> None:
    response = post(server, **request_)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["image"] == {"width": 64, "height": 64}
    [found] = answer["predictions"]
    assert found["class"] == "lamp"
    assert found["class_id"] == 0
    assert found["confidence"] == pytest.approx(200 / 255, abs=1e-3)
    assert found["box"] == {"x1": 22.0, "y1": 22.0, "x2": 42.0, "y2": 42.0}
    assert answer["model"]["ref"] == "tiny.onnx"
    assert set(answer["timing_ms"]) == {"read", "decode", "predict", "total"}


def test_a_batch_keeps_its_order_and_reports_a_bad_image_in_its_place(server: ServerHandle) -> None:
    images = [base64.b64encode(png(level)).decode() for level in (100, 250)]
    body = {"images": [images[0], "/etc/passwd", images[1], base64.b64encode(b"x" * 50).decode()], "batch_size": 2}
    response = post(server, "/predict/batch", json=body)
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [result["index"] for result in results] == [0, 1, 2, 3]
    assert [round(results[k]["predictions"][0]["confidence"] * 255) for k in (0, 2)] == [100, 250]
    assert "upload the file" in results[1]["error"]["fix"]
    assert results[3]["error"]["what"] == "not an image"

    files = [("file", ("a.png", png(100))), ("file", ("b.txt", b"hello")), ("file", ("c.png", png(250)))]
    results = post(server, "/predict/batch", files=files, data={"confidence_threshold": "0.1"}).json()["results"]
    assert ["error" in result for result in results] == [False, True, False]


def test_states(server: ServerHandle) -> None:
    get = functools.partial(httpx.get, trust_env=False)
    assert get(server.url + "/health").json() == {"status": "ok"}
    assert get(server.url + "/ready").json() == {"status": "ready"}
    answer = get(server.url + "/models").json()
    assert answer["models"][0]["class_names"] == ["lamp", "cat"]
    assert answer["limits"]["max_pixels"] == 4_000_000


def test_pages_need_no_other_host(server: ServerHandle) -> None:
    for path in ("/", "/docs"):
        page = httpx.get(server.url + path, trust_env=False)
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        text = page.text.replace("http://www.w3.org", "")
        assert "http://" not in text
        assert "https://" not in text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert len(httpx.get(f"{server.url}/docs/{name}", trust_env=False).content) > 50_000
    assert httpx.get(f"{server.url}/docs/../app.py", trust_env=False).status_code == 404
    schema = httpx.get(server.url + "/openapi.json", trust_env=False).json()
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data", "image/*"}
    example = content["application/json"]["schema"]["examples"][0]
    assert post(server, json=example).status_code == 200


# -- what it refuses ------------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}
RAW = {"Content-Type": "image/png"}
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


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 2000)])
def test_odd_shapes_are_answered(server: ServerHandle, size: tuple[int, int]) -> None:
    response = post(server, content=png(200, size), headers=RAW)
    assert response.status_code in (200, 422), response.text
    if response.status_code == 200:
        assert response.json()["image"] == {"width": size[0], "height": size[1]}


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


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- who may ask, and what it may fetch -----------------------------------------------------------------------


def test_the_key(model: Path) -> None:
    with start_server(model, key="s3cret") as handle:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "s3cret"},
        ):
            response = post(handle, content=IMAGE, headers={**RAW, **headers})
            assert response.status_code == 401
            assert "s3cret" not in response.text
            assert httpx.get(handle.url + "/models", headers=headers, trust_env=False).status_code == 401
        for path in ("/health", "/ready", "/", "/docs"):
            assert httpx.get(handle.url + path, trust_env=False).status_code == 200
        with Client(handle.url, key="s3cret") as client:
            assert len(client.predict(IMAGE)) == 1
        with Client(handle.url, key="other") as client, pytest.raises(UsageError, match="key"):
            client.predict(IMAGE)


def test_images_by_url(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(IMAGE)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{site.server_port}/a.png"
    try:
        with (
            start_server(model, allow_urls=[f"127.0.0.1:{site.server_port}"]) as handle,
            Client(handle.url) as client,
        ):
            assert len(client.predict(url)) == 1
            with pytest.raises(InvalidDataError, match="404"):
                client.predict(url.replace("a.png", "b.png"))
        limits = Limits(fetch=FetchPolicy(allow=False))
        refused = pytest.raises(InvalidDataError, match="does not fetch URLs")
        with start_server(model, limits=limits) as handle, Client(handle.url) as client, refused:
            client.predict(url)
    finally:
        site.shutdown()
        site.server_close()


# -- the client -----------------------------------------------------------------------------------------------


def test_the_client(server: ServerHandle, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(IMAGE)
    with Client(server.url) as client:
        assert client.health()
        assert client.models()[0]["ref"] == "tiny.onnx"
        for image in (path, str(path), IMAGE, cv2.imread(str(path)), f"data:image/png;base64,{TEXT}"):
            found = client.predict(image, confidence_threshold=0.5)
            assert (found.width, found.height, len(found)) == (64, 64, 1)
            detections = found.to_supervision()
            assert detections.xyxy.tolist() == [[22, 22, 42, 42]]
            assert detections.data["class_name"].tolist() == ["lamp"]
        assert found.rows()[0]["class"] == "lamp"
        assert "1 objects" in found.summary()
        nothing = client.predict(path, confidence_threshold=0.99)
        assert len(nothing.to_supervision()) == 0
        with pytest.raises(InvalidDataError, match="did you mean 'lamp'"):
            client.predict(path, classes=["lapm"])
        with pytest.raises(NotFoundError):
            client.predict(tmp_path / "none.png")

        levels = [90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200, 210]
        images: list[Any] = [png(level) for level in levels]
        images[3], images[7] = tmp_path / "none.png", b"no image at all, only words"
        results = client.predict_batch(images, batch_size=4)
        assert len(results) == len(images)
        for index, (level, result) in enumerate(zip(levels, results, strict=True)):
            if index in (3, 7):
                assert result.error is not None
                assert result.error["what"] in result.summary()
                with pytest.raises(InvalidDataError):
                    result.to_supervision()
            else:
                assert round(result.predictions[0]["confidence"] * 255) == level
        assert client.predict_batch([]) == []


def test_a_client_without_a_server() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert not client.health()
        with pytest.raises(UnavailableError, match="osv serve"):
            client.predict(IMAGE)
    with pytest.raises(UsageError):
        Client("127.0.0.1:8000")


# -- starting and stopping ------------------------------------------------------------------------------------


def test_start_up_problems(model: Path, tmp_path: Path) -> None:
    with start_server(model) as first, pytest.raises(UnavailableError, match=f"{first.port}"):
        start_server(model, port=first.port)
    assert not first.running
    first.stop()
    with pytest.raises(UsageError, match="no key"):
        start_server(model, host="0.0.0.0")
    with pytest.raises(UsageError, match="no such host"):
        start_server(model, host="no.such.host.invalid", key="k")
    with pytest.raises(UsageError, match="cannot be sent"):
        start_server(model, key="")
    with pytest.raises(UsageError, match="no such port"):
        start_server(model, port=70_000)
    with pytest.raises(NotFoundError):
        start_server(tmp_path / "none.onnx")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_process_of_its_own_stops_gracefully(model: Path, stop: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "OSV_MODEL": str(model), "OSV_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "server" / "main.py")], env=environment, stderr=subprocess.PIPE, text=True
    )
    with Client(f"http://127.0.0.1:{port}") as client:
        until_ready(client, process)
        # A request that is being sent when the signal comes is still answered.
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(IMAGE)}"
            raw.sendall(f"{head}\r\n\r\n".encode() + IMAGE[:50])
            metrics = f"http://127.0.0.1:{port}/metrics"
            until(lambda: "osv_in_flight 1" in httpx.get(metrics, trust_env=False, timeout=60).text)
            process.send_signal(stop)
            time.sleep(0.3)
            raw.sendall(IMAGE[50:])
            assert b" 200 " in raw.recv(100)
    assert process.wait(timeout=30) == 0
    assert process.stderr is not None
    log = process.stderr.read()
    process.stderr.close()
    assert "Traceback" not in log


def until_ready(client: Client, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not client.health():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("changes", "code", "line"),
    [
        ({}, 2, "OSV_MODEL is not set"),
        ({"OSV_MODEL": "/no/such.onnx"}, 3, "such.onnx"),
        ({"OSV_MODEL": "x.onnx", "OSV_PORT": "web"}, 2, "OSV_PORT"),
        ({"OSV_MODEL": "x.onnx", "OSV_KEY_FILE": "/no/such/key"}, 2, "OSV_KEY_FILE"),
        ({"OSV_MODEL": "x.onnx", "OSV_HOST": "0.0.0.0"}, 2, "no key"),
    ],
)
def test_settings_that_cannot_be_are_one_line(changes: dict[str, str], code: int, line: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OSV_MODEL")} | changes
    done = subprocess.run(
        [sys.executable, str(ROOT / "server" / "main.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_the_body_says_counts_before_the_query(tmp_path: Path) -> None:
    grey = np.full((32, 32, 3), 128, np.uint8)  # found with a confidence of 0.5
    body = {"image_url": "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", grey)[1]).decode()}
    with start_server(write_tiny_model(tmp_path / "tiny.onnx")) as handle:

        def found(said: dict[str, float], query: dict[str, str]) -> int:
            answer = httpx.post(f"{handle.url}/predict", json=body | said, params=query, trust_env=False)
            return len(answer.json()["predictions"])

        low, high = {"confidence_threshold": 0.4}, {"confidence_threshold": "0.6"}
        assert [found({}, {}), found({}, high), found(low, high)] == [1, 0, 1]
        assert found(low, {"classes": "cat"}) == 0, "both count where they do not meet"


@pytest.mark.skipif(shared_data() is None, reason="needs the trained weights, which no clone has")
def test_a_trained_model_on_a_real_photo() -> None:
    data = shared_data()
    assert data is not None
    photo = data / "bccd" / "BCCD" / "JPEGImages" / "BloodImage_00001.jpg"
    with start_server(data / "models" / "bccd_yolo11n.onnx") as handle, Client(handle.url) as client:
        found = client.predict(photo, confidence_threshold=0.5)
        assert (found.width, found.height) == (640, 480)
        assert {one["class"] for one in found.predictions} == {"WBC", "RBC"}
        direct = [one.predictions for one in client.predict_batch([photo] * 3, confidence_threshold=0.5)]
        assert [len(one) for one in direct] == [len(found)] * 3
