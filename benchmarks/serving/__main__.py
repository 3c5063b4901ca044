"""Servers side by side: ``python -m benchmarks.serving [--peer litserve=PYTHON] [--peer mosec=PYTHON] [--rounds N]
[--seconds S] [--connections 1 8 32] [--only ours naive ...] [--model PATH]``.

The floor is the same pipeline (decode, letterbox, one session of one thread, suppression) without HTTP in as many
threads as the connections can use cores. Contestants take turns within every round, those whose turn it is not are
stopped, and what is printed are medians over rounds: of served images per second as a share of that round's floor, of
p50 and p99, and of CPU time per image. Where other programs run, only the last can be compared: the shares then say
who gets the cores, and more processes get more. A peer must have this environment's releases of what decodes and runs
the network: they differ by more than servers do. The model is YOLOX-Nano on real photos where ``OSV_SHARED_DATA`` has
them, else a tiny one on noise.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import numpy as np
from support import shared_data
from tiny_model import write_tiny_model

from osv_lab.detect.engine import usable_cores

HERE = Path(__file__).parent
OURS = ("ours", "ours-threads", "ours-parallel", "ours-batch", "naive", "ultralytics")


RELEASES = """
import json, cv2, numpy, onnxruntime, PIL
print(json.dumps({one.__name__: one.__version__ for one in (cv2, numpy, onnxruntime, PIL)}))
"""


def check_releases(pythons: Sequence[str]) -> None:
    """Refuse peers that decode, or run the network, with something else."""
    asked = {one: subprocess.check_output([one, "-c", RELEASES], text=True) for one in [sys.executable, *pythons]}
    own = asked[sys.executable]
    for python, said in asked.items():
        if said != own:
            raise SystemExit(f"{python} has {said.strip()}, here are {own.strip()}: install the same")


class Contestant:
    """One server, or the floor, in a process group of its own; stopped except when it is its turn."""

    def __init__(self, kind: str, python: str, model: Path) -> None:
        self.kind = kind
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [python, str(HERE / "servers.py"), kind, str(model), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if kind == "floor" else subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def wait(self, images: Sequence[Path]) -> None:
        """Until it answers, and does nothing else."""
        end = time.monotonic() + 60
        while self.kind != "floor":
            try:
                if self.run(1, 0.05, images)["latencies"]:
                    break
            except (OSError, subprocess.CalledProcessError, json.JSONDecodeError):
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{self.kind} does not answer")
            time.sleep(0.3)
        # Some answer before they are all there, and the others' turns are not for what is left.
        before = -1.0
        while self.cpu_s() - before > 0.02 and time.monotonic() < end:
            before = self.cpu_s()
            time.sleep(1.0)

    def run(self, connections: int, seconds: float, images: Sequence[Path]) -> dict[str, Any]:
        """Images per second and the latencies of each."""
        if self.kind == "floor":
            threads = min(connections, usable_cores())
            asked = {"threads": threads, "seconds": seconds, "images": [str(one) for one in images]}
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            print(json.dumps(asked), file=self.process.stdin, flush=True)
            return dict(json.loads(self.process.stdout.readline()))
        command = [sys.executable, "-S", str(HERE / "client.py"), str(self.port), str(connections), str(seconds)]
        done = subprocess.run([*command, *map(str, images)], capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far (Linux)."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid:  # its session
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--only", nargs="+", help=f"of {', '.join(OURS)}; default: ours and naive")
    parser.add_argument("--model", type=Path, help="another one than YOLOX-Nano; Ultralytics runs only its own")
    args = parser.parse_args()
    pythons = dict(one.split("=", 1) for one in args.peer)
    check_releases(list(pythons.values()))
    kinds = list(dict.fromkeys(["floor", *(args.only or ("ours", "naive")), *pythons]))
    with tempfile.TemporaryDirectory() as folder:
        # A model is measured anew, whatever is remembered of it on this machine.
        os.environ["OSV_HOME"] = f"{folder}/home"
        model, images = _material(Path(folder))
        model = args.model or model
        # Shares of a floor mean nothing without the model: HTTP weighs more beside a network that costs little.
        print(f"{model.name}, {len(images)} images ({images[0].name}, ...)", flush=True)
        contestants = []
        try:
            for kind in kinds:
                one = Contestant(kind, pythons.get(kind, sys.executable), model)
                contestants.append(one)
                one.wait(images)
                one.run(max(args.connections), 0.5, images)
                one.signal(signal.SIGSTOP)
            _report(kinds, args.connections, _measure(contestants, args, images))
        finally:
            for one in contestants:
                one.signal(signal.SIGKILL)
                one.process.wait()


def _material(folder: Path) -> tuple[Path, list[Path]]:
    data = shared_data()
    if data is not None:
        photos = sorted((data / "bccd" / "BCCD" / "JPEGImages").glob("*.jpg"))[:16]
        return data / "models" / "yolox_nano_coco.onnx", photos
    import cv2

    random = np.random.default_rng(0)
    images = [folder / f"{index}.jpg" for index in range(16)]
    for one in images:
        cv2.imwrite(str(one), random.integers(0, 255, (480, 640, 3), np.uint8))
    return write_tiny_model(folder / "tiny.onnx"), images


def _measure(contestants: Sequence[Contestant], args: argparse.Namespace, images: Sequence[Path]) -> Any:
    """Per number of connections and contestant, one result per round."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for turn in range(args.rounds):
        for connections in args.connections:
            # The order turns, so that nobody always follows the same one.
            for one in [*contestants[turn % len(contestants) :], *contestants[: turn % len(contestants)]]:
                one.signal(signal.SIGCONT)
                before = one.cpu_s()
                result = one.run(connections, args.seconds, images)
                one.signal(signal.SIGSTOP)
                result["cpu"] = (one.cpu_s() - before) * 1000 / max(1, len(result["latencies"]))
                p50, p99 = np.percentile(result.pop("latencies"), [50, 99])
                found.setdefault((connections, one.kind), []).append({**result, "p50": p50, "p99": p99})
    return found


def _report(kinds: Sequence[str], connections: Sequence[int], found: Any) -> None:
    print(f"{'':12}" + "".join(f"{f'{c} connections':^42}" for c in connections))
    print(
        f"{'':12}"
        + "".join(f"{'of floor':>10}{'p50 ms':>8}{'p99 ms':>8}{'CPU ms':>8}{'failed':>8}" for _ in connections)
    )
    for kind in kinds:
        line = f"{kind:12}"
        for c in connections:
            rounds, floors = found[c, kind], found[c, "floor"]
            ratio = statistics.median(one["rate"] / base["rate"] for one, base in zip(rounds, floors, strict=True))
            middle = {name: statistics.median(one[name] for one in rounds) for name in ("p50", "p99", "cpu")}
            failed = sum(one["failed"] for one in rounds)
            line += f"{ratio:>10.2f}{middle['p50']:>8.1f}{middle['p99']:>8.1f}{middle['cpu']:>8.1f}{failed:>8}"
        print(line)
    rates = (f"{statistics.median(one['rate'] for one in found[c, 'floor']):.0f} at {c}" for c in connections)
    print(f"floor, images per second: {', '.join(rates)}; {usable_cores()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
