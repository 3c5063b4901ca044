"""Time per epoch against bare ``YOLO.train``: ``python -m benchmarks.train [--imgsz 160] [--epochs 5] [--turns 2]``.

The same model, images and settings on both sides: the bare one gets the ``args.yaml`` that the lab's run has written,
and its data, and logs to nothing. Each in a process of its own, in turns (lab, bare, bare, lab, ...). An epoch is the
time from one ``on_fit_epoch_end`` to the next: training, validation, checkpoint, and all that either does besides. The
first epoch, which warms up, is left out, as is what each does once per run. Told in seconds of the clock and of the
processor, of all threads: where other programs or machines take their share, the latter is what can be compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
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
        times: dict[str, list[list[float]]] = {side: [] for side in SIDES}
        for side in [one for turn in range(options.turns) for one in list(SIDES)[:: -1 if turn % 2 else 1]]:
            epochs = measured(side, folder, options)
            times[side] += epochs
            print(f"{side:5} {', '.join(f'{wall:.2f} ({spent:.2f})' for wall, spent in epochs)}", flush=True)
    ratios = []
    for number, clock in enumerate(("clock", "processor")):
        middle = {side: median(one[number] for one in some) for side, some in times.items()}
        least = {side: min(one[number] for one in some) for side, some in times.items()}
        ratios.append(middle["lab"] / middle["bare"])
        print(
            f"{clock:9} per epoch, median of {len(times['lab'])}: lab {middle['lab']:.3f} s, "
            f"bare {middle['bare']:.3f} s, ratio {ratios[-1]:.3f} "
            f"(of the fastest {least['lab'] / least['bare']:.3f}; goal {GOAL})"
        )
    return int(min(ratios) > GOAL)


def measured(side: str, folder: Path, options: argparse.Namespace) -> list[list[float]]:
    """Seconds per epoch, of the clock and the processor, of one run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train", "--side", side, "--folder", str(folder)]
    command += ["--imgsz", str(options.imgsz), "--epochs", str(options.epochs)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in answer.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{side} failed:\n{answer.stdout[-2000:]}{answer.stderr[-4000:]}")
    found: list[list[float]] = json.loads(lines[-1].removeprefix("RESULT "))
    return found


def lab(options: argparse.Namespace) -> list[list[float]]:
    """A run of the lab: view, MLflow, checkpoints that survive a kill."""
    from osv_lab.core.settings import load_settings
    from osv_lab.store.database import connect
    from osv_lab.train.recipe import Recipe
    from osv_lab.train.trainer import train

    view = connect().load_dataset("cells").match_tags(["train", "val"])
    recipe = Recipe(str(options.folder / "start.pt"), epochs=options.epochs, imgsz=options.imgsz, device="cpu")
    stamps = stamped()
    run = train(view, recipe)
    shutil.copy(load_settings().runs_dir / run.name / "args.yaml", options.folder / "args.yaml")
    return differences(stamps)


def bare(options: argparse.Namespace) -> list[list[float]]:
    """``YOLO.train`` on the data and with the settings of the lab's run before."""
    import yaml

    os.environ["YOLO_CONFIG_DIR"] = str(options.folder)
    from ultralytics import YOLO
    from ultralytics import settings as switches

    # Loggers that happen to be installed are no part of it; the lab's own MLflow run is part of the lab's.
    loggers = ("mlflow", "wandb", "comet", "clearml", "tensorboard")
    switches.update({name: False for name in loggers if name in switches})
    os.chdir(options.folder)
    settings: dict[str, Any] = yaml.safe_load((options.folder / "args.yaml").read_text())
    weights = settings.pop("model")
    for key in ("save_dir", "resume", "mode", "project", "name", "exist_ok"):
        settings.pop(key, None)
    stamps = stamped()
    YOLO(weights).train(**settings, project=tempfile.mkdtemp(dir=options.folder), name="bare")
    return differences(stamps[: options.epochs])  # One more follows when the best weights are validated.


SIDES = {"lab": lab, "bare": bare}


def stamped() -> list[tuple[float, float]]:
    """A list that gets the clock's and the processor's time at the end of every epoch."""
    from ultralytics.utils.callbacks import default_callbacks

    stamps: list[tuple[float, float]] = []
    default_callbacks["on_fit_epoch_end"].append(
        lambda _: stamps.append((time.perf_counter(), time.process_time()))
    )
    return stamps


def differences(stamps: list[tuple[float, float]]) -> list[list[float]]:
    """From one stamp to the next."""
    return [
        [later - sooner for sooner, later in zip(one, other, strict=True)]
        for one, other in itertools.pairwise(stamps)
    ]


if __name__ == "__main__":
    sys.exit(main())
