"""The same server for long: ``python -m benchmarks.serving.soak [--minutes 60] [--requests 1000000]``.

Eight connections ask for predictions, one in fifty of something that cannot be answered; every ten seconds a model is
swapped; every minute a connection breaks off in the middle of a body. Whichever of the two limits comes first ends it.
Printed are memory, threads and open file handles of all its processes as time goes by, and at last their growth from a
fifth of the time on, which is when everything has been allocated once.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import socket
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.serving.load import Served, machine, material, post, serving, side_by_side

CONNECTIONS = 8


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.serving.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two lines")
    parser.add_argument("--processes", type=int, help="worker processes, 0 for threads; default: the server's own")
    args = parser.parse_args()
    options = {"scheduling": "parallel", **({} if args.processes is None else {"processes": args.processes})}
    with tempfile.TemporaryDirectory() as folder:
        model, images = material(Path(folder))
        with serving(model, **options) as server:
            statuses, rows = soak(server, images, args.minutes * 60, args.requests, args.every)
    print(f"{model.name}, {machine()}; answers: {dict(sorted(statuses.items()))}")
    settled = rows[len(rows) // 5 :]
    minutes = np.array([row["minutes"] for row in settled])
    for name in ("MB", "threads", "handles"):
        values = np.array([row[name] for row in settled])
        slope = np.polyfit(minutes, values, 1)[0] * 60 if len(settled) > 2 else float("nan")
        print(
            f"{name}: {values[0]:g} to {values[-1]:g}, between {values.min():g} and {values.max():g}, "
            f"{slope:+.1f} per hour"
        )


def soak(
    server: Served, images: list[bytes], seconds: float, requests: int, every: float
) -> tuple[Counter[int], list[dict[str, float]]]:
    """Statuses, and what was held when."""
    statuses, rows = Counter[int](), list[dict[str, float]]()
    begun, over, lock = time.monotonic(), threading.Event(), threading.Lock()

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for turn in itertools.count(first, CONNECTIONS):
            if over.is_set() or statuses.total() >= requests:
                break
            status, _ = post(connection, b"no image" if turn % 50 == 0 else images[turn % len(images)])
            with lock:
                statuses[status] += 1
        connection.close()

    def disturb() -> None:
        for turn in itertools.count():
            if over.wait(10.0):
                break
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("POST", "/models/swap", json.dumps({}), {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            with lock:
                statuses[response.status] += 1
            connection.close()
            if turn % 6 == 0:
                with socket.create_connection(("127.0.0.1", server.port)) as half:
                    half.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")

    def watch() -> None:
        while True:
            minutes = (time.monotonic() - begun) / 60
            rows.append({"minutes": round(minutes, 2), "requests": statuses.total(), **server.held()})
            print(rows[-1], flush=True)
            if minutes * 60 >= seconds or statuses.total() >= requests:
                over.set()
                break
            time.sleep(max(0.1, min(every, seconds - minutes * 60)))

    side_by_side(CONNECTIONS + 2, lambda k: (disturb, watch)[k]() if k < 2 else ask(k - 2))
    return statuses, rows


if __name__ == "__main__":
    main()
