"""An image that has the server for itself: more cores, the same answer; and no longer than it is alone."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np
import onnx
import psutil
import pytest
import tiny_tflite
from onnx import helper, numpy_helper
from serving import ask, measured, until
from support import shared_data
from tiny_model import write_tiny_model

from osv_lab.detect.images import decode_image
from osv_lab.serve.results import detections_json
from osv_lab.serve.run import ServerHandle, start_server
from osv_lab.serve.served import Thresholds, load_model

THRESHOLD = 0.001


def write_network(path: Path) -> Path:
    """The tiny model behind convolutions that are large enough to be divided among threads."""
    model, random = onnx.load(str(write_tiny_model(path))), np.random.default_rng(0)
    graph, source, channels = model.graph, "images", 3
    layers = []
    for index, width in enumerate((32, 32, 3)):
        weights = random.normal(0, 0.05, (width, channels, 3, 3)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(weights, f"w{index}"))
        layers.append(helper.make_node("Conv", [source, f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        layers.append(helper.make_node("Sigmoid", [f"c{index}"], [f"s{index}"]))
        source, channels = f"s{index}", width
    graph.node[0].input[0] = source
    nodes = [*layers, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(path))
    return path


def images(number: int) -> list[bytes]:
    random = np.random.default_rng(1)
    pixels = (random.integers(0, 256, (64 + 32 * k, 96, 3)).astype(np.uint8) for k in range(number))
    return [cv2.imencode(".png", one)[1].tobytes() for one in pixels]


def found(server: ServerHandle, image: bytes) -> list[dict[str, object]]:
    predictions: list[dict[str, object]] = ask(server, image, confidence_threshold=THRESHOLD).json()["predictions"]
    return predictions


def on_one_core(path: Path, image: bytes) -> list[dict[str, object]]:
    model = load_model(path, scheduling="parallel")
    [detections] = model.find([decode_image(image)], Thresholds(confidence=THRESHOLD))
    predictions: list[dict[str, object]] = json.loads(json.dumps(detections_json(detections)))
    return predictions


def worker_pids() -> set[int]:
    found = set()
    for one in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "osv_lab.serve.worker" in str(one.cmdline()):
                found.add(one.pid)
    return found


def lone(server: ServerHandle) -> float:
    return measured(server)["osv_lone_images_total"]


def grows(count: Callable[[], float], work: Callable[[], object]) -> Callable[[], bool]:
    before = count()

    def grown() -> bool:
        work()
        return count() > before

    return grown


def check_same_answers(model: Path, sent: list[bytes], processes: int) -> None:
    on_one = [on_one_core(model, one) for one in sent]
    assert all(on_one)
    with start_server(model, scheduling="parallel", lone_threads=2, processes=processes) as server:
        assert [found(server, one) for one in sent] == on_one
        until(grows(lambda: lone(server), lambda: found(server, sent[0])))
        before = lone(server)
        assert [found(server, one) for one in sent] == on_one
        assert lone(server) == before + len(sent)
        files, options = [("file", one) for one in sent], {"confidence_threshold": str(THRESHOLD)}
        batch = httpx.post(f"{server.url}/predict/batch", files=files, data=options, trust_env=False, timeout=60)
        assert [one["predictions"] for one in batch.json()["results"]] == on_one
        assert lone(server) == before + len(sent), "images of a batch are not alone"
        [described] = httpx.get(f"{server.url}/models", trust_env=False).json()["models"]
        assert described["scheduling"]["lone_threads"] == 2


@pytest.mark.parametrize("processes", [0, 2])
def test_the_same_answer_from_more_cores(tmp_path: Path, processes: int) -> None:
    check_same_answers(write_network(tmp_path / "network.onnx"), images(3), processes)


def test_the_same_answer_of_a_real_model(tmp_path: Path) -> None:
    data = shared_data()
    if data is None:
        check_same_answers(write_network(tmp_path / "network.onnx"), images(1), 1)
        return
    photos = sorted((data / "bccd" / "BCCD" / "JPEGImages").glob("*.jpg"))[:3]
    check_same_answers(data / "models" / "yolox_nano_coco.onnx", [one.read_bytes() for one in photos], 1)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a stopped process is waited for through /proc")
def test_with_company_one_core_each(tmp_path: Path) -> None:
    model, [image] = write_network(tmp_path / "network.onnx"), images(1)
    others = worker_pids()
    with (
        start_server(model, scheduling="parallel", lone_threads=2, processes=2) as server,
        ThreadPoolExecutor() as pool,
    ):
        until(lambda: measured(server)["osv_worker_processes"] == 2)
        expected = found(server, image)
        until(grows(lambda: lone(server), lambda: found(server, image)))
        first = min(worker_pids() - others)
        before = lone(server)
        os.kill(first, signal.SIGSTOP)
        try:
            stopped = pool.submit(found, server, image)
            until(lambda: measured(server)["osv_in_flight"] == 1)
            assert [found(server, image) for _ in range(5)] == [expected] * 5
            assert lone(server) == before
        finally:
            os.kill(first, signal.SIGCONT)
        assert stopped.result() == expected
        until(lambda: lone(server) == before + 1)
        os.kill(first, signal.SIGKILL)
        until(lambda: measured(server)["osv_worker_restarts_total"] == 1)
        until(grows(lambda: lone(server), lambda: found(server, image)))


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="the lock has LiteRT's runtime for this alone",
)
def test_other_runtimes_run_images_side_by_side_too() -> None:
    with start_server(tiny_tflite.PATH, scheduling="parallel", lone_threads=2, processes=2) as server:
        bright = cv2.imencode(".png", np.full((128, 128, 3), 255, np.uint8))[1].tobytes()
        until(lambda: measured(server)["osv_worker_processes"] == 2)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: found(server, bright), range(8)))
        assert [one["class"] for one in answers[0]] == ["lamp"]
        assert answers == answers[:1] * 8


def test_never_another_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx")
    model = load_model(path, scheduling="parallel", lone_threads=2)
    write_tiny_model(path, ("bulb", "dog"))
    assert model.lone is not None
    assert model.lone.detector is None
    until(lambda: "has changed since it was loaded" in caplog.text)
    assert model.lone.detector is None
