"""Which images to label: ``select`` against chance at equal budgets, on BCCD.

``python -m benchmarks.curate.learning --out FOLDER [--seeds 0 1 2] [--budgets 20 40 80]``; stopped, it goes on where it
was.

From the first budget of photos of the train list, drawn by chance, each strategy goes on to the next: the model of a
round predicts the rest, ``select`` picks, and the next round trains from the same start on all that is labelled. Every
training sees the same number of pictures; all are measured on BCCD's val and test lists together (159 photos). What
is seen goes into ``learning.csv``, a row per training, and ``learning.png``, the curves with their spread.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curate.training import Photo, fit, photos_of, score

SEEN = 1600
STRATEGIES = ("random", "mix", "uncertainty", "diversity", "class_need")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.curate.learning", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where weights, scores and curves go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", type=int, nargs="+", default=[20, 40, 80], help="labelled photos, increasing")
    parser.add_argument("--strategies", nargs="+", default=["random", "mix"], choices=STRATEGIES)
    options = parser.parse_args()
    out = options.out.absolute()
    dataset = bccd(out)
    pool = dataset.match_tags("train")
    photos = dict(zip(pool.values("id"), photos_of(pool), strict=True))
    held = photos_of(dataset.match_tags(["val", "test"]))
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        for strategy in options.strategies:
            rows += curve(out, pool, photos, held, strategy, seed, options.budgets)
            _save(out / "learning.csv", rows)
            plot(rows, out / "learning.png")
    print(table(rows))
    return 0


def bccd(out: Path) -> Any:
    """BCCD in a lab of its own, as a FiftyOne dataset."""
    shared = Path(os.environ.get("OSV_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    source = shared / "bccd" / "BCCD"
    if not source.is_dir():
        raise SystemExit("BCCD is not here: set OSV_SHARED_DATA")
    os.environ.update(
        OSV_HOME=str(out / "home"),
        FIFTYONE_DATABASE_DIR=str(out / "mongo"),
        FIFTYONE_SHOW_PROGRESS_BARS="false",
        YOLO_CONFIG_DIR=str(out / "ultralytics"),
    )
    from osv_lab.store.database import connect
    from osv_lab.store.ingest import ingest

    fo = connect()
    if not fo.dataset_exists("bccd"):
        ingest(source, "bccd")
    return fo.load_dataset("bccd")


def curve(
    out: Path,
    pool: Any,
    photos: dict[str, Photo],
    held: Sequence[Photo],
    strategy: str,
    seed: int,
    budgets: Sequence[int],
) -> list[dict[str, Any]]:
    """The scores of one strategy from one seed, at every budget."""
    order = [list(photos)[place] for place in np.random.default_rng(seed).permutation(len(photos))]
    chosen, rows, weights = order[: budgets[0]], list[dict[str, Any]](), Path()
    for number, budget in enumerate(budgets):
        if number:
            chosen = chosen + _more(pool, photos, chosen, budget - len(chosen), strategy, order, weights)
        # The first round is the same whatever comes after it.
        name = f"{'first' if not number else f'{strategy}-from-{budgets[0]}'}-{seed}-{budget}"
        begin = time.process_time()
        weights = fit(out, name, [photos[one] for one in chosen], SEEN, seed)
        measured = score(out, name, weights, held)
        objects = sum(len(photos[one].boxes) for one in chosen)
        rows.append({"strategy": strategy, "seed": seed, "images": budget, "objects": objects, **measured})
        print(
            f"{name}: mAP {measured['map']:.3f}, mAP50 {measured['map50']:.3f}, {objects} objects "
            f"({time.process_time() - begin:.0f} CPU s)",
            flush=True,
        )
    return rows


def _more(
    pool: Any,
    photos: dict[str, Photo],
    chosen: Sequence[str],
    n: int,
    strategy: str,
    order: Sequence[str],
    weights: Path,
) -> list[str]:
    """``n`` more images to label, by a strategy."""
    if strategy == "random":
        return [one for one in order if one not in set(chosen)][:n]
    from osv_lab.curate.select import select
    from osv_lab.detect import load_detector
    from osv_lab.store.predict import predict

    # A copy in which only the chosen are labelled.
    dataset = pool.clone()
    try:
        copies = dict(zip(pool.values("id"), dataset.values("id"), strict=True))
        own = {copy: one for one, copy in copies.items()}
        rest = dataset.exclude([copies[one] for one in chosen])
        rest.set_values("ground_truth", [None] * len(rest))
        predict(dataset, load_detector(str(weights)))
        return [own[pick.sample] for pick in select(rest, n, strategy).picks]
    finally:
        dataset.delete()


def points(rows: Sequence[dict[str, Any]]) -> dict[str, dict[int, np.ndarray]]:
    """mAP of every seed, by strategy and budget."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault(row["strategy"], {}).setdefault(row["images"], []).append(row["map"])
    return {
        name: {budget: np.array(maps) for budget, maps in sorted(curve.items())} for name, curve in found.items()
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean and spread over the seeds, by strategy and budget."""
    curves = points(rows)
    budgets = next(iter(curves.values()))
    lines = [f"{'strategy':<14}" + "".join(f"{f'{budget} images':>20}" for budget in budgets) + "   (mAP, sd)"]
    for name, curve in curves.items():
        cells = [f"{maps.mean():.3f} ± {maps.std():.3f}" for maps in curve.values()]
        lines.append(f"{name:<14}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A curve per strategy: the mean of the seeds, a band of one standard deviation, and each seed as a dot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in points(rows).items():
        budgets = list(curve)
        mean, spread = (np.array([getattr(maps, what)() for maps in curve.values()]) for what in ("mean", "std"))
        (line,) = axes.plot(budgets, mean, label=name)
        axes.fill_between(budgets, mean - spread, mean + spread, color=line.get_color(), alpha=0.2)
        for budget, maps in curve.items():
            axes.plot([budget] * len(maps), maps, "o", color=line.get_color(), markersize=3)
    axes.set(xlabel="labelled photos", ylabel="mAP on photos that take no part", title="BCCD, labelled as picked")
    axes.set_xticks(budgets)
    axes.legend()
    figure.savefig(path, dpi=120)


def _save(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({key for row in rows for key in row}))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    raise SystemExit(main())
