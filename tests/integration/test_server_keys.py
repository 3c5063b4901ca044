"""Keys over real HTTP: each opens what it is for, nothing else, and the file holds none of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from support import ROOT
from tiny_model import write_tiny_model

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.serve.client import Client
from osv_lab.serve.errors import RequestError
from osv_lab.serve.keys import SCOPES, KeyFile, Keys, add_key, remove_key
from osv_lab.serve.run import ServerHandle, start_server

IMAGE = cv2.imencode(".png", np.full((64, 64, 3), 200, np.uint8))[1].tobytes()
RAW = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys = {scope: add_key(path, f"for-{scope}", [scope]) for scope in SCOPES}
    keys["all"] = add_key(path, "for-all", SCOPES)
    return path, keys


@pytest.fixture(scope="module")
def server(made: tuple[Path, dict[str, str]]) -> Iterator[ServerHandle]:
    with start_server(write_tiny_model(made[0].with_name("tiny.onnx")), key=Keys.from_file(made[0])) as handle:
        yield handle


def statuses(server: ServerHandle, headers: dict[str, str]) -> tuple[int, int]:
    """Of a prediction and of the list of models."""
    with httpx.Client(base_url=server.url, trust_env=False, headers=headers, timeout=60) as http:
        answers = http.post("/predict", content=IMAGE, headers=RAW), http.get("/models")
    for answer in answers:
        assert answer.status_code == 200 or answer.json()["error"]["what"]
        assert (answer.status_code == 401) == ("WWW-Authenticate" in answer.headers)
    return answers[0].status_code, answers[1].status_code


def test_each_key_opens_what_it_is_for(server: ServerHandle, made: tuple[Path, dict[str, str]]) -> None:
    keys = made[1]
    expected = {"predict": (200, 403), "models": (403, 200), "metrics": (403, 403), "all": (200, 200)}
    for name, status in expected.items():
        assert statuses(server, {"Authorization": f"Bearer {keys[name]}"}) == status
    with Client(server.url, key=keys["all"]) as client:
        assert len(client.predict(IMAGE)) == 1


@pytest.mark.parametrize("form", ["", "Bearer", "Basic {key}", "{key}", "Bearer {key}x", "Bearer x{key}"])
def test_what_opens_nothing(server: ServerHandle, made: tuple[Path, dict[str, str]], form: str) -> None:
    header = form.format(key=made[1]["all"])
    assert statuses(server, {"Authorization": header} if header else {}) == (401, 401)
    for path in ("/health", "/ready"):
        assert httpx.get(server.url + path, trust_env=False).status_code == 200


def test_the_digest_is_no_key(server: ServerHandle, made: tuple[Path, dict[str, str]]) -> None:
    for word in made[0].read_text().split():
        if word.startswith("sha256:"):
            for key in (word, word.removeprefix("sha256:")):
                assert statuses(server, {"Authorization": f"Bearer {key}"}) == (401, 401)


def test_the_file_is_watched(tmp_path: Path) -> None:
    """A key that is taken out, or put in, counts from the next request on; a file in disorder changes nothing."""
    path = tmp_path / "keys.txt"
    first = add_key(path, "first")
    with start_server(write_tiny_model(tmp_path / "tiny.onnx"), key=KeyFile(path)) as server:

        def status(key: str) -> int:
            return statuses(server, {"Authorization": f"Bearer {key}"})[0]

        assert status(first) == 200
        second = add_key(path, "second")
        assert (status(first), status(second)) == (200, 200)
        remove_key(path, "first")
        assert (status(first), status(second)) == (401, 200)
        good = path.read_text()
        for disorder in ("half a li", ""):
            path.write_text(disorder)
            assert (status(first), status(second)) == (401, 200)
        path.unlink()
        assert (status(first), status(second)) == (401, 200)
        path.write_text(good)
        third = add_key(path, "third")
        assert [status(key) for key in (first, second, third)] == [401, 200, 200]


def test_the_document_names_the_scheme(server: ServerHandle) -> None:
    document = httpx.get(server.url + "/openapi.json", trust_env=False).json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert document["paths"]["/predict"]["post"]["security"] == [{"HTTPBearer": []}]


def test_the_file_holds_no_key_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    keys = [add_key(path, f"k{number}") for number in range(3)]
    assert len({*keys}) == 3
    assert all(len(key) > 40 for key in keys)
    assert not any(key in path.read_text() for key in keys)
    assert path.stat().st_mode & 0o777 == 0o600
    accepted = Keys.from_file(path)
    assert [accepted.check(f"Bearer {key}", "predict") for key in keys] == ["k0", "k1", "k2"]

    remove_key(path, "k1")
    accepted = Keys.from_file(path)
    assert accepted.check(f"bearer {keys[2]}", "predict") == "k2"
    with pytest.raises(RequestError) as caught:
        accepted.check(f"Bearer {keys[1]}", "predict")
    assert caught.value.status == 401
    with pytest.raises(NotFoundError, match="use one of: k0, k2"):
        remove_key(path, "k1")
    with pytest.raises(UsageError, match="of this name"):
        add_key(path, "k2")
    with pytest.raises(UsageError, match="did you mean 'predict'"):
        add_key(path, "k4", ["predicts"])
    with pytest.raises(UsageError, match="no name"):
        add_key(path, "a b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "a predict\n",
        "a predict sha256:12\nb predict sha256:34\n",
        "two words",
        "k1\nk2\n",
        "\x00\n",
    ],
)
def test_files_that_are_no_key_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        Keys.from_file(path)
    assert "sha256:12" not in str(caught.value)
    with pytest.raises(NotFoundError):
        Keys.from_file(tmp_path / "none.txt")


def test_a_file_with_a_key_and_nothing_else_is_a_key_for_everything(tmp_path: Path) -> None:
    path = tmp_path / "key.txt"
    path.write_text("s3cret-key\n")
    keys = Keys.from_file(path)
    assert [keys.check("Bearer s3cret-key", scope) for scope in SCOPES] == ["key"] * len(SCOPES)
    with pytest.raises(UsageError):
        add_key(path, "more")  # it would take the one key away
    assert path.read_text() == "s3cret-key\n"


def test_the_process_of_its_own_takes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    key = add_key(path, "camera")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "OSV_MODEL": str(write_tiny_model(tmp_path / "tiny.onnx")),
        "OSV_PORT": str(port),
        "OSV_KEY_FILE": str(path),
        "OSV_LOG_LEVEL": "info",
    }
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "server" / "main.py")], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        with Client(f"http://127.0.0.1:{port}", key=key) as client, Client(client.url) as nobody:
            deadline = time.monotonic() + 60
            while not client.health():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert len(client.predict(IMAGE)) == 1
            with pytest.raises(UsageError, match="not for models"):
                client.models()
            with pytest.raises(UsageError, match="missing or wrong"):
                nobody.predict(IMAGE)
    finally:
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert key not in log
