"""What a server answers: every way to ask, odd images, its states and its pages."""

from __future__ import annotations

import base64
import functools
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from server_requests import IMAGE, RAW, TEXT, model, post, server
from stream_support import png
from support import shared_data
from tiny_model import write_tiny_model

from osv_lab.serve.client import Client
from osv_lab.serve.run import ServerHandle, start_server

__all__ = ["model", "server"]


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"image_url": TEXT, "confidence_threshold": 0.5}},
        {"json": {"image_url": f"data:image/png;base64,{TEXT}", "confidence_threshold": 0.5, "classes": ["lamp"]}},
        {"json": {"image_url": TEXT, "max_detections": 300.0, "classes": [0.0]}},
        {
            "files": {"file": ("a.png", IMAGE, "image/png")},
            "data": {"confidence_threshold": "0.5", "classes": "lamp,cat"},
        },
        {"files": {"file": IMAGE}, "data": {"classes": ["lamp"] * 64}},
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


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 2000)])
def test_odd_shapes_are_answered(server: ServerHandle, size: tuple[int, int]) -> None:
    response = post(server, content=png(200, size), headers=RAW)
    assert response.status_code in (200, 422), response.text
    if response.status_code == 200:
        assert response.json()["image"] == {"width": size[0], "height": size[1]}


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
