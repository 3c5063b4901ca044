"""Measure the store against FiftyOne: ``python -m benchmarks.store [--samples 10000] [--boxes 10]``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.store.data import write_yolo
from benchmarks.store.measures import MEASURES, Setting, measure

GOALS = {"ingest": 10.0, "predictions": 10.0, "export": 10.0, "predict": 2.0}


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.store", description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--boxes", type=int, default=10)
    parser.add_argument("--predicted", type=int, default=300, help="images for predict against apply_model")
    parser.add_argument("--weights", default=default_weights(), help="an Ultralytics .pt, with an .onnx beside it")
    parser.add_argument("--photos", default=default_photos(), help="images to predict on")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, text = options.measure
        stated = json.loads(text)
        print("RESULT " + json.dumps(measure(name, Setting(**{**stated, "folder": Path(stated["folder"])}))))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="osv-bench-"))
    try:
        results = run_all(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    return 0


def default_photos() -> str:
    """Real photos where they are, else the benchmark's own pictures."""
    folder = shared() / "bccd" / "BCCD"
    return str(folder) if folder.is_dir() else ""


def default_weights() -> str:
    """Real weights where they are, else an untrained network of the same shape."""
    weights = shared() / "models" / "bccd_yolo11n.pt"
    return str(weights) if weights.is_file() else "yolo11n.yaml"


def shared() -> Path:
    return Path(os.environ.get("OSV_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def run_all(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    environment = {
        **os.environ,
        "OSV_HOME": str(folder / "home"),
        "FIFTYONE_DATABASE_DIR": str(folder / "mongo"),
        "FIFTYONE_CONFIG_PATH": str(folder / "fiftyone.json"),
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "YOLO_CONFIG_DIR": str(folder / "ultralytics"),
    }
    environment.pop("FIFTYONE_DATABASE_URI", None)
    stated = {
        "folder": str(folder),
        "samples": options.samples,
        "boxes": options.boxes,
        "predicted": options.predicted,
        "weights": options.weights,
    }
    print(f"writing {options.samples:,} images with {options.boxes} boxes each", flush=True)
    write_yolo(folder / "yolo", options.samples, options.boxes)
    prepare = (
        "import sys; from osv_lab.store.ingest import ingest; from osv_lab.store.database import connect; "
        "connect(); r = ingest(sys.argv[1], 'photos'); ds = connect().load_dataset('photos'); "
        "ds.delete_samples(ds.skip(int(sys.argv[2])))"
    )
    photos = options.photos or str(folder / "yolo")
    subprocess.run([sys.executable, "-c", prepare, photos, str(options.predicted)], env=environment, check=True)
    results = {}
    for name in MEASURES:
        if name.endswith("(onnx)") and not Path(options.weights).with_suffix(".onnx").is_file():
            continue
        command = [sys.executable, "-m", "benchmarks.store", "--measure", name, json.dumps(stated)]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = [line for line in answer.stdout.splitlines() if line.startswith("RESULT ")]
        if not found:
            print(f"{name} failed:\n{answer.stdout[-2000:]}{answer.stderr[-4000:]}", file=sys.stderr)
            continue
        results[name] = json.loads(found[-1].removeprefix("RESULT "))
        print(f"  {name}: {results[name]['seconds']:.2f} s", flush=True)
    return results


def show(results: dict[str, dict[str, float]]) -> None:
    print(f"\n{'step':22}{'ours':>10}{'FiftyOne':>11}{'ratio':>9}{'goal':>7}{'peak MiB':>11}{'theirs':>9}")
    for name, ours in results.items():
        step, _, side = name.partition("/")
        theirs = results.get(f"{step}/fiftyone")
        if side == "fiftyone" or theirs is None:
            continue
        ratio = theirs["seconds"] / ours["seconds"]
        print(
            f"{step + side.removeprefix('ours'):22}{ours['seconds']:>8.2f} s{theirs['seconds']:>9.2f} s{ratio:>8.1f}x"
            f"{GOALS[step]:>6.0f}x{ours['peak_mib']:>11.0f}{theirs['peak_mib']:>9.0f}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
