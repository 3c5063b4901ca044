"""Worker processes over HTTP: one that dies, models that change in all of them at once, and what stays in the front."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import onnx
import pytest
from support import ROOT
from tiny_model import write_tiny_model

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.serve.crew import Crew
from osv_lab.serve.run import ServerHandle, start_server
from osv_lab.serve.served import load_model

RAW = {"Content-Type": "image/png"}


def png(level: int, side: int = 64) -> bytes:
    return cv2.imencode(".png", np.full((side, side, 3), level, np.uint8))[1].tobytes()


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def get(server: ServerHandle, path: str) -> httpx.Response:
    return httpx.get(server.url + path, timeout=30, trust_env=False)


def ask(server: ServerHandle, content: bytes, **params: Any) -> httpx.Response:
    url = server.url + "/predict"
    return httpx.post(url, content=content, headers=RAW, params=params, timeout=60, trust_env=False)


def processes(server: ServerHandle) -> dict[str, int]:
    said: dict[str, int] = get(server, "/models").json()["processes"]
    return said


def worker_pids(parent: int | None = None) -> list[int]:
    """Worker processes of a process, from Linux' own list."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"osv_lab.serve.worker" in command and above == (parent or os.getpid()):
            found.append(int(folder.name))
    return found


def all_up(server: ServerHandle, number: int) -> list[int]:
    until(lambda: processes(server)["alive"] == number)
    pids = worker_pids()
    assert len(pids) == number
    return pids


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="worker processes are found through /proc")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def server(model: Path) -> Iterator[ServerHandle]:
    with start_server(model, processes=2, scheduling="parallel", max_waiting=12) as handle:
        yield handle


def test_answers_are_those_of_threads(server: ServerHandle, model: Path) -> None:
    images = [png(level) for level in (100, 180, 250)] + [b"no image"]
    files = [("file", image) for image in images]
    with start_server(model, processes=0, scheduling="parallel") as threads:
        assert get(threads, "/models").json()["processes"] is None
        for image in images:
            here, there = ask(threads, image), ask(server, image)
            assert here.status_code == there.status_code
            for key in ("predictions", "model", "image", "error"):
                assert here.json().get(key) == there.json().get(key)
            assert set(here.headers) == set(there.headers)
        both = []
        for one in (threads, server):
            batch = httpx.post(one.url + "/predict/batch", files=files, timeout=60, trust_env=False)
            both.append([{**item} for item in batch.json()["results"]])
        assert both[0] == both[1]
        assert "error" in both[0][3]
        wrong = {"model": "none"}, {"classes": "lapm"}, {"confidence_threshold": 7}
        for params in wrong:
            here, there = ask(threads, images[0], **params), ask(server, images[0], **params)
            assert here.status_code == there.status_code >= 400
            assert here.json() == there.json()


def test_urls_are_the_fronts_business(server: ServerHandle) -> None:
    for url in ("http://127.0.0.1:1/a.png", "http://169.254.169.254/latest"):
        one = httpx.post(server.url + "/predict", json={"image_url": url}, timeout=60, trust_env=False)
        assert one.status_code == 400
        many = httpx.post(server.url + "/predict/batch", json={"images": [url]}, timeout=60, trust_env=False)
        assert "error" in many.json()["results"][0]


@linux
def test_a_killed_worker_fails_its_own_request_and_is_replaced(server: ServerHandle) -> None:
    before = set(all_up(server, 2))
    restarts = processes(server)["restarts"]
    with ThreadPoolExecutor(8) as pool:
        # Stopped workers take a request each and do not answer it, so that one certainly has one when it is killed.
        victim = min(before)
        for worker in before:
            os.kill(worker, signal.SIGSTOP)
        asked = [pool.submit(ask, server, png(level)) for level in range(150, 156)]
        until(lambda: "\nosv_in_flight 6\n" in get(server, "/metrics").text)
        for worker in before - {victim}:
            os.kill(worker, signal.SIGCONT)
        until(lambda: sum(one.done() for one in asked) == 5)
        assert {one.result().status_code for one in asked if one.done()} == {200}
        os.kill(victim, signal.SIGKILL)
        [lost] = [one.result() for one in asked if one.result().status_code != 200]
    assert lost.status_code == 503
    assert int(lost.headers["Retry-After"]) >= 1
    assert "died" in lost.json()["error"]["what"]
    after = set(all_up(server, 2))
    assert before & after == before - {victim}
    assert processes(server)["restarts"] == restarts + 1
    assert "osv_worker_restarts_total 1" in get(server, "/metrics").text


