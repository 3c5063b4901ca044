"""How far autolabel's trust can be trusted, on BCCD: ``python -m benchmarks.autolabel [--split test]``.

The given model proposes labels for photos that it was not trained on, and the data set's own labels say which are
right: a proposal is right if a label of its class overlaps it by the IoU and no surer proposal has that label. BCCD's
labels are not complete, so some that count as wrong are cells that nobody labelled.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curate.learning import bccd
from osv_lab.curate.evidence import iou

LEVELS = (0.4, 0.5, 0.6, 0.7, 0.8)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.autolabel", description=__doc__)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", type=Path, help="default: the shared BCCD model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = bccd(Path(folder))
        first = Path(dataset.first().filepath)
        shared = next(parent for parent in first.parents if parent.name == "bccd").parent
        model = options.model or shared / "models" / "bccd_yolo11n.onnx"
        measure(dataset.match_tags(options.split), str(model))
    return 0


def measure(view: Any, model: str) -> None:
    from osv_lab.annotate.autolabel import autolabel
    from osv_lab.detect import load_detector

    detector = load_detector(model)
    print(
        f"{'trust':>6} {'IoU':>4} {'trusted':>8} {'precision':>10} {'to look at':>11} {'precision':>10} {'recall':>7}"
    )
    for trust in LEVELS:
        report = autolabel(view, detector, "auto", trust=trust)
        for least in (0.5, 0.3):
            right = judged(view, least)
            sure, unsure = ([ok for _, trusted, _, ok in right if trusted is one] for one in (True, False))
            labels = view.count("ground_truth.detections")
            recall = (sum(sure) + sum(unsure)) / labels
            shares = f"{len(sure):>8,} {np.mean(sure):>10.3f} {len(unsure):>11,} {np.mean(unsure):>10.3f}"
            print(f"{trust:>6} {least:>4} {shares} {recall:>7.3f}", flush=True)
    report = autolabel(view, detector, "auto")
    print(f"\n{report.summary()}\n")
    print(f"{'at the default trust, IoU 0.5':<32} {'proposals':>9} {'precision':>10}")
    groups: dict[str, list[bool]] = defaultdict(list)
    for label, trusted, why, ok in judged(view, 0.5):
        groups[f"{label}, {'trusted' if trusted else 'to look at'}"].append(ok)
        for reason in filter(None, why.split(", ")):
            groups["because: " + ("could be another class" if "could be" in reason else reason)].append(ok)
    for name, some in sorted(groups.items()):
        print(f"{name:<32} {len(some):>9,} {np.mean(some):>10.3f}")


def judged(view: Any, least: float) -> list[tuple[str, bool, str, bool]]:
    """Label, trust and reasons of each proposal, and whether it is right."""
    found = []
    fields = ["ground_truth.detections", "auto.detections"]
    for labels, proposals in zip(*(view.values(name) for name in fields), strict=True):
        free = list(labels or ())
        for one in sorted(proposals or (), key=lambda one: -one.confidence):
            same = [other for other in free if other.label == one.label]
            overlap = iou(corners([one]), corners(same))[0] if same else np.zeros(0)
            ok = bool(len(overlap) and overlap.max() >= least)
            if ok:
                free.remove(same[int(overlap.argmax())])
            found.append((one.label, bool(one.osv_trusted), getattr(one, "osv_why", None) or "", ok))
    return found


def corners(labels: Iterable[Any]) -> np.ndarray:
    boxes = np.array([one.bounding_box for one in labels]).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


if __name__ == "__main__":
    raise SystemExit(main())
