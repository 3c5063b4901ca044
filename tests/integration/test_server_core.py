"""The serving core over HTTP: overload, deadlines, clients that leave, swaps under load, draining, metrics."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import supervision as sv
from prometheus_client.parser import text_string_to_metric_families
from support import ROOT, shared_data
from tiny_model import write_tiny_model

from osv_lab.core.cores import usable_cores
from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.detect import load_detector
from osv_lab.detect.detector import make_detections
from osv_lab.serve.results import detections_json
from osv_lab.serve.run import ServerHandle, start_server
from osv_lab.serve.scheduler import WAYS
from osv_lab.serve.served import load_model

RAW = {"Content-Type": "image/png"}


def png(level: int, size: tuple[int, int] = (64, 64)) -> bytes:
    return cv2.imencode(".png", np.full((size[1], size[0], 3), level, np.uint8))[1].tobytes()


class Gated:
    """A detector that computes while its gate is open, and remembers what it computed."""

    ref, task, class_names, provider, input_size = "gated", "detect", ("lamp",), "test", (64, 64)

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun: list[int] = []
        self.batches: list[int] = []

    def predict(self, images: Sequence[np.ndarray], **thresholds: Any) -> list[sv.Detections]:
        self.batches.append(len(images))
        self.begun += [int(image[0, 0, 0]) for image in images]
        assert self.gate.wait(30)
        box, score, ids = np.array([[1, 2, 3, 4]]), np.array([0.9]), np.array([0])
        return [make_detections(box, score, ids, self.class_names) for _ in images]

    def describe(self) -> dict[str, Any]:
        return {"digest": "0" * 64}


@pytest.fixture
def gated() -> Iterator[Gated]:
    detector = Gated()
    yield detector
    detector.gate.set()


def serve_gated(detector: Gated, **options: Any) -> ServerHandle:
    handle = start_server(detector, **{"scheduling": "batch", "max_batch": 1, **options})
    detector.gate.clear()
    detector.begun.clear()
    detector.batches.clear()
    return handle


def ask(server: ServerHandle, level: int, **request: Any) -> httpx.Response:
    return httpx.post(
        server.url + "/predict", content=png(level), headers=RAW, timeout=60, trust_env=False, **request
    )


def measured(server: ServerHandle) -> dict[str, float]:
    text = httpx.get(server.url + "/metrics", trust_env=False).text
    return {
        sample.name + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- more than fits -------------------------------------------------------------------------------------------


def test_a_full_house_sends_away_and_answers_those_inside(gated: Gated) -> None:
    with serve_gated(gated, max_waiting=5) as server, ThreadPoolExecutor(5) as pool:
        inside = [pool.submit(ask, server, level) for level in range(5)]
        until(lambda: measured(server)["osv_in_flight"] == 5)
        for _ in range(3):
            refused = ask(server, 99)
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) >= 1
            assert refused.json()["error"]["what"] == "the server is busy"
        gated.gate.set()
        assert [one.result().status_code for one in inside] == [200] * 5
        assert sorted(gated.begun) == [0, 1, 2, 3, 4]
        counts = measured(server)
        assert counts["osv_rejected_total"] == 3
        assert counts["osv_requests_total|/predict|503"] == 3
        assert counts["osv_in_flight"] == 0


def test_late_requests_are_answered_at_their_deadline_and_never_computed(gated: Gated) -> None:
    with serve_gated(gated, deadline_s=0.3) as server, ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, server, 1)
        until(lambda: gated.begun)
        # The gate is still closed when these come back.
        late = [one.result() for one in [pool.submit(ask, server, level) for level in range(2, 8)]]
        assert {one.status_code for one in late} == {503}
        assert {one.json()["error"]["what"] for one in late} == {"the request waited too long"}
        assert all("Retry-After" in one.headers for one in late)
        gated.gate.set()
        assert first.result().status_code == 200
        assert ask(server, 9).status_code == 200
        assert gated.begun == [1, 9]
        assert measured(server)["osv_expired_total"] == 6


@pytest.mark.parametrize("more", [0, 300_000], ids=["small", "more than is read at once"])
def test_what_nobody_waits_for_is_not_computed(gated: Gated, more: int) -> None:
    with serve_gated(gated) as server, ThreadPoolExecutor(1) as pool:
        first: Future[httpx.Response] = pool.submit(ask, server, 1)
        until(lambda: gated.begun)
        leaving = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
        for level, one in enumerate(leaving, 10):
            body = png(level) + bytes(more)
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(body)}"
            one.sendall(f"{head}\r\n\r\n".encode() + body)
        until(lambda: measured(server)["osv_in_flight"] == 9)
        for one in leaving:
            one.close()
        until(lambda: measured(server)["osv_queue_depth"] == 0)
        gated.gate.set()
        assert first.result().status_code == 200
        until(lambda: measured(server)["osv_in_flight"] == 0)
        assert gated.begun == [1]
        assert measured(server)["osv_abandoned_total"] == 8


def test_what_waits_goes_together(gated: Gated) -> None:
    with serve_gated(gated, max_batch=4, workers=12) as server, ThreadPoolExecutor(9) as pool:
        first = pool.submit(ask, server, 1)
        until(lambda: gated.begun)
        rest = [pool.submit(ask, server, level) for level in range(2, 10)]
        until(lambda: measured(server)["osv_in_flight"] == 9)
        time.sleep(0.3)  # until they are decoded; were they not, batches would be smaller and the test fail
        gated.gate.set()
        assert {one.result().status_code for one in [first, *rest]} == {200}
        assert gated.batches[0] == 1
        assert max(gated.batches) == 4
        assert sum(gated.batches) == 9


# -- the same answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduling", ["parallel", "batch"])
def test_answers_are_the_detectors_own(scheduling: str, tmp_path: Path) -> None:
    data = shared_data()
    if data is None:
        path, images = write_tiny_model(tmp_path / "tiny.onnx"), [png(40 + 8 * k) for k in range(24)]
    else:
        path = data / "models" / "yolox_nano_coco.onnx"
        images = [one.read_bytes() for one in sorted(data.glob("mot17/**/*.jpg"))[:6]]
        images += [one.read_bytes() for one in sorted(data.glob("bccd/BCCD/JPEGImages/*.jpg"))[:6]]
    assert len(images) >= 6
    alone = load_detector(path, threads=1)
    pixels = [cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) for image in images]
    expected = [detections_json(alone.predict([one], confidence=0.1)[0]) for one in pixels]
    assert any(expected)

    with start_server(path, scheduling=scheduling, max_batch=8, max_waiting=64) as server:  # type: ignore[arg-type]

        def answer(image: bytes) -> list[dict[str, Any]]:
            url, params = server.url + "/predict", {"confidence_threshold": "0.1"}
            response = httpx.post(url, content=image, headers=RAW, params=params, timeout=60, trust_env=False)
            assert response.status_code == 200, response.text
            found: list[dict[str, Any]] = response.json()["predictions"]
            return found

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(answer, images)) == expected
        files = [("file", image) for image in images]
        batch = httpx.post(
            server.url + "/predict/batch",
            files=files,
            data={"confidence_threshold": "0.1"},
            timeout=60,
            trust_env=False,
        )
        assert [one["predictions"] for one in batch.json()["results"]] == expected
        [model] = httpx.get(server.url + "/models", trust_env=False).json()["models"]
        assert model["scheduling"]["mode"] == scheduling


def test_scheduling_is_measured_and_can_be_set(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx")
    plan = load_model(path).plan
    rates = plan.images_per_s
    if usable_cores() > 1:
        assert set(rates) == set(WAYS)
        assert (plan.mode == "batch") == (rates["batch of 8"] > 1.1 * rates["parallel"])
    assert load_model(path, scheduling="parallel").plan.mode == "parallel"
    batch = load_model(path, scheduling="batch").plan
    assert 1 <= batch.max_batch <= 64
    assert "batch of 1" in batch.images_per_s
    assert load_model(path, scheduling="batch", max_batch=5).plan.max_batch == 5
    with pytest.raises(UsageError, match="max_batch"):
        load_model(path, max_batch=65)
    with pytest.raises(UsageError, match="no such scheduling"):
        load_model(path, scheduling="fast")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not known to be safe"):
        load_model(Gated(), scheduling="parallel")


# -- models that change ---------------------------------------------------------------------------------------


def renamed(path: Path, name: str) -> Path:
    """The tiny model, its first class called otherwise: another file, another digest, another answer."""
    import onnx

    model = onnx.load(write_tiny_model(path))
    next(one for one in model.metadata_props if one.key == "names").value = str({0: name, 1: "cat"})
    onnx.save(model, str(path))
    return path


def change(server: ServerHandle, verb: str, **request: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/models/{verb}", json=request, timeout=60, trust_env=False)


def test_swaps_under_load_lose_nothing_and_mix_nothing(tmp_path: Path) -> None:
    first, second = renamed(tmp_path / "first.onnx", "lamp"), renamed(tmp_path / "second.onnx", "bulb")
    digests = {"lamp": load_model(first).described["digest"], "bulb": load_model(second).described["digest"]}
    assert digests["lamp"] != digests["bulb"]
    answers: list[httpx.Response] = []
    over = threading.Event()

    def load(server: ServerHandle, level: int) -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            while not over.is_set():
                answers.append(client.post("/predict", content=png(level), headers=RAW))

    with start_server(first, also=[second]) as server, ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, server, level) for level in (150, 180, 210, 240)]
        for ref, name in [("second.onnx", "bulb"), ("first.onnx", "lamp")] * 3:
            before = len(answers)
            swapped = change(server, "swap", ref=ref)
            assert swapped.status_code == 200, swapped.text
            assert swapped.json()["model"]["digest"] == digests[name]
            until(lambda before=before: len(answers) > before + 8)
            # Who asks after the swap was answered gets the new model.
            assert ask(server, 200).json()["predictions"][0]["class"] == name
        over.set()
        for one in loads:
            one.result()
        assert measured(server)["osv_swaps_total"] == 6
    assert {one.status_code for one in answers} == {200}
    seen = set()
    for one in answers:
        answer = one.json()
        name = answer["predictions"][0]["class"]
        seen.add(name)
        assert answer["model"]["digest"] == one.headers["X-Model-Digest"] == digests[name]
        assert one.headers["X-Model"] == answer["model"]["ref"]
    assert seen == {"lamp", "bulb"}


def test_a_swap_loads_what_its_reference_leads_to_now(tmp_path: Path) -> None:
    path = renamed(tmp_path / "best.onnx", "lamp")
    with start_server(path) as server:
        assert ask(server, 200).json()["predictions"][0]["class"] == "lamp"
        renamed(path, "bulb")
        assert ask(server, 200).json()["predictions"][0]["class"] == "lamp"
        assert change(server, "swap").status_code == 200
        assert ask(server, 200).json()["predictions"][0]["class"] == "bulb"
        path.write_bytes(b"no model")
        broken = change(server, "swap")
        assert broken.status_code in (422, 500)
        assert str(tmp_path) not in broken.text
        assert ask(server, 200).json()["predictions"][0]["class"] == "bulb"


def test_models_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    renamed(folder / "bulb.onnx", "bulb")
    with start_server(renamed(tmp_path / "lamp.onnx", "lamp"), also=[folder]) as server:
        listed = httpx.get(server.url + "/models", trust_env=False).json()
        assert listed["available"] == ["lamp.onnx", "bulb.onnx"]
        loaded = change(server, "load", ref="bulb.onnx", name="next")
        assert loaded.status_code == 200, loaded.text
        assert change(server, "load", ref="bulb.onnx", name="next").status_code == 409
        assert ask(server, 200, params={"model": "next"}).json()["predictions"][0]["class"] == "bulb"
        assert ask(server, 200).json()["predictions"][0]["class"] == "lamp"
        names = [one["name"] for one in httpx.get(server.url + "/models", trust_env=False).json()["models"]]
        assert names == ["default", "next"]
        assert change(server, "unload", name="default").status_code == 409
        assert change(server, "unload", name="next").status_code == 200
        assert ask(server, 200, params={"model": "next"}).status_code == 404
        assert change(server, "unload", name="next").status_code == 404


@pytest.mark.parametrize(
    "ref",
    ["/etc/passwd", "../secret.onnx", "secret.onnx", "link.onnx", "model.pt", "models:/other@champion", "yolo11n"],
)
def test_only_what_the_server_was_told_is_loaded(ref: str, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    write_tiny_model(tmp_path / "secret.onnx")
    (folder / "link.onnx").symlink_to(tmp_path / "secret.onnx")
    (folder / "model.pt").write_bytes(b"a pickle")
    with start_server(write_tiny_model(tmp_path / "tiny.onnx"), also=[folder, "models:/mine"]) as server:
        for verb, request in (("load", {"ref": ref, "name": "x"}), ("swap", {"ref": ref})):
            refused = change(server, verb, **request)
            assert refused.status_code == 403, refused.text
            assert str(tmp_path) not in refused.text


def test_who_may_change_models(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    with start_server(model, key="s3cret") as server:
        assert change(server, "swap").status_code == 401
        assert httpx.get(server.url + "/metrics", trust_env=False).status_code == 401
        keyed = {"Authorization": "Bearer s3cret"}
        url = server.url + "/models/swap"
        assert httpx.post(url, json={}, headers=keyed, timeout=60, trust_env=False).status_code == 200
    with start_server(model) as server:
        # What a page of another site can send without asking first.
        sent = httpx.post(server.url + "/models/swap", content=b"{}", headers={"Content-Type": "text/plain"})
        assert sent.status_code == 415
    with start_server(model, manage=False) as server:
        assert change(server, "swap").status_code == 404


def test_thresholds_and_data_of_the_sidecar(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    sidecar = tmp_path / "tiny.onnx.osv.json"
    sidecar.write_text('{"thresholds": {"confidence": 0.9}, "dataset": "parts", "dataset_version": "v3"}')
    with start_server(model) as server:
        assert ask(server, 200).json()["predictions"] == []
        assert len(ask(server, 200, params={"confidence_threshold": "0.25"}).json()["predictions"]) == 1
        answer = ask(server, 250)
        assert len(answer.json()["predictions"]) == 1
        assert answer.headers["X-Dataset-Version"] == "parts@v3"
        timing = dict(part.split(";dur=") for part in answer.headers["Server-Timing"].split(", "))
        assert set(timing) == {"read", "decode", "predict", "total"}
        assert all(float(ms) >= 0 for ms in timing.values())
        [described] = httpx.get(server.url + "/models", trust_env=False).json()["models"]
        assert described["defaults"]["confidence_threshold"] == 0.9
    sidecar.write_text('{"thresholds": {"confidence": 90}}')
    with pytest.raises(InvalidDataError, match="sidecar"):
        start_server(model)


# -- what it says about itself --------------------------------------------------------------------------------


def test_metrics_are_prometheus(tmp_path: Path) -> None:
    with start_server(write_tiny_model(tmp_path / "tiny.onnx")) as server:
        for level in (100, 150):
            assert ask(server, level).status_code == 200
        for path in ("/a", "/b", "/predict/../c"):
            httpx.get(server.url + path, trust_env=False)
        response = httpx.get(server.url + "/metrics", trust_env=False)
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = {family.name: family for family in text_string_to_metric_families(response.text)}
        assert families["osv_requests"].type == "counter"
        assert families["osv_request_seconds"].type == "histogram"
        [info] = families["osv_model_info"].samples
        assert len(info.labels["digest"]) == 64
        counts = measured(server)
        assert counts["osv_requests_total|/predict|200"] == 2
        assert counts["osv_requests_total|other|404"] == 3
        assert counts["osv_images_total"] == 2
        buckets = [
            sample.value
            for sample in families["osv_request_seconds"].samples
            if sample.name.endswith("_bucket") and sample.labels["route"] == "/predict"
        ]
        assert buckets == sorted(buckets)
        assert buckets[-1] == 2


SLOW = """
import sys, time
sys.path[:0] = [{tests!r}, {integration!r}]
from test_server_core import Gated
from osv_lab.serve.run import run_server
class Slow(Gated):
    def predict(self, images, **thresholds):
        time.sleep(1.5 * bool(int(images[0][0, 0, 0]) == 77))
        return super().predict(images, **thresholds)
