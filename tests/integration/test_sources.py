"""Sources that the server reads by itself: started, followed and stopped over HTTP; files, and a stream that stalls."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import httpx
import numpy as np
import pytest
from stream_support import SlowDetector, png
from tiny_model import write_tiny_model

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.serve.keys import Keys, add_key
from osv_lab.serve.run import ServerHandle, start_server

FRAMES = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_tiny_model(folder / "tiny.onnx")
    (folder / "videos").mkdir()
    write_video(folder / "videos" / "bright.avi")
    (folder / "videos" / "broken.mp4").write_bytes(b"this is no video")
    (folder / "videos" / "notes.txt").write_text("not for everyone")
    (folder / "secret.avi").write_bytes((folder / "videos" / "bright.avi").read_bytes())
    (folder / "videos" / "link.avi").symlink_to(folder / "secret.avi")
    return folder


def write_video(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(FRAMES):
        writer.write(np.full((64, 64, 3), 200, np.uint8))
    writer.release()


class Camera(http.server.BaseHTTPRequestHandler):
    """A camera as many are: JPEGs in one endless HTTP answer, which may break off."""

    alive: ClassVar[threading.Event] = threading.Event()
    opened: ClassVar[int] = 0

    def do_GET(self) -> None:
        type(self).opened += 1
        if not self.alive.is_set():
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        picture = cv2.imencode(".jpg", np.full((64, 64, 3), 200, np.uint8))[1].tobytes()
        try:
            while self.alive.is_set():
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
                time.sleep(0.03)
        except OSError:
            pass

    def log_message(self, *arguments: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def camera() -> Iterator[str]:
    Camera.alive.set()
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield f"http://admin:secret@127.0.0.1:{site.server_address[1]}/live"
    Camera.alive.clear()
    site.shutdown()
    site.server_close()
    thread.join()


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerHandle]:
    sources = {"bright": folder / "videos" / "bright.avi", "videos": folder / "videos"}
    with start_server(folder / "tiny.onnx", sources=sources) as handle:
        yield handle


@pytest.fixture
def http_(server: ServerHandle) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        yield client


def until(client: httpx.Client, name: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while not is_so(status := client.get(f"/sources/{name}").json()):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


def test_a_file_is_watched_to_its_end_every_frame(http_: httpx.Client) -> None:
    assert http_.get("/sources/bright").json()["state"] == "stopped"
    assert http_.get("/sources/bright/latest").status_code == 404
    started = http_.post("/sources/bright/start")
    assert started.status_code == 200
    assert started.json()["state"] in ("opening", "running")
    status = until(http_, "bright", lambda one: one["state"] == "ended")
    assert (status["frames"], status["frames_dropped"], status["frames_failed"]) == (FRAMES, 0, 0)
    assert (status["width"], status["height"], status["source_fps"]) == (64, 64, 10)
    assert status["counts"] == {"lamp": 1}
    assert status["last_error"] is None
    latest = http_.get("/sources/bright/latest").json()
    assert (latest["source"], latest["frame"]) == ("bright", FRAMES)
    assert latest["timestamp_s"] == pytest.approx((FRAMES - 1) / 10)
    [found] = latest["predictions"]
    assert (found["class"], found["track_id"]) == ("lamp", 1)
    # Again from the beginning.
    http_.post("/sources/bright/start")
    assert until(http_, "bright", lambda one: one["state"] == "ended")["frames"] == FRAMES


@pytest.mark.parametrize(("accept", "kind"), [("image/jpeg", "image/jpeg"), ("image/png", "image/png")])
def test_the_latest_frame_as_a_picture(http_: httpx.Client, accept: str, kind: str) -> None:
    http_.post("/sources/bright/start")
    until(http_, "bright", lambda one: one["state"] == "ended")
    for answer in (
        http_.get("/sources/bright/latest", headers={"Accept": accept}),
        http_.get(
            "/sources/bright/latest", params={"format": "image"}, headers={"Accept": f"text/html, {accept}"}
        ),
    ):
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (64, 64, 3)
        assert np.abs(picture.astype(int) - 200).max() > 50  # something was drawn


def test_a_video_of_a_folder_under_a_name_of_its_own(http_: httpx.Client) -> None:
    listed = http_.get("/sources").json()
    assert listed["available"] == ["bright", "videos/bright.avi", "videos/broken.mp4", "videos/link.avi"]
    body = {"source": "videos/bright.avi", "name": "mine", "track": False, "confidence_threshold": 0.5}
    assert http_.post("/sources", json=body).status_code == 200
    until(http_, "mine", lambda one: one["state"] == "ended")
    assert "track_id" not in http_.get("/sources/mine/latest").json()["predictions"][0]
    assert http_.delete("/sources/mine").status_code == 204
    assert http_.get("/sources/mine").status_code == 404
    assert http_.delete("/sources/bright").status_code == 409

    http_.post("/sources", json={"source": "videos/broken.mp4"})
    status = until(http_, "videos-broken.mp4", lambda one: one["state"] == "failed")
    assert "not a video" in status["last_error"]["what"]
    assert "/sources" not in status["last_error"]["what"].replace("videos/broken.mp4", "")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"source": "http://127.0.0.1:1/x"}, 403),
        ({"source": "rtsp://10.0.0.7/live"}, 403),
        ({"source": "/etc/passwd"}, 403),
        ({"source": "0"}, 403),
        ({"source": "videos"}, 404),
        ({"source": "videos/../secret.avi"}, 404),
        ({"source": "videos/link.avi"}, 404),
        ({"source": "videos/notes.txt"}, 404),
        ({"source": "videos/no.avi"}, 404),
        ({"source": "videos/bright.avi\0.avi"}, 404),
        ({"source": "bright", "name": "../x"}, 422),
        ({"source": "bright", "track": "deepsort"}, 422),
        ({"source": "bright", "max_detections": 9_999}, 422),
        ({"source": "bright", "uri": "rtsp://10.0.0.7/live"}, 422),
        ({"source": "videos/bright.avi", "name": "bright"}, 409),
        ({}, 422),
    ],
)
def test_a_request_names_only_what_the_server_was_started_with(
    http_: httpx.Client, body: dict[str, Any], code: int
) -> None:
    answer = http_.post("/sources", json=body)
    assert answer.status_code == code, answer.text
    assert answer.json()["error"]["what"]


def test_pages_of_other_sites_and_forms(http_: httpx.Client) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        for method, path in (
            ("GET", "/sources"),
            ("POST", "/sources/bright/start"),
            ("GET", "/sources/bright/events"),
        ):
            assert http_.request(method, path, headers=headers).status_code == 403
    assert (
        http_.post("/sources", content=b'{"source": "bright"}', headers={"Content-Type": "text/plain"}).status_code
        == 415
    )
    assert http_.get("/sources/bright/latest?key=x").status_code == 422


def test_followers_get_each_newest_answer_and_the_end(http_: httpx.Client) -> None:
    http_.post("/sources/bright/start")
    numbers, ended = [], None
    with http_.stream("GET", "/sources/bright/events") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        event = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            if line.startswith("data: "):
                content = json.loads(line.removeprefix("data: "))
                if event == "end":
                    ended = content["state"]
                else:
                    numbers.append(content["frame"])
    assert ended == "ended"
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == FRAMES


def test_a_camera_is_watched_from_the_start_and_comes_back_after_a_stall(folder: Path, camera: str) -> None:
    with (
        start_server(folder / "tiny.onnx", sources={"gate": camera}) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
    ):
        before = until(client, "gate", lambda one: one["frames"] >= 5)
        assert before["live"]
        Camera.alive.clear()
        stalled = until(client, "gate", lambda one: one["state"] == "reconnecting")
        assert stalled["last_error"]["what"]
        assert "secret" not in json.dumps(stalled)
        assert "127.0.0.1" not in json.dumps(stalled)
        Camera.alive.set()
        back = until(client, "gate", lambda one: one["frames"] > stalled["frames"] + 5)
        assert back["state"] == "running"
        assert back["reconnects"] >= 1
        assert client.post("/sources/gate/stop").json()["state"] == "stopped"
        still = client.get("/sources/gate").json()["frames"]
        time.sleep(0.3)
        assert client.get("/sources/gate").json()["frames"] == still
        until_started(client, "gate")
        until(client, "gate", lambda one: one["frames"] > 2)


def until_started(client: httpx.Client, name: str) -> None:
    """A source that is still being let go of says when to try again."""
    deadline = time.monotonic() + 60
    while (answer := client.post(f"/sources/{name}/start")).status_code == 503:
        assert "Retry-After" in answer.headers
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answer.status_code == 200


def test_a_slow_server_looks_at_the_newest_frame_of_a_camera(camera: str) -> None:
    detector = SlowDetector()
    with (
        start_server(detector, scheduling="batch", max_batch=1, sources={"gate": camera}) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
    ):
        until(client, "gate", lambda one: one["frames"] >= 1)
        detector.go.clear()
        time.sleep(0.5)
        detector.go.set()
        status = until(client, "gate", lambda one: one["frames_dropped"] >= 5)
        assert status["frames"] >= 1


def test_no_more_sources_run_than_allowed(folder: Path, camera: str) -> None:
    with (
        start_server(folder / "tiny.onnx", sources={f"c{k}": camera for k in range(6)}) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
    ):
        listed = client.get("/sources").json()
        running = [one["name"] for one in listed["sources"] if one["state"] != "stopped"]
        assert len(running) == listed["max_running"] == 4
        waiting = next(one["name"] for one in listed["sources"] if one["state"] == "stopped")
        assert client.post(f"/sources/{waiting}/start").status_code == 503
        client.post(f"/sources/{running[0]}/stop")
        until_started(client, waiting)


def test_a_key_for_predictions_sees_no_camera(folder: Path, tmp_path: Path) -> None:
    made = {scope: add_key(tmp_path / "keys.txt", scope, [scope]) for scope in ("predict", "sources")}
    sources = {"bright": folder / "videos" / "bright.avi"}
    with start_server(folder / "tiny.onnx", key=Keys.from_file(tmp_path / "keys.txt"), sources=sources) as server:
        for scope, code in (("predict", 403), ("sources", 200)):
            for path in ("/sources", "/sources/bright"):
                headers = {"Authorization": f"Bearer {made[scope]}"}
                assert httpx.get(server.url + path, headers=headers, trust_env=False).status_code == code
        assert httpx.get(f"{server.url}/sources", trust_env=False).status_code == 401
        answer = httpx.post(
            f"{server.url}/predict",
            content=png(),
            headers={"Authorization": f"Bearer {made['sources']}", "Content-Type": "image/png"},
            trust_env=False,
        )
        assert answer.status_code == 403


def test_what_a_server_cannot_be_started_with(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="no such video"):
        start_server(folder / "tiny.onnx", sources={"a": folder / "none.mp4"})
    with pytest.raises(UsageError, match="name"):
        start_server(folder / "tiny.onnx", sources={"a/b": "rtsp://x"})
