"""Measure curation: ``python -m benchmarks.curate [--seeds 3] [--hashes 100000]``."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.curate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hashes", type=int, default=100_000)
    parser.add_argument("--only", choices=("hashes", "planted"))
    parser.add_argument("--measure-hashes", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_hashes:
        print(json.dumps(measure_hashes(options.measure_hashes)))
        return 0
    if options.only != "planted":
        hashes(options.hashes)
    if options.only != "hashes":
        planted(options.seeds)
    return 0


def hashes(most: int) -> None:
    """Near duplicates among random hashes, one in twenty of them a near copy: time against n, each n in a process."""
    print(f"{'hashes':>10} {'pairs':>8} {'seconds':>8} {'peak MB':>8}")
    for n in (most // 8, most // 4, most // 2, most):
        command = [sys.executable, "-m", "benchmarks.curate", "--measure-hashes", str(n)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        one = json.loads(run.stdout)
        print(f"{n:>10,} {one['pairs']:>8,} {one['seconds']:>8.2f} {one['peak_mb']:>8.0f}", flush=True)


def measure_hashes(n: int) -> dict[str, float]:
    from osv_lab.curate.duplicates import RADIUS
    from osv_lab.curate.hamming import pairs_within, unique_hashes

    random = np.random.default_rng(51)
    values = random.integers(0, 2**64, n, dtype=np.uint64)
    copies = random.choice(n, n // 20, replace=False)
    sources = random.integers(0, n, len(copies))
    flips = np.zeros(len(copies), np.uint64)
    for _ in range(6):
        flips |= np.uint64(1) << random.integers(0, 64, len(copies)).astype(np.uint64)
    values[copies] = values[sources] ^ flips
    begin = time.perf_counter()
    pairs = sum(len(i) for i, _, _ in pairs_within(unique_hashes(values)[0], RADIUS))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"pairs": pairs, "seconds": time.perf_counter() - begin, "peak_mb": peak}


def planted(seeds: int) -> None:
    """Recall of planted faults on BCCD, by seed and in the mean."""
    shared = Path(os.environ.get("OSV_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    source, model = shared / "bccd" / "BCCD", shared / "models" / "bccd_yolo11n.onnx"
    if not source.is_dir() or not model.is_file():
        print("BCCD and its model are not here: set OSV_SHARED_DATA")
        return
    folder = Path(tempfile.mkdtemp(prefix="osv-bench-"))
    os.environ.update(
        OSV_HOME=str(folder / "home"),
        FIFTYONE_DATABASE_DIR=str(folder / "mongo"),
        FIFTYONE_SHOW_PROGRESS_BARS="false",
    )
    try:
        results = [_planted(source, Path(shutil.copy(model, folder)), folder, seed) for seed in range(seeds)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'among the first 200':32} {'ours, mean':>10} {'least':>6} {'Brain, mean':>11}   ({seeds} seeds)")
    for name in results[0][0]:
        own = [one[0][name] for one in results]
        brain = [one[1][name] for one in results if name in one[1]]
        peer = f"{np.mean(brain):11.2f}" if brain else f"{'-':>11}"
        print(f"{name:32} {np.mean(own):10.2f} {np.min(own):6.2f} {peer}")


def _planted(source: Path, model: Path, folder: Path, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    from benchmarks.curate import planted as plan
    from osv_lab.curate.label_errors import find_label_errors
    from osv_lab.curate.quality import quality
    from osv_lab.detect import load_detector
    from osv_lab.store.database import connect
    from osv_lab.store.ingest import ingest
    from osv_lab.store.predict import predict

    fo = connect()
    if not fo.dataset_exists("clean"):
        ingest(source, "clean")
        predict(fo.load_dataset("clean"), load_detector(str(model)))
    dataset = fo.load_dataset("clean").clone(f"planted-{seed}")
    faults = plan.plant_labels(fo, dataset, seed)
    begin = time.perf_counter()
    report = find_label_errors(dataset, limit=1_000_000)
    seconds = time.perf_counter() - begin
    own = plan.recall_of_labels(faults, list(report.suggestions))
    begin = time.perf_counter()
    brain = plan.brain_labels(fo, dataset, faults)
    print(
        f"seed {seed}: label errors in {seconds:.0f} s, mistakenness in {time.perf_counter() - begin:.0f} s",
        flush=True,
    )
    plan.plant_images(fo, dataset, plan.fresh_folder(folder / f"images-{seed}"), seed, faults)
    own |= plan.recall_of_images(faults, quality(dataset))
    brain |= plan.brain_copies(dataset, faults)
    dataset.delete()
    return own, brain


if __name__ == "__main__":
    raise SystemExit(main())
