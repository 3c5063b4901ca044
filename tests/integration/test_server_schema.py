"""The OpenAPI document against the server it describes: what it says is sent, bent and broken, over real HTTP.

Every answer has a status that the document lists for the operation and a body of the shape it gives for it, and no
request is a 5xx.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model import write_tiny_model

from osv_lab.serve.run import ServerHandle, start_server

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TYPES = [
    "application/json",
    "multipart/form-data; boundary=x",
    "image/png",
    "text/plain",
    "",
    'application/json; a="b',
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    model = write_tiny_model(tmp_path_factory.mktemp("schema") / "tiny.onnx")
    with start_server(model, allow_urls=False) as handle:
        yield handle


@pytest.fixture(scope="module")
def http(server: ServerHandle) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    described: dict[str, Any] = http.get("/openapi.json").json()
    return described


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a JSON schema, of those keywords that the server's document uses."""
    if "anyOf" in schema:
        return st.one_of([values(one) for one in schema["anyOf"]])
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        required = set(schema.get("required", ()))
        return st.fixed_dictionaries(
            {name: values(one) for name, one in properties.items() if name in required},
            optional={name: values(one) for name, one in properties.items() if name not in required},
        )
    if kind == "array":
        return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=5)
    if kind == "integer":
        return st.integers(schema.get("minimum"), schema.get("maximum"))
    if kind == "number":
        return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False)
    return {"boolean": st.booleans(), "null": st.none(), "string": st.text(max_size=60)}[str(kind)]


def expect(document: dict[str, Any], path: str, method: str, response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    described = document["paths"][path][method]["responses"][str(response.status_code)]
    if "application/json" not in described["content"]:
        assert response.headers["Content-Type"].partition(";")[0] in described["content"]
        return
    schema = described["content"]["application/json"]["schema"]
    jsonschema.validate(response.json(), {**schema, "components": document["components"]})


def posts(document: dict[str, Any]) -> list[str]:
    return [
        path for path, one in document["paths"].items() if path in ("/predict", "/predict/batch") and "post" in one
    ]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_json_bodies(http: httpx.Client, document: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(posts(document)))
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    whole = data.draw(values(schema))
    example = dict(schema["examples"][0])
    # Either all of it is drawn, or the example with a field or two that are bent: deep enough to reach the model.
    bent = data.draw(st.dictionaries(st.sampled_from([*schema["properties"], "other"]), ANYTHING, max_size=2))
    body = data.draw(st.sampled_from([whole, example | bent, example | {**whole, **example}]))
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    expect(document, path, "post", http.post(path, content=content, headers={"Content-Type": "application/json"}))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_bytes_and_queries(http: httpx.Client, document: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(posts(document)))
    names = [one["name"] for one in document["paths"][path]["post"]["parameters"] if one["in"] == "query"]
    texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.floats().map(str) | st.integers().map(str)
    query = data.draw(st.dictionaries(st.sampled_from([*names, "other"]), texts, max_size=2))
    content = data.draw(st.binary(max_size=300))
    headers = {"Content-Type": data.draw(st.sampled_from(TYPES))}
    expect(document, path, "post", http.post(path, content=content, params=query, headers=headers))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_forms(http: httpx.Client, document: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(posts(document)))
    schema = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    fields = data.draw(
        st.dictionaries(st.sampled_from([*schema["properties"], "other"]), st.text(max_size=12), max_size=3)
    )
    files = [
        ("file", ("a.png", one, "image/png")) for one in data.draw(st.lists(st.binary(max_size=100), max_size=3))
    ]
    parts = [(name, (None, text.encode("utf-8", "surrogatepass"))) for name, text in fields.items()]
    expect(document, path, "post", http.post(path, files=[*files, *parts] or None))


def test_methods_and_examples(http: httpx.Client, document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        if "{" in path:
            continue
        refused = http.request("TRACE", path)
        assert refused.status_code == 405
        assert set(refused.headers["Allow"].lower().replace(" ", "").split(",")) >= set(operations)
        if "get" in operations:
            expect(document, path, "get", http.get(path))
    for path in posts(document):
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for example in schema["examples"]:
            jsonschema.validate(example, schema)
            assert http.post(path, json=example).status_code == 200
            assert http.post(path, json=example, params={"iou_threshold": "0.5"}).status_code == 200
            assert http.post(path, json=example, params={"iou_threshold": "much"}).status_code == 422
