"""Time per epoch against bare ``YOLO.train``: ``python -m benchmarks.train [--imgsz 160] [--epochs 5] [--turns 2]``.

The same model, images and settings on both sides: the bare one gets the ``args.yaml`` that the lab's run has written,
and its data. Each in a process of its own, in turns (lab, bare, bare, lab, ...). An epoch is the time from one row of
Ultralytics' ``results.csv`` to the next: training, validation, checkpoint, and all that either does besides. The first
epoch, which warms up, is left out, as is what each does once per run.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

GOAL = 1.03


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=__doc__)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--turns", type=int, default=2, help="pairs of runs")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print("RESULT " + json.dumps(SIDES[options.side](options)))
        return 0
    shared = Path(os.environ.get("OSV_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if not (shared / "bccd").is_dir():
        print("BCCD and its model are not here: set OSV_SHARED_DATA")
        return 0
    with tempfile.TemporaryDirectory(prefix="osv-bench-") as name:
        folder = Path(name)
        os.environ.update(
            OSV_HOME=f"{folder}/home", FIFTYONE_DATABASE_DIR=f"{folder}/mongo", FIFTYONE_SHOW_PROGRESS_BARS="false"
        )
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        shutil.copy(shared / "models" / "bccd_yolo11n.pt", folder / "start.pt")
        code = f"from osv_lab.store.ingest import ingest; ingest({str(shared / 'bccd')!r}, 'cells')"
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for side in [one for turn in range(options.turns) for one in list(SIDES)[:: -1 if turn % 2 else 1]]:
            epochs = measured(side, folder, options)
            times[side] += epochs
            print(f"{side:5} {', '.join(f'{one:.2f}' for one in epochs)} s per epoch", flush=True)
    middle = {side: median(some) for side, some in times.items()}
    print(f"median of {len(times['lab'])} epochs each: lab {middle['lab']:.3f} s, bare {middle['bare']:.3f} s")
    ratio = middle["lab"] / middle["bare"]
    print(f"ratio {ratio:.3f}, of the fastest epochs {min(times['lab']) / min(times['bare']):.3f} (goal: {GOAL})")
    return int(ratio > GOAL)


def measured(side: str, folder: Path, options: argparse.Namespace) -> list[float]:
    """Seconds per epoch of one run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train", "--side", side, "--folder", str(folder)]
    command += ["--imgsz", str(options.imgsz), "--epochs", str(options.epochs)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in answer.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{side} failed:\n{answer.stdout[-2000:]}{answer.stderr[-4000:]}")
    found: list[float] = json.loads(lines[-1].removeprefix("RESULT "))
    return found


def lab(options: argparse.Namespace) -> list[float]:
    """A run of the lab: view, MLflow, checkpoints that survive a kill."""
    from osv_lab.core.settings import load_settings
    from osv_lab.store.database import connect
    from osv_lab.train.recipe import Recipe
    from osv_lab.train.trainer import train

    view = connect().load_dataset("cells").match_tags(["train", "val"])
    recipe = Recipe(str(options.folder / "start.pt"), epochs=options.epochs, imgsz=options.imgsz, device="cpu")
    run = train(view, recipe)
    place = load_settings().runs_dir / run.name
    shutil.copy(place / "args.yaml", options.folder / "args.yaml")
    return epoch_times(place / "results.csv")


def bare(options: argparse.Namespace) -> list[float]:
    """``YOLO.train`` on the data and with the settings of the lab's run before."""
    import yaml

    os.environ["YOLO_CONFIG_DIR"] = str(options.folder)
    from ultralytics import YOLO

    settings: dict[str, Any] = yaml.safe_load((options.folder / "args.yaml").read_text())
    weights = settings.pop("model")
    for key in ("save_dir", "resume", "mode", "project", "name", "exist_ok"):
        settings.pop(key, None)
    place = Path(tempfile.mkdtemp(dir=options.folder))
    YOLO(weights).train(**settings, project=str(place), name="bare")
    return epoch_times(place / "bare" / "results.csv")


SIDES = {"lab": lab, "bare": bare}


def epoch_times(results: Path) -> list[float]:
    """Seconds from one epoch's row to the next."""
    with open(results, encoding="utf-8") as file:
        at = [float(row["time"]) for row in csv.DictReader(file)]
    return [later - sooner for sooner, later in itertools.pairwise(at)]


if __name__ == "__main__":
    sys.exit(main())
