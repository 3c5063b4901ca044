"""A server in the background, one look at it, and its answers about samples of the store."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor
from fiftyone.operators.registry import OperatorRegistry
from serving import until
from tiny_model import write_tiny_model

from osv_lab.app.plugins import use_plugins
from osv_lab.core.errors import UnavailableError, UsageError
from osv_lab.core.settings import load_settings
from osv_lab.serve.client import Client
from osv_lab.serve.status import server_status
from osv_lab.store.ask_server import ask_server
from osv_lab.store.captures import import_captures
from osv_lab.store.ingest import ingest
from osv_lab.up import down, pages
from osv_lab.up.background import serve_in_background


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The tiny model (as sure as an image is bright) in the background, which keeps every image."""
    model = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    serving = serve_in_background(str(model), free_port(), "random=1")
    yield serving.url
    down()
    shutil.rmtree(load_settings().captures_dir, ignore_errors=True)


@pytest.fixture
def photos(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    for number, level in enumerate((200, 220, 20)):
        path = tmp_path / f"{number}.png"
        pixels = np.full((64, 96, 3), level, np.uint8)
        pixels[0, 0] = number
        cv2.imwrite(str(path), pixels)
    ingest(tmp_path, dataset_name)
    dataset = fo.load_dataset(dataset_name)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    dataset.add_sample(fo.Sample(filepath=str(broken)))
    return dataset


def test_what_is_served_answers_into_the_store_and_comes_home(served: str, photos: Any) -> None:
    assert pages() == {"api": served}
    before = server_status(served)
    assert before.ready
    assert [one["ref"] for one in before.models] == ["tiny.onnx"]

    report = ask_server(photos, served, "served")
    assert report.models == {"tiny.onnx": 3}
    assert [Path(problem.file).name for problem in report.problems] == ["broken.png"]
    photos.reload()
    found = photos.sort_by("filepath").values("served.detections.confidence")
    assert [len(one or ()) for one in found] == [1, 1, 0, 0]
    assert found[1][0] > found[0][0] > 0.25

    after = server_status(served)
    assert after.images - before.images == 3
    assert after.latency_ms is not None
    assert 0 < after.latency_ms[0] <= after.latency_ms[1]
    assert "tiny.onnx" in after.summary()

    # The files went as they are: what the server kept is recognised, and nothing is doubled.
    until(lambda: server_status(served).captured == {"random": 3})
    home = import_captures(None, photos)
    assert (home.added, home.updated) == (0, 3)
    assert photos.count() == 4
    photos.reload()
    assert photos.count_sample_tags()["captured"] == 3


def test_what_was_answered_before_the_server_went_is_kept(
    photos: Any, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="between 1 and 64"):
        ask_server(photos, served, batch_size=0)
    seen = [photos.first()]
    answer, asked = Client.predict_batch, []

    def once(self: Client, *arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) > 1:
            raise UnavailableError("no server answers", "it has gone")
        return answer(self, *arguments)

    monkeypatch.setattr(Client, "predict_batch", once)
    with pytest.raises(UnavailableError, match="it has gone"):
        ask_server(photos.sort_by("filepath"), served, "half", batch_size=2)
    assert photos.exists("half").count() == 2
    assert len(seen[0]["half"].detections) == 1, "samples in memory know of it too"


@pytest.mark.parametrize(
    "url", ["http://example.org:8000", "http://127.0.0.1@example.org", "127.0.0.1:8000", "http://["]
)
def test_a_form_sends_images_to_this_machine_only(photos: Any, url: str) -> None:
    use_plugins()
    operator = OperatorRegistry().get_operator("@osv/serve/ask_server")
    request = {"dataset_name": photos.name, "params": {"url": url}, "view": []}
    ctx = ExecutionContext(request_params=request, executor=Executor(), operator_uri=operator.uri)
    field = operator.resolve_input(ctx).type.properties["url"]
    assert field.invalid
    assert "not a server of this machine" in field.error_message


def test_one_server_is_up_at_a_time_and_the_second_says_where_the_first_is(served: str, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=f"the lab is up already.*{served}"):
        serve_in_background(str(tmp_path / "other.onnx"), free_port())
    assert server_status(served).ready
    # What the first one said is still there, and nothing else is.
    folder = load_settings().home / "up"
    assert [path.name for path in folder.glob("background*")] == ["background.log"]
    assert served in (folder / "background.log").read_text()


def test_a_port_or_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match="no such port"):
        serve_in_background("tiny.onnx", 70000)
    with pytest.raises(UnavailableError, match="no server answers"):
        server_status(f"http://127.0.0.1:{free_port()}", timeout_s=2)
