"""``WS /stream`` over real sockets: what a client that sends frames gets, and the Python clients on top of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from stream_support import SlowDetector, heard, in_thread, open_stream, png
from support import shared_data
from tiny_model import write_tiny_model
from websockets.exceptions import ConnectionClosed

from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, UsageError
from osv_lab.serve.client import AsyncClient, Client
from osv_lab.serve.inputs import Limits
from osv_lab.serve.run import ServerHandle, start_server

FRAME = png()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[ServerHandle]:
    with start_server(model, limits=Limits(max_pixels=1_000_000)) as handle:
        yield handle


def test_frames_in_detections_and_track_ids_out(server: ServerHandle) -> None:
    with open_stream(server) as connection:
        # Timed as they arrive, a busy machine may keep frames apart for longer than a lost track is kept.
        connection.send(json.dumps({"frame_rate": 25}))
        for number in (1, 2, 3):
            connection.send(FRAME)
            answer = heard(connection)
            assert answer["frame"] == number
            assert answer["dropped"] == []
            assert answer["image"] == {"width": 64, "height": 64}
            [found] = answer["predictions"]
            assert found["class"] == "lamp"
            assert found["box"] == {"x1": 22.0, "y1": 22.0, "x2": 42.0, "y2": 42.0}
            assert found["track_id"] == 1
            assert answer["model"]["ref"] == "tiny.onnx"


def test_a_stream_answers_what_predict_answers(server: ServerHandle) -> None:
    options = {"confidence_threshold": 0.3, "iou_threshold": 0.5, "classes": ["lamp"]}
    single = httpx.post(
        f"{server.url}/predict",
        content=FRAME,
        params=options,
        headers={"Content-Type": "image/png"},
        trust_env=False,
    ).json()
    with open_stream(server) as connection:
        connection.send(json.dumps({**options, "track": False}))
        connection.send(FRAME)
        assert heard(connection)["predictions"] == single["predictions"]


def test_each_connection_has_identities_of_its_own(server: ServerHandle) -> None:
    with open_stream(server) as one, open_stream(server) as other:
        for connection in (one, other, one):
            connection.send(FRAME)
            assert [found["track_id"] for found in heard(connection)["predictions"]] == [1]


def test_a_bad_frame_is_said_and_the_stream_goes_on(server: ServerHandle) -> None:
    wide = png(size=(2000, 1000))
    with open_stream(server) as connection:
        for frame, what in [
            (b"hello", "not an image"),
            (FRAME[:60], ""),
            (b"", ""),
            (wide, "too large"),
            (FRAME, None),
        ]:
            connection.send(frame)
            answer = heard(connection)
            if what is None:
                assert answer["frame"] == 5
                assert len(answer["predictions"]) == 1
            else:
                assert what in answer["error"]["what"]
                assert "predictions" not in answer


def test_the_newest_frame_is_answered_and_the_dropped_are_named() -> None:
    detector = SlowDetector()
    with start_server(detector) as server, open_stream(server) as connection:
        detector.busy = threading.Semaphore(0)
        detector.go.clear()
        connection.send(png(1))
        assert detector.busy.acquire(timeout=30)
        for level in range(2, 8):
            connection.send(png(level))
        connection.ping().wait(30)  # all of them have arrived
        time.sleep(0.1)
        detector.go.set()
        assert heard(connection)["frame"] == 1
        answer = heard(connection)
        assert (answer["frame"], answer["dropped"]) == (7, [2, 3, 4, 5, 6])
        assert detector.seen[-2:] == [1, 7]
        text = httpx.get(f"{server.url}/metrics", trust_env=False).text
        assert "osv_stream_frames_total 2" in text
        assert "osv_stream_dropped_total 5" in text
        assert "osv_streams 1" in text


def test_every_frame_when_that_is_asked(server: ServerHandle) -> None:
    with open_stream(server) as connection:
        connection.send(json.dumps({"every_frame": True, "frame_rate": 10}))
        sender = threading.Thread(target=lambda: [connection.send(FRAME) for _ in range(40)])
        sender.start()
        answers = [heard(connection) for _ in range(40)]
        sender.join()
    assert [answer["frame"] for answer in answers] == list(range(1, 41))
    assert not any(answer["dropped"] for answer in answers)
    assert answers[-1]["timestamp_s"] == pytest.approx(3.9)


def test_a_frame_whose_client_has_gone_is_not_computed() -> None:
    detector = SlowDetector()
    with start_server(detector, workers=1, scheduling="batch") as server:
        detector.busy = threading.Semaphore(0)
        detector.go.clear()
        with open_stream(server) as busy, open_stream(server) as gone:
            busy.send(png(10))
            assert detector.busy.acquire(timeout=30)
            gone.send(png(99))
            gone.ping().wait(30)
            time.sleep(0.2)
            gone.close()
            deadline = time.monotonic() + 30
            while "osv_streams 1" not in httpx.get(f"{server.url}/metrics", trust_env=False).text:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            detector.go.set()
            assert heard(busy)["frame"] == 1
        assert 99 not in detector.seen


def test_a_server_that_stops_says_so_and_answers_what_it_began() -> None:
    detector = SlowDetector()
    with start_server(detector) as server, open_stream(server) as connection, open_stream(server) as idle:
        detector.busy = threading.Semaphore(0)
        detector.go.clear()
        connection.send(FRAME)
        assert detector.busy.acquire(timeout=30)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with pytest.raises(ConnectionClosed) as closed:
            idle.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        detector.go.set()
        assert heard(connection)["frame"] == 1
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the server is stopping")
        stopping.join()


def test_the_client_streams_files_bytes_and_pixels(server: ServerHandle, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FRAME)
    frames: list[Any] = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        FRAME,
        b"no image",
        np.full((64, 64, 3), 200, np.uint8),
    ]
    with Client(server.url) as client:
        found = list(client.stream(frames * 4, classes=["lamp"], frame_rate=25))
    assert [one.frame for one in found] == list(range(1, 21))
    assert [one.error is not None for one in found] == [False, False, False, True, False] * 4
    assert found[0].to_supervision().tracker_id.tolist() == [1]
    assert found[-1].rows()[0]["track_id"] == 1
    assert found[-1].timestamp_s == pytest.approx(19 / 25)
    with Client(server.url) as client:
        assert list(client.stream([])) == []
        assert [one.frame for one in client.stream(iter([FRAME] * 3), live=True)][-1] == 3


def test_the_asynchronous_client_streams(server: ServerHandle) -> None:
    async def frames() -> AsyncIterator[bytes]:
        for _ in range(5):
            await asyncio.sleep(0)
            yield FRAME

    async def run() -> list[list[int]]:
        async with AsyncClient(server.url) as client:
            return [
                [found.frame async for found in client.stream([FRAME] * 6)],
                [found.frame async for found in client.stream(frames(), track="botsort")],
                [found.frame async for found in client.stream(frames(), live=True, track=False)][-1:],
            ]

    assert in_thread(lambda: asyncio.run(run())) == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5], [5]]


def test_what_the_client_cannot_do_is_an_error_to_act_on(server: ServerHandle, tmp_path: Path) -> None:
    with Client(server.url) as client:
        with pytest.raises(UsageError, match="no option"):
            list(client.stream([FRAME], trakc=True))  # type: ignore[call-arg]
        with pytest.raises(InvalidDataError, match="no such tracker"):
            list(client.stream([FRAME], track="sort"))
        with pytest.raises(NotFoundError):
            list(client.stream([tmp_path / "none.png"]))
        with pytest.raises(NotFoundError):
            list(client.stream([tmp_path / "none.png"], live=True))
        with pytest.raises(UsageError, match="BGR"):
            list(client.stream([np.zeros((4, 4))]))
    with Client("http://127.0.0.1:9") as client, pytest.raises(UnavailableError, match="no server answers"):
        list(client.stream([FRAME]))


def test_tracks_of_a_real_video(model: Path) -> None:
    data = shared_data()
    if data is None:
        pytest.skip("needs the shared videos")
    capture = cv2.VideoCapture(str(data / "videos" / "one-by-one-person-detection.mp4"))
    capture.set(cv2.CAP_PROP_POS_FRAMES, 120)
    frames = [capture.read()[1] for _ in range(40)]
    capture.release()
    with start_server(data / "models" / "yolox_nano_coco.onnx") as server, Client(server.url) as client:
        found = list(client.stream(frames, classes=["person"], frame_rate=10))
    people = [[one["track_id"] for one in answer.predictions] for answer in found]
    assert sum(bool(ids) for ids in people) >= 20
    assert len({identity for ids in people for identity in ids}) <= 3
