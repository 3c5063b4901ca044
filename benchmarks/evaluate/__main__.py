"""Measure evaluation: ``python -m benchmarks.evaluate [--images 5000] [--boxes 10]``.

Matches written back, so that the Model Evaluation panel shows them, against FiftyOne's ``evaluate_detections`` on the
same dataset; and the metric alone on arrays against faster-coco-eval (``pip install faster-coco-eval``; left out where
it is not there). Each in a process of its own, prepared before the clock starts, in turns; seconds are of the
processor, of all threads, since other programs may be running. With ``--folder`` what is measured is kept there, so
that the same call after an interruption only does what is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("circle", "square", "star")
SIZE = (640, 480)
GOALS = {"matches written back": 10.0, "metric only": 1.0}
MEASURES: dict[str, Callable[[Any], Callable[[], dict[str, float]]]] = {}


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.evaluate", description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=10, help="objects per image, and predictions (10)")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument(
        "--folder", type=Path, help="keep the dataset and what is measured here, and go on with it"
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print("RESULT " + json.dumps(measure(options.measure)))
        return 0
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        results = run_all(options, options.folder.resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="osv-bench-") as folder:
            results = run_all(options, Path(folder))
    ratios = show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    return int(any(ratio < GOALS[step] for step, ratio in ratios.items()))


def step(name: str) -> Callable[[Any], Any]:
    """Register what one process measures."""

    def keep(prepare: Any) -> Any:
        MEASURES[name] = prepare
        return prepare

    return keep


@step("matches written back/ours")
def written_ours(dataset: Any) -> Callable[[], dict[str, float]]:
    from osv_lab.evaluate.detection import evaluate

    def run() -> dict[str, float]:
        report = evaluate(dataset, key="ours")
        return {"mAP50-95": report.map50_95, "tp": dataset.sum("ours_tp")}

    return run


@step("matches written back/FiftyOne")
def written_fiftyone(dataset: Any) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        found = dataset.evaluate_detections(
            "predictions",
            gt_field="ground_truth",
            eval_key="theirs",
            method="coco",
            compute_mAP=True,
            progress=False,
        )
        return {"mAP50-95": found.mAP(), "tp": dataset.sum("theirs_tp")}

    return run


@step("metric only/ours")
def metric_ours(dataset: Any) -> Callable[[], dict[str, float]]:
    from osv_lab.detect.metrics import average_precision
    from osv_lab.evaluate.arrays import boxes_of

    found, wanted = (boxes_of(dataset, field, CLASSES) for field in ("predictions", "ground_truth"))
    return lambda: {"mAP50-95": average_precision(found, wanted).map50_95}


@step("metric only/faster-coco-eval")
def metric_faster(dataset: Any) -> Callable[[], dict[str, float]]:
    from faster_coco_eval import COCO, COCOeval_faster

    from osv_lab.evaluate.arrays import boxes_of

    found, wanted = (boxes_of(dataset, field, CLASSES) for field in ("predictions", "ground_truth"))
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": row, "width": SIZE[0], "height": SIZE[1]} for row in range(len(wanted))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
        "annotations": _annotations(wanted),
    }
    truth.createIndex()
    predicted = truth.loadRes(_annotations(found))

    def run() -> dict[str, float]:
        evaluation = COCOeval_faster(truth, predicted, "bbox", print_function=lambda *_: None)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return {"mAP50-95": float(evaluation.stats[0])}

    return run


def _annotations(sets: Any) -> list[dict[str, Any]]:
    rows = []
    for image, one in enumerate(sets):
        for box, class_id, score in zip(one.xyxy, one.class_id, one.confidence, strict=True):
            x, y, w, h = (float(value) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
            rows.append(
                {
                    "id": len(rows) + 1, "image_id": image, "category_id": int(class_id), "bbox": [x, y, w, h],
                    "area": w * h, "iscrowd": 0, "score": float(score),
                }
            )  # fmt: skip
    return rows


def make(images: int, boxes: int) -> None:
    """A dataset of truth and imperfect predictions; the images themselves are not needed."""
    from osv_lab.store.database import connect

    fo = connect()
    rng = np.random.default_rng(51)
    dataset = fo.Dataset("bench", persistent=True, overwrite=True)
    samples = []
    for number in range(images):
        size = rng.uniform(0.03, 0.25, (boxes, 2))
        corner = rng.uniform(0, 0.75, (boxes, 2))
        names = rng.choice(CLASSES, boxes)
        moved = rng.normal(0, 0.01, (boxes, 4))
        other = np.where(rng.random(boxes) < 0.9, names, rng.choice(CLASSES, boxes))
        scores = rng.random(boxes)
        places = np.concatenate([corner, size], axis=1)
        sample = fo.Sample(f"/bench/{number}.jpg")
        sample.metadata = fo.ImageMetadata(width=SIZE[0], height=SIZE[1])
        sample["ground_truth"] = fo.Detections(
            detections=[
                fo.Detection(label=str(name), bounding_box=place.tolist())
                for name, place in zip(names, places, strict=True)
            ]
        )
        sample["predictions"] = fo.Detections(
            detections=[
                fo.Detection(label=str(name), bounding_box=np.abs(place).tolist(), confidence=float(score))
                for name, place, score in zip(other, places + moved, scores, strict=True)
            ]
        )
        samples.append(sample)
    dataset.add_samples(samples, progress=False)


def measure(name: str) -> dict[str, float]:
    """Prepare, then run once under the clock."""
    from osv_lab.store.database import connect

    run = MEASURES[name](connect().load_dataset("bench"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, spent = time.perf_counter(), time.process_time()
    values = run()
    return {
        "seconds": time.process_time() - spent,
        "wall_s": time.perf_counter() - wall,
        "start_mib": before,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **values,
    }


def run_all(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    environment = {
        **os.environ,
        "OSV_HOME": str(folder / "home"),
        "FIFTYONE_DATABASE_DIR": str(folder / "mongo"),
        "FIFTYONE_CONFIG_PATH": str(folder / "fiftyone.json"),
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
    }
    environment.pop("FIFTYONE_DATABASE_URI", None)
    kept = folder / f"{options.images}x{options.boxes}.json"
    results: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.is_file() else {}
    if not kept.is_file():
        print(f"writing {options.images:,} images with {options.boxes} objects and predictions each", flush=True)
        code = f"from benchmarks.evaluate.__main__ import make; make({options.images}, {options.boxes})"
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        kept.write_text("{}")
    for turn in range(options.turns):
        for name in MEASURES:
            if turn == 0 and name in results:
                continue
            if name.endswith("faster-coco-eval") and importlib.util.find_spec("faster_coco_eval") is None:
                print("faster-coco-eval is not installed, so the metric alone has no peer")
                continue
            command = [sys.executable, "-m", "benchmarks.evaluate", "--measure", name]
            answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            lines = [line for line in answer.stdout.splitlines() if line.startswith("RESULT ")]
            if not lines:
                raise SystemExit(f"{name} failed:\n{answer.stdout[-2000:]}{answer.stderr[-4000:]}")
            found = json.loads(lines[-1].removeprefix("RESULT "))
            if name not in results or found["seconds"] < results[name]["seconds"]:
                results[name] = found
                kept.write_text(json.dumps(results))
            print(f"  {name}: {found['seconds']:.2f} s of processor, {found['wall_s']:.2f} s of wall", flush=True)
    return results


def show(results: dict[str, dict[str, float]]) -> dict[str, float]:
    print(
        f"\n{'step':44}{'ours':>9}{'theirs':>10}{'ratio':>8}{'goal':>6}{'peak MiB':>10}{'theirs':>8}{'mAP50-95':>20}"
    )
    ratios = {}
    for name, theirs in results.items():
        step, _, side = name.partition("/")
        if side == "ours":
            continue
        ours = results[f"{step}/ours"]
        ratios[step] = theirs["seconds"] / ours["seconds"]
        print(
            f"{step + ' against ' + side:44}{ours['seconds']:>7.2f} s{theirs['seconds']:>8.2f} s{ratios[step]:>7.1f}x"
            f"{GOALS[step]:>5.0f}x{ours['peak_mib']:>10.0f}{theirs['peak_mib']:>8.0f}"
            f"{ours['mAP50-95']:>12.6f}{theirs['mAP50-95']:>9.6f}"
        )
    return ratios


if __name__ == "__main__":
    raise SystemExit(main())
