"""What it is worth to mend labels: a queue of label errors, relabelled by the truth, and a model trained again.

``python -m benchmarks.curate.relabel --out FOLDER [--seeds 0 1 2]``; stopped, it goes on where it was.

Of BCCD's train list, 15% of the boxes are dropped, 15% get another class, 15% are shifted, and 15% as many are
added. Two models, each trained on one half of the faulty labels, predict the other half; ``find_label_errors`` makes
a queue; a reviewer who knows what was planted looks at its first places (half as many as there are labels), mends what
is a planted fault there, and leaves the rest. The control looks at as many places drawn by chance: labels, and
predictions that no label explains. All trainings start from the same weights and see as many pictures; all are
measured on the unspoiled val and test lists.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curate.learning import bccd
from benchmarks.curate.planted import corners, plant_labels
from benchmarks.curate.training import Photo, fit, photos_of, score
from osv_lab.curate.evidence import iou

SHARE = 0.15
REVIEWED = 0.5
"""Places that are looked at, as a share of the labels."""

SEEN, SEEN_BY_FOLD = 1600, 1200


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.curate.relabel", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where weights, scores and relabel.json go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    out = options.out.absolute()
    dataset = bccd(out)
    held = photos_of(dataset.match_tags(["val", "test"]))
    results = []
    for seed in options.seeds:
        results.append(one_seed(out, dataset.match_tags("train"), held, seed))
        (out / "relabel.json").write_text(json.dumps(results, indent=2))
    names = [name for name in results[0] if isinstance(results[0][name], dict)]
    print(f"{'trained on':<28} {'mAP':>14} {'mAP50':>14}   ({len(results)} seeds, mean ± sd)")
    for name in names:
        cells = []
        for key in ("map", "map50"):
            found = [one[name][key] for one in results]
            cells.append(f"{np.mean(found):.3f} ± {np.std(found):.3f}")
        print(f"{name:<28} {cells[0]:>14} {cells[1]:>14}")
    return 0


def one_seed(out: Path, train: Any, held: Sequence[Photo], seed: int) -> dict[str, Any]:
    """Scores of models trained on clean, spoiled and mended labels, and what the review found."""
    from osv_lab.store.database import connect

    fo = connect()
    name = f"spoiled-{seed}"
    if fo.dataset_exists(name):
        fo.delete_dataset(name)
    dataset = train.clone(name)
    truth = {one.path: one for one in photos_of(train)}
    plant_labels(fo, dataset, seed, round(SHARE * sum(len(one.boxes) for one in truth.values())))
    spoiled = {one.path: one for one in photos_of(dataset)}
    queue, faults = _queue(out, dataset, seed), sum(_faults(truth[path], spoiled[path]) for path in truth)
    places = round(REVIEWED * sum(len(one.boxes) for one in spoiled.values()))
    everything = [queue[place] for place in np.random.default_rng(seed).permutation(len(queue))]
    found: dict[str, Any] = {"seed": seed, "planted": faults, "reviewed": places, "places": len(queue)}
    data = {"clean": truth, "spoiled": spoiled}
    for label, looked_at in (("mended by chance", everything[:places]), ("mended by the queue", queue[:places])):
        data[label] = {path: mend(spoiled[path], truth[path], looked_at) for path in truth}
        left = sum(_faults(truth[path], data[label][path]) for path in truth)
        found[f"{label}: faults left"] = left
    print(found, flush=True)
    for label, photos in data.items():
        run = f"{label.replace(' ', '-')}-{seed}"
        weights = fit(out, run, list(photos.values()), SEEN, seed)
        found[label] = score(out, run, weights, held)
        print(f"{run}: mAP {found[label]['map']:.3f}, mAP50 {found[label]['map50']:.3f}", flush=True)
    return found


def _queue(out: Path, dataset: Any, seed: int) -> list[tuple[str, np.ndarray]]:
    """Photo and box of every place that could be looked at, the likeliest errors first."""
    from osv_lab.curate.label_errors import find_label_errors, fold_splits
    from osv_lab.detect import load_detector
    from osv_lab.store.predict import predict

    for number, (others, part) in enumerate(fold_splits(dataset.sort_by("filepath"), 2, seed)):
        weights = fit(out, f"fold-{seed}-{number}", photos_of(others), SEEN_BY_FOLD, seed)
        predict(part, load_detector(str(weights)))
    report = find_label_errors(dataset, limit=1_000_000)
    paths = dict(zip(*dataset.values(["id", "filepath"]), strict=True))
    ids, boxes = dataset.values(["ground_truth.detections.id", "ground_truth.detections.bounding_box"])
    labels = zip(ids, boxes, strict=True)
    own = {one: box for names, some in labels for one, box in zip(names or (), some or (), strict=True)}
    return [(paths[one.sample], np.array(own[one.label] if one.label else one.box)) for one in report.suggestions]


def mend(spoiled: Photo, truth: Photo, looked_at: Sequence[tuple[str, np.ndarray]]) -> Photo:
    """What a reviewer makes of places: a true label that is missing there is drawn, one that is wrong goes.

    The reviewer knows the original labels only, faults of BCCD's own included, and mends nothing else.
    """
    boxes = np.array([box for path, box in looked_at if path == spoiled.path]).reshape(-1, 4)
    if not len(boxes):
        return spoiled
    right = _same(spoiled, truth)
    seen = iou(corners(spoiled.boxes), corners(boxes)).max(axis=1, initial=0) > 0.99
    kept = right.any(axis=1) | ~seen
    lacking = ~right.any(axis=0)
    # A true label is drawn where a place that is looked at shows it, at all for a badly placed one.
    shown = iou(corners(truth.boxes), corners(boxes)).max(axis=1, initial=0) > 0.2
    wrong = iou(corners(truth.boxes), corners(spoiled.boxes[~kept])).max(axis=1, initial=0) > 0.2
    drawn = lacking & (shown | wrong)
    return spoiled.labelled(
        np.concatenate([spoiled.boxes[kept], truth.boxes[drawn]]),
        np.concatenate([spoiled.classes[kept], truth.classes[drawn]]).tolist(),
    )


def _same(a: Photo, b: Photo) -> np.ndarray:
    """Which labels of two versions of a photo are the same, ``(n, m)``."""
    close = np.abs(a.boxes[:, None] - b.boxes[None]).max(axis=2, initial=0) < 1e-6
    return np.asarray(close & (a.classes[:, None] == b.classes[None]))


def _faults(truth: Photo, other: Photo) -> int:
    """Labels of one that the other lacks, plus labels that only the other has."""
    same = _same(truth, other)
    return int((~same.any(axis=1)).sum() + (~same.any(axis=0)).sum())


if __name__ == "__main__":
    raise SystemExit(main())
