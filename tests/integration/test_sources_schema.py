"""What the OpenAPI document says of sources against the server: statuses and shapes, of what fits and what does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import cv2
import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model import write_tiny_model

from osv_lab.serve.run import start_server

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SETTINGS = st.dictionaries(
    st.sampled_from(
        ["algorithm", "lost_s", "high", "low", "new", "match", "preset", "boxes", "embedder", "alike"]
    ),
    st.sampled_from(
        ["bytetrack", "botsort", "deepsort", "published", "filtered", True, None, 0, 1, -1, 0.5, 1e308]
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("schema")
    writer = cv2.VideoWriter(str(folder / "short.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(3):
        writer.write(np.full((64, 64, 3), 200, np.uint8))
    writer.release()
    model = write_tiny_model(folder / "tiny.onnx")
    with (
        start_server(model, sources={"short": folder / "short.avi", "all": folder}) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    described: dict[str, Any] = http.get("/openapi.json").json()
    return described


def expect(document: dict[str, Any], path: str, method: str, answer: httpx.Response) -> None:
    described = document["paths"][path][method]["responses"][str(answer.status_code)]
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    if answer.status_code == 204:
        return
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in described["content"]
    if kind == "application/json":
        schema = described["content"][kind]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": document["components"]})


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    source=st.sampled_from(["short", "all/short.avi", "all", "all/../x", "other"]) | st.text(max_size=10),
    bent=st.dictionaries(
        st.sampled_from(["name", "track", "classes", "confidence_threshold", "max_detections", "model", "other"]),
        VALUES | SETTINGS,
        max_size=3,
    ),
)
def test_starting(http: httpx.Client, document: dict[str, Any], source: str, bent: dict[str, Any]) -> None:
    body = {"name": "fuzz", **bent, "source": source}
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    answer = http.post("/sources", content=content, headers={"Content-Type": "application/json"})
    expect(document, "/sources", "post", answer)
    if answer.status_code == 200:
        name = answer.json()["name"]
        for path, method in (
            ("/sources/{name}", "get"),
            ("/sources/{name}/latest", "get"),
            ("/sources/{name}/stop", "post"),
            ("/sources/{name}", "delete"),
        ):
            expect(document, path, method, http.request(method, path.format(name=name)))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=st.text(st.characters(codec="utf-8", exclude_characters="/."), min_size=1, max_size=12))
def test_names_there_are_not(http: httpx.Client, document: dict[str, Any], name: str) -> None:
    for path, operations in document["paths"].items():
        if path.startswith("/sources/{name}"):
            for method in operations:
                answer = http.request(method, path.format(name=quote(name, safe="")))
                assert answer.status_code == 404
                expect(document, path, method, answer)


def test_the_examples_are_what_they_are_examples_of(document: dict[str, Any]) -> None:
    schema = document["paths"]["/sources"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.validate(schema["examples"][0], schema)
    status = document["components"]["schemas"]["SourceStatus"]
    jsonschema.validate(status["examples"][0], {**status, "components": document["components"]})
