"""How long a panel of the App takes to answer, on a dataset of 10,000 samples with 10 boxes and 10 predictions each.

An answer is all that the App's server does for one event: the panel's method, its page, and the JSON for the browser.
Opening is the first event, in a process that has not seen the dataset. Goal: a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

GOAL_S = 1.0
CLASSES = ("car", "person", "bicycle", "dog", "sign")


def make(name: str, samples: int, boxes: int) -> Any:
    """A dataset past the SDK, with a queue of label errors."""
    from osv_lab.store.bulk import NewSample, Writer
    from osv_lab.store.database import connect
    from osv_lab.store.records import Box

    fo = connect()
    dataset = fo.Dataset(name)
    dataset.media_type = "image"
    chance = np.random.default_rng(51)
    splits = chance.choice(["train", "val", "test"], samples, p=[0.8, 0.1, 0.1])
    metadata = {"_cls": "ImageMetadata", "width": 640, "height": 480}
    fields = ("ground_truth", "predictions")
    writer = Writer(dataset, dict.fromkeys((*fields, "label_errors"), "Detections"))

    def some(confident: bool) -> list[Any]:
        places = chance.uniform(0.05, 0.3, (boxes, 4)) + np.array([0.3, 0.3, 0, 0])
        names = chance.choice(CLASSES, boxes)
        return [
            Box(str(label), tuple(place), None, float(chance.uniform(0.05, 1)) if confident else None)
            for label, place in zip(names, places.tolist(), strict=True)
        ]

    def suggestion(rank: int) -> Any:
        about = {"was": "car", "should_be": "person", "of_label": "", "rank": rank, "state": "open"}
        return Box("missing", (0.4, 0.4, 0.1, 0.1), None, 1 - rank / samples, None, about)

    for start in range(0, samples, 1000):
        writer.insert(
            [
                NewSample(
                    f"/data/{number:06d}.jpg",
                    f"{number:064x}",
                    metadata,
                    {"ground_truth": some(False), "predictions": some(True)}
                    | ({"label_errors": [suggestion(number // 10 + 1)]} if number % 10 == 0 else {}),
                    tags=[str(splits[number])],
                )
                for number in range(start, min(start + 1000, samples))
            ]
        )
    writer.finish()
    dataset.info = {"label_errors": ["label_errors"], "label_errors_of": {"label_errors": "ground_truth"}}
    dataset.save()
    return dataset


def answer(uri: str, dataset: str, method: str, state: dict[str, Any], **event: Any) -> tuple[float, int]:
    """Seconds and bytes of one event of a panel, as the App's server answers it."""
    from fiftyone.operators.executor import execute_or_delegate_operator

    request = {
        "operator_uri": uri,
        "dataset_name": dataset,
        "params": {"panel_id": "p", "panel_state": state, "__method__": method, **event},
    }
    begin = time.perf_counter()
    result = asyncio.run(execute_or_delegate_operator(uri, request))
    result.raise_exceptions()
    text = json.dumps(result.to_json(), default=str)
    took = time.perf_counter() - begin
    assert "osv_problem" not in text, text[:2000]
    return took, len(text)


def own_lab(folder: Path) -> None:
    """A lab, a database and the plugins for this process alone."""
    os.environ["OSV_HOME"] = str(folder)
    os.environ["FIFTYONE_DATABASE_DIR"] = str(folder / "mongo")
    os.environ["FIFTYONE_DEFAULT_DATASET_DIR"] = str(folder / "fiftyone")
    from osv_lab.app.plugins import use_plugins

    use_plugins()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.app", description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--boxes", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="osv-bench-") as folder:
        own_lab(Path(folder))
        dataset = make("bench-app", args.samples, args.boxes)
        print(f"{args.samples:,} samples, {args.boxes} boxes and {args.boxes} predictions each; goal {GOAL_S:g} s")
        # The panels' own modules are loaded once per server, not once per answer.
        for panel, events in EVENTS.items():
            answer(panel, dataset.name, "on_load", {})
            dataset._sample_collection.update_one({}, {"$currentDate": {"last_modified_at": True}})
            for method, state, event in events:
                took, size = answer(panel, dataset.name, method, state, **event)
                told = "" if took < GOAL_S else "  over the goal"
                print(f"  {panel:26} {method:12} {took * 1000:7.0f} ms  {size / 1024:6.0f} KiB{told}")


EVENTS: dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "@osv/curate/health": [
        ("on_load", {}, {}),
        ("on_plot", {"which": "density"}, {}),
        ("on_plot", {"which": "sizes"}, {}),
        ("on_bar", {"which": "classes"}, {"x": "car", "trace": "objects"}),
    ],
    "@osv/curate/label_queue": [("on_load", {}, {}), ("on_skip", {}, {}), ("on_undo", {}, {})],
    "@osv/versions/versions": [("on_load", {}, {})],
    "@osv/jobs/jobs": [("on_load", {}, {})],
}
"""Of each panel the events that are timed: method, state, parameters."""


if __name__ == "__main__":
    main()
