"""From nothing to the first answer: ``python -m benchmarks.serving.cold [--rounds N]``.

The floor is a process that imports onnxruntime and loads the model. Beside it a server is started, and asked until it
answers a prediction; in the same round, in turns. Printed are the least and the median of all rounds: what else runs on
the machine only ever slows them. All of them find compiled modules, as after an installation by pip, whatever this
process was told about writing them. "measured" is the default: what is measured when a model is first served on a
machine is remembered; "measuring" is that first time.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.serving.load import machine, material, post, start

FLOOR = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"
ONLY_LOADING = "import and load"
MEASURING = "processes, measuring"
KINDS: dict[str, dict[str, Any]] = {
    "processes, parallel": {"scheduling": "parallel"},
    "processes, measured": {"scheduling": "auto"},
    MEASURING: {"scheduling": "auto"},
    "threads, parallel": {"scheduling": "parallel", "processes": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.serving.cold", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        os.environ["OSV_HOME"] = f"{folder}/home"
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        model, images = material(Path(folder))
        found: dict[str, list[float]] = {}
        for turn in range(args.rounds + 1):
            # The order turns, so that nobody always follows the same one.
            kinds = [ONLY_LOADING, *KINDS]
            for kind in [*kinds[turn % len(kinds) :], *kinds[: turn % len(kinds)]]:
                if kind == MEASURING:
                    shutil.rmtree(f"{folder}/home/scheduling", ignore_errors=True)
                seconds = load(model) if kind == ONLY_LOADING else first_answer(model, images[0], KINDS[kind])
                if turn > 0:  # the first one compiles
                    found.setdefault(kind, []).append(seconds)
    print(f"{model.name}, {machine()}")
    floor = found[ONLY_LOADING]
    for kind in (ONLY_LOADING, *KINDS):
        times = found[kind]
        ratio = statistics.median(one / base for one, base in zip(times, floor, strict=True))
        print(
            f"{kind:22} least {min(times):.2f} s, median {statistics.median(times):.2f} s, {ratio:.2f} of the floor"
        )


def load(model: Path) -> float:
    """Seconds of a process that imports onnxruntime and loads the model."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", FLOOR, str(model)], check=True)
    return time.perf_counter() - started


def first_answer(model: Path, image: bytes, options: dict[str, Any]) -> float:
    """Seconds until a server that is started now has answered a prediction."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    started = time.perf_counter()
    process = start(model, port, **options)
    try:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                status, _ = post(connection, image)
                if status == 200:
                    return time.perf_counter() - started
            except (OSError, http.client.HTTPException):
                if process.poll() is not None:
                    raise SystemExit("the server does not answer") from None
            finally:
                connection.close()
            time.sleep(0.005)
    finally:
        process.terminate()
        process.wait(30)
        time.sleep(0.3)  # its workers end too, and the next one is not for that


if __name__ == "__main__":
    main()