run_server(Slow(), port={port}, scheduling="batch", max_batch=1, log_level="warning")
"""


def test_sigterm_finishes_what_was_begun_and_says_so_to_the_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    tests = ROOT / "tests"
    code = SLOW.format(tests=str(tests), integration=str(tests / "integration"), port=port)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"

    def ready() -> int:
        try:
            return httpx.get(url + "/ready", trust_env=False).status_code
        except httpx.TransportError:
            assert process.poll() is None
            return 0

    try:
        deadline = time.monotonic() + 60
        while ready() != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # What describes itself comes after what predicts.
        assert httpx.get(url + "/metrics", trust_env=False, timeout=60).status_code == 200

        def post(level: int) -> httpx.Response:
            return httpx.post(url + "/predict", content=png(level), headers=RAW, timeout=60, trust_env=False)

        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(post, 77)
            until(lambda: "osv_in_flight 1" in httpx.get(url + "/metrics", trust_env=False).text)
            process.send_signal(signal.SIGTERM)
            until(lambda: ready() == 503)
            refused = post(10)
            assert refused.status_code == 503
            assert "stopping" in refused.json()["error"]["what"]
            assert begun.result().status_code == 200
        assert process.wait(timeout=30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    finally:
        if process.poll() is None:
            process.kill()
        if process.stderr is not None:
            process.stderr.close()
