"""What the long scripts share: a server in a process of its own, requests at a rate, and what its processes hold."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    port: int
    pid: int

    def pids(self) -> list[int]:
        """Its process and those it started (Linux)."""
        children = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [self.pid, *(int(one) for path in children for one in path.read_text().split())]

    def held(self) -> dict[str, float]:
        """Memory in MB (what is shared between processes counted once), threads, and open file handles."""
        memory, threads, handles = 0.0, 0, 0
        for pid in self.pids():
            folder = Path(f"/proc/{pid}")
            lines = (folder / "smaps_rollup").read_text().splitlines()
            memory += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
            threads += len(list((folder / "task").iterdir()))
            handles += len(list((folder / "fd").iterdir()))
        return {"MB": round(memory, 1), "threads": threads, "handles": handles}

    def metric(self, name: str) -> float:
        """One number of ``/metrics``."""
        text = get(self.port, "/metrics")
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))


def start(model: Path, port: int, **options: Any) -> subprocess.Popen[bytes]:
    """A process that begins to serve."""
    asked = {"port": port, "log_level": "error", **options}
    # Written into the program: what would read it there is not the server's to import.
    serve = f"from osv_lab.serve.run import run_server; run_server({str(model)!r}, **{asked!r})"
    return subprocess.Popen([sys.executable, "-c", serve], cwd=ROOT)


@contextmanager
def serving(model: Path, **options: Any) -> Iterator[Served]:
    """A server of this repository, until the block is left; returns when all its workers are up."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    process = start(model, port, **options)
    try:
        end = time.monotonic() + 120
        while not _up(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("the server does not answer")
            time.sleep(0.1)
        yield Served(port, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _up(port: int) -> bool:
    try:
        said = json.loads(get(port, "/models"))["processes"]
    except OSError:
        return False
    return said is None or said["alive"] == said["wanted"]


def get(port: int, path: str) -> str:
    """The body of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def post(connection: http.client.HTTPConnection, image: bytes) -> tuple[int, float]:
    """Status and seconds of a prediction."""
    started = time.perf_counter()
    connection.request("POST", "/predict", image, {"Content-Type": "image/jpeg"})
    response = connection.getresponse()
    response.read()
    return response.status, time.perf_counter() - started


def closed_loop(port: int, images: Sequence[bytes], connections: int, seconds: float) -> list[tuple[int, float]]:
    """Statuses and seconds of as many requests as that many connections, one request each at a time, get through."""
    end, found = time.perf_counter() + seconds, list[tuple[int, float]]()

    def work(turn: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() < end:
            found.append(post(connection, images[turn % len(images)]))
            turn += 1
        connection.close()

    side_by_side(connections, work)
    return found


def open_loop(port: int, images: Sequence[bytes], rate: float, seconds: float) -> list[tuple[int, float]]:
    """Statuses and seconds of requests that come at a rate whatever becomes of the earlier ones."""
    found, count = list[tuple[int, float]](), int(rate * seconds)
    begin, lock, turns = time.perf_counter() + 0.2, threading.Lock(), iter(range(count))

    def work(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                break
            time.sleep(max(0.0, begin + turn / rate - time.perf_counter()))
            found.append(post(connection, images[turn % len(images)]))
        connection.close()

    side_by_side(64, work)
    return found


def side_by_side(number: int, work: Callable[[int], None]) -> None:
    """That many threads, until all are done."""
    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(number)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def material(folder: Path) -> tuple[Path, list[bytes]]:
    """YOLOX-Nano and real photos where ``OSV_SHARED_DATA`` has them, else a tiny model and noise."""
    sys.path.insert(0, str(ROOT / "tests"))
    from benchmarks.serving.__main__ import _material

    model, images = _material(folder)
    return model, [one.read_bytes() for one in images]


def machine() -> str:
    """What the figures depend on."""
    return f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