@linux
def test_with_no_worker_up_readiness_says_so_and_what_waits_is_answered_later(server: ServerHandle) -> None:
    pids = all_up(server, 2)
    seen = set()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(ask, server, png(200)) for _ in range(4)]
        until(lambda: (seen.add(get(server, "/ready").status_code), {200, 503} <= seen)[1])
        # Those a dying worker was given fail at once, the others wait for the next one.
        assert {one.result().status_code for one in waiting} <= {200, 503}
    assert ask(server, png(200)).status_code == 200
    all_up(server, 2)


@linux
def test_with_no_worker_up_nobody_waits_beyond_the_deadline(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_start = threading.Event()
    fill = Crew._fill
    monkeypatch.setattr(Crew, "_fill", lambda *arguments: (may_start.wait(30), fill(*arguments)))
    with start_server(model, processes=1, scheduling="parallel", deadline_s=0.3) as server:
        [pid] = all_up(server, 1)
        os.kill(pid, signal.SIGKILL)
        until(lambda: get(server, "/ready").status_code == 503)
        late = httpx.post(server.url + "/predict", content=png(20), headers=RAW, timeout=10, trust_env=False)
        assert (late.status_code, late.json()["error"]["what"]) == (503, "the request waited too long")
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(server.url + "/predict", content=png(20), headers=RAW, timeout=0.1, trust_env=False)
        until(lambda: "osv_in_flight 0" in get(server, "/metrics").text)
        may_start.set()
        until(lambda: get(server, "/ready").status_code == 200)
        assert ask(server, png(200)).status_code == 200


def test_who_left_the_queue_is_not_sent_to_a_worker(model: Path) -> None:
    with (
        start_server(model, processes=1, scheduling="parallel", max_waiting=30, deadline_s=60) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        all_up(server, 1)
        [pid] = worker_pids()
        os.kill(pid, signal.SIGSTOP)
        first = pool.submit(ask, server, png(10))
        until(lambda: "osv_in_flight 1" in get(server, "/metrics").text)
        for level in range(5):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(server.url + "/predict", content=png(level), headers=RAW, timeout=0.2, trust_env=False)
        until(lambda: "osv_abandoned_total 5" in get(server, "/metrics").text)
        os.kill(pid, signal.SIGCONT)
        assert first.result().status_code == 200
        assert "osv_images_total 1" in get(server, "/metrics").text


def test_late_requests_are_not_sent_to_a_worker(model: Path) -> None:
    with (
        start_server(model, processes=1, scheduling="parallel", deadline_s=0.5) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        [pid] = all_up(server, 1)
        os.kill(pid, signal.SIGSTOP)
        first = pool.submit(ask, server, png(10))
        until(lambda: "osv_in_flight 1" in get(server, "/metrics").text)
        late = ask(server, png(20))
        assert late.status_code == 503
        assert late.json()["error"]["what"] == "the request waited too long"
        os.kill(pid, signal.SIGCONT)
        # The worker had it in its hands, not begun, and sees the time too.
        assert first.result().status_code == 503
        assert "osv_expired_total 2" in get(server, "/metrics").text
        assert ask(server, png(30)).status_code == 200
        assert "osv_images_total 1" in get(server, "/metrics").text


# -- models ---------------------------------------------------------------------------------------------------


def renamed(path: Path, name: str) -> Path:
    """The tiny model, its first class called otherwise: another file, another digest, another answer."""
    model = onnx.load(write_tiny_model(path))
    next(one for one in model.metadata_props if one.key == "names").value = str({0: name, 1: "cat"})
    onnx.save(model, str(path))
    return path


def change(server: ServerHandle, verb: str, **request: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/models/{verb}", json=request, timeout=60, trust_env=False)


def test_five_swaps_under_load_and_a_kill(tmp_path: Path) -> None:
    first, second = renamed(tmp_path / "first.onnx", "lamp"), renamed(tmp_path / "second.onnx", "bulb")
    digests = {"lamp": load_model(first).described["digest"], "bulb": load_model(second).described["digest"]}
    answers: list[httpx.Response] = []
    over = threading.Event()

    def load(server: ServerHandle, level: int) -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            while not over.is_set():
                answers.append(client.post("/predict", content=png(level), headers=RAW))

    with (
        start_server(first, also=[second], processes=2, scheduling="parallel") as server,
        ThreadPoolExecutor(4) as pool,
    ):
        pids = all_up(server, 2)
        loads = [pool.submit(load, server, level) for level in (150, 180, 210, 240)]
        for turn, (ref, name) in enumerate(
            [("second.onnx", "bulb"), ("first.onnx", "lamp")] * 2 + [("second.onnx", "bulb")]
        ):
            before = len(answers)
            swapped = change(server, "swap", ref=ref)
            assert swapped.status_code == 200, swapped.text
            until(lambda before=before: len(answers) > before + 8)
            # Who asks after the swap was answered gets the new model, from every worker.
            assert {ask(server, png(200)).json()["predictions"][0]["class"] for _ in range(4)} == {name}
            if turn == 1:
                without_kill = list(answers)
                os.kill(pids[0], signal.SIGKILL)
        until(lambda: processes(server) == {"wanted": 2, "alive": 2, "restarts": 1})
        over.set()
        for one in loads:
            one.result()
    assert {one.status_code for one in without_kill} == {200}
    failed = [one for one in answers if one.status_code != 200]
    assert len(failed) <= 1  # what the killed worker was at
    assert {one.status_code for one in failed} <= {503}
    for one in answers:
        if one.status_code == 200:
            answer = one.json()
            assert answer["model"]["digest"] == digests[answer["predictions"][0]["class"]]
            assert one.headers["X-Model-Digest"] == answer["model"]["digest"]


def test_names_and_what_cannot_be_loaded(tmp_path: Path) -> None:
    lamp, bulb = renamed(tmp_path / "lamp.onnx", "lamp"), renamed(tmp_path / "bulb.onnx", "bulb")
    with start_server(lamp, also=[bulb], processes=2, scheduling="parallel") as server:
        all_up(server, 2)
        assert change(server, "load", ref="bulb.onnx", name="next").status_code == 200
        for _ in range(4):
            assert ask(server, png(200), model="next").json()["predictions"][0]["class"] == "bulb"
        assert change(server, "unload", name="next").status_code == 200
        assert ask(server, png(200), model="next").status_code == 404
        bulb.write_bytes(b"no model")
        refused = change(server, "load", ref="bulb.onnx", name="next")
        assert refused.status_code == 422
        assert str(tmp_path) not in refused.text
        assert processes(server) == {"wanted": 2, "alive": 2, "restarts": 0}


@linux
def test_a_replaced_worker_never_answers_with_another_model(tmp_path: Path) -> None:
    path = renamed(tmp_path / "best.onnx", "lamp")
    with start_server(path, processes=2, scheduling="parallel") as server:
        pids = all_up(server, 2)
        renamed(path, "bulb")  # what a training run does to the file
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: processes(server)["alive"] == 1)
        for _ in range(20):
            assert ask(server, png(200)).json()["predictions"][0]["class"] == "lamp"
        assert change(server, "swap").status_code == 200
        all_up(server, 2)
        assert {ask(server, png(200)).json()["predictions"][0]["class"] for _ in range(6)} == {"bulb"}


def test_batches_run_in_one_process(model: Path) -> None:
    with start_server(model, scheduling="batch", max_batch=4) as server, ThreadPoolExecutor(8) as pool:
        assert processes(server)["wanted"] == 1
        found = list(pool.map(lambda level: ask(server, png(level)).json(), range(100, 180, 5)))
        scores = [round(one["predictions"][0]["confidence"] * 255) for one in found]
        assert scores == list(range(100, 180, 5))
        assert "osv_images_total 16" in get(server, "/metrics").text


# -- beginning and end ----------------------------------------------------------------------------------------


def test_errors_of_a_worker_are_those_of_threads(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        start_server(tmp_path / "none.onnx", processes=1)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(InvalidDataError, match="ONNX"):
        start_server(tmp_path / "bad.onnx", processes=1)
    with pytest.raises(UsageError, match="crew"):
        start_server(tmp_path / "bad.onnx", processes=-1)
    assert worker_pids() == []


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_front(model: Path, number: int) -> None:
    code = (
        "from osv_lab.serve.run import run_server\n"
        f"run_server({str(model)!r}, port=0, processes=2, scheduling='parallel', log_level='error')"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    front = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    try:
        pids = until(lambda: (lambda found: found if len(found) == 2 else [])(worker_pids(front.pid)), 60)
        time.sleep(0.5)
        front.send_signal(number)
        front.wait(30)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        if number == signal.SIGTERM:
            assert front.returncode == 0
    finally:
        if front.poll() is None:
            front.kill()


def test_a_worker_imports_neither_torch_nor_fiftyone_nor_supervision(model: Path) -> None:
    code = (
        "import json, sys\n"
        "heavy = ('torch', 'fiftyone', 'ultralytics', 'supervision', 'scipy')\n"
        "from osv_lab.serve.inputs import Limits\n"
        "from osv_lab.serve.worker import Worker\n"
        "asked = {'ref': sys.argv[1], 'options': {}, 'scheduling': 'parallel', 'max_batch': None, 'described': None}\n"
        "asked['lone_threads'] = None\n"
        "Worker(Limits()).load(1, asked)\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert json.loads(done.stdout) == []
