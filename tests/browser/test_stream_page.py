"""A page in a real browser streams what is on a canvas and gets track ids back; a page of another site does not."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tiny_model import write_tiny_model

from osv_lab.serve.run import ServerHandle, start_server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

STREAM = """
async ({address, protocols}) => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 64});
  const g = canvas.getContext("2d");
  const frame = level => { g.fillStyle = `rgb(${level},${level},${level})`; g.fillRect(0, 0, 64, 64);
    return new Promise(done => canvas.toBlob(done, "image/jpeg", 0.9)); };
  const socket = new WebSocket(address, protocols), answers = [];
  return await new Promise(done => {
    socket.onerror = () => done({error: "refused", answers});
    socket.onclose = e => done({code: e.code, reason: e.reason, protocol: socket.protocol, answers});
    socket.onopen = async () => { socket.send(JSON.stringify({frame_rate: 10})); socket.send(await frame(200)); };
    socket.onmessage = async e => {
      answers.push(JSON.parse(e.data));
      if (answers.length < 3) socket.send(await frame(200 + answers.length)); else socket.close(1000, "enough");
    };
  });
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    model = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    with start_server(model, key="a key, with spaces/+=") as handle:
        yield handle


@pytest.fixture(scope="module")
def other_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text("<!doctype html><title>another site</title>")
    handler = functools.partial(Quiet, directory=str(folder))
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{site.server_address[1]}/"
    site.shutdown()
    site.server_close()
    thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Not on the terminal."""


def stream(page: Page, server: ServerHandle, key: str) -> dict[str, Any]:
    in_base64 = page.evaluate("key => btoa(key).replace(/\\+/g, '-').replace(/\\//g, '_').replace(/=/g, '')", key)
    address = server.url.replace("http", "ws") + "/stream"
    found: dict[str, Any] = page.evaluate(
        STREAM, {"address": address, "protocols": ["osv.stream", f"osv.key.{in_base64}"]}
    )
    return found


def test_a_page_streams_its_canvas(server: ServerHandle, page: Page) -> None:
    page.goto(server.url)
    told = stream(page, server, "a key, with spaces/+=")
    assert (told["code"], told["protocol"]) == (1000, "osv.stream")
    assert [answer["frame"] for answer in told["answers"]] == [1, 2, 3]
    assert [one["track_id"] for answer in told["answers"] for one in answer["predictions"]] == [1, 1, 1]


def test_the_wrong_key_and_another_site_get_none(server: ServerHandle, other_site: str, page: Page) -> None:
    page.goto(server.url)
    assert stream(page, server, "a guess") == {"error": "refused", "answers": []}
    page.goto(other_site)
    assert stream(page, server, "a key, with spaces/+=") == {"error": "refused", "answers": []}
