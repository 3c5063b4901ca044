"""Twice as many requests as the server can answer, for a minute: ``python -m benchmarks.serving.overload``.

Capacity is what eight connections get through before and after. Then requests come at twice that rate whatever becomes
of them: how many are answered, how late, and how soon the others are told so. At last, clients that leave: how many of
their images are computed all the same. The clients take part of the same machine, and more of it at twice the rate.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.serving.load import Served, closed_loop, machine, material, open_loop, serving

LEAVING = 24


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.serving.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=2.0, help="the rate, as a multiple of the capacity")
    parser.add_argument("--processes", type=int, help="worker processes, 0 for threads; default: the server's own")
    args = parser.parse_args()
    options = {"scheduling": "parallel", **({} if args.processes is None else {"processes": args.processes})}
    with tempfile.TemporaryDirectory() as folder:
        model, images = material(Path(folder))
        with serving(model, **options) as server:
            closed_loop(server.port, images, 8, 2)
            capacity = rate(closed_loop(server.port, images, 8, 5), 5)
            held: list[dict[str, float]] = []
            over = threading.Event()
            watch = threading.Thread(target=watching, args=(server, held, over))
            watch.start()
            asked = args.times * capacity
            found = open_loop(server.port, images, asked, args.seconds)
            over.set()
            watch.join()
            after = rate(closed_loop(server.port, images, 8, 5), 5)
            computed = leaving(server, images)
    served = [seconds * 1000 for status, seconds in found if status == 200]
    refused = [seconds * 1000 for status, seconds in found if status == 503]
    other = len(found) - len(served) - len(refused)
    print(f"{model.name}: capacity {capacity:.0f} images/s before, {after:.0f} after; {machine()}")
    share = len(served) / args.seconds / capacity
    print(
        f"{asked:.0f} requests/s for {args.seconds:.0f} s: {share:.2f} of the capacity served, {other} other answers"
    )
    print("answered: p50 {:.0f} ms, p99 {:.0f} ms".format(*np.percentile(served, [50, 99])))
    if refused:
        shown = "refused with 503: {}, p50 {:.1f} ms, p99 {:.1f} ms, slowest {:.1f} ms"
        print(shown.format(len(refused), *np.percentile(refused, [50, 99]), max(refused)))
    print(f"held, second 5 and at the end: {held[min(4, len(held) - 1)]}, {held[-1]}")
    print(f"computed of {LEAVING} requests whose clients left: {computed:.0f}")


def rate(found: list[tuple[int, float]], seconds: float) -> float:
    return sum(status == 200 for status, _ in found) / seconds


def watching(server: Served, held: list[dict[str, float]], over: threading.Event) -> None:
    while not over.wait(1.0):
        held.append(server.held())


def leaving(server: Served, images: list[bytes]) -> float:
    """Of requests that are sent while all workers are busy and whose clients leave at once, how many are computed."""
    before = server.metric("osv_images_total")
    busy = list[tuple[int, float]]()
    keep_busy = threading.Thread(target=lambda: busy.extend(closed_loop(server.port, images, 8, 1.5)))
    keep_busy.start()
    time.sleep(0.5)
    for turn in range(LEAVING):
        image = images[turn % len(images)]
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"{head}\r\n\r\n".encode() + image)
            time.sleep(0.005)
    keep_busy.join()
    time.sleep(1.0)
    return server.metric("osv_images_total") - before - sum(status == 200 for status, _ in busy)


if __name__ == "__main__":
    main()
