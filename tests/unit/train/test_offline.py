"""Import, train, score, evaluate and register without one connection or look-up beyond this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Runs in a process of its own, from its first import on. MLflow comes before FiftyOne, which is the harder order.
SCRIPT = """
import ipaddress, socket, sys

asked = []

def local(host):
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

def guarded(original, host_of):
    def wrapped(*arguments, **options):
        host = host_of(*arguments, **options)
        if not local(host):
            asked.append((original.__name__, host))
            raise OSError("refused by the test")
        return original(*arguments, **options)
    return wrapped

def of_address(self, address, *rest):
    return None if self.family == socket.AF_UNIX else address[0]

for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, guarded(getattr(socket.socket, name), of_address))
socket.socket.sendto = guarded(socket.socket.sendto, lambda self, data, *rest: of_address(self, rest[-1]))
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    setattr(socket, name, guarded(getattr(socket, name), lambda host, *rest, **options: host))

import mlflow
from osv_lab.store.database import connect
fo = connect()
from osv_lab.detect import load_detector
from osv_lab.evaluate.detection import evaluate
from osv_lab.evaluate.verify import score
from osv_lab.train.recipe import Recipe
from osv_lab.train.registry import register
from osv_lab.train.trainer import train

dataset = fo.load_dataset(sys.argv[1])
run = train(dataset, Recipe(sys.argv[2], epochs=1, imgsz=64, batch=8, device="cpu"), experiment="offline")
score(dataset.match_tags("val"), load_detector(run.weights))
evaluate(dataset.match_tags("val"), "predictions", key="offline")
register(run.weights, "offline", run_id=run.run_id, alias="champion")
load_detector("models:/offline@champion")
assert not asked, asked
print("quiet")
"""


def test_no_connection_and_no_lookup(
    fo: Any, shapes: Callable[..., Any], tiny_model: Path, tmp_path: Path
) -> None:
    dataset = shapes(train=8, val=2)
    dataset.clone_sample_field("ground_truth", "predictions")
    dataset.set_values("predictions.detections.confidence", [[0.9, 0.8]] * 10)
    settings = Path(os.environ["YOLO_CONFIG_DIR"]) / "Ultralytics" / "settings.json"
    before = settings.read_bytes() if settings.exists() else None
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, dataset.name, str(tiny_model)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    # Nothing but the script's own line: what the library prints would spoil --json.
    assert answer.stdout == "quiet\n"
    assert not list(tmp_path.iterdir())
    assert not list(settings.parent.glob("*.ttf"))
    if before is not None:
        assert settings.read_bytes() == before
