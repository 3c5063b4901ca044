"""How long a panel or a form of the App takes to answer, on a dataset of 10,000 samples with 10 boxes and 2 x 10
predictions each, evaluated, and with 100 training runs of 300 epochs.

An answer is all that the App's server does for one event: the panel's method, its page, and the JSON for the browser;
of a form, what happens at every keystroke. The first event of each panel comes after the dataset has changed, so that
nothing of it is kept; where a panel answers that it is still at work, it is also said after how long all is there.
Goal: a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GOAL_S = 1.0
EVALUATIONS = {"first": "predictions", "second": "others"}
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
    fields = ("ground_truth", *EVALUATIONS.values())
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
                    {field: some(field != "ground_truth") for field in fields}
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


class Answer(NamedTuple):
    """An answer: seconds, bytes, and whether it is that the panel is still at work."""

    took_s: float
    size: int
    at_work: bool = False


def answer(uri: str, dataset: str, method: str, state: dict[str, Any], **event: Any) -> Answer:
    """One event of a panel, as the App's server answers it."""
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
    return Answer(took, len(text), "osv_working" in text)


def ready(panel: str, dataset: str, state: dict[str, Any], first: Answer) -> float:
    """Seconds until the panel shows all, its first answer included."""
    begin, last = time.perf_counter(), first
    while last.at_work:
        time.sleep(0.2)
        last = answer(panel, dataset, "osv_again", state)
    return first.took_s + time.perf_counter() - begin


def form_answer(uri: str, dataset: str, params: dict[str, Any]) -> Answer:
    """A form that is being filled in."""
    from fiftyone.operators.executor import resolve_type
    from fiftyone.operators.registry import OperatorRegistry

    request = {"operator_uri": uri, "dataset_name": dataset, "params": params, "target": "inputs", "view": []}
    begin = time.perf_counter()
    form = asyncio.run(resolve_type(OperatorRegistry(), uri, request))
    assert not getattr(form, "error", None), form.error
    text = json.dumps(form.to_json(), default=str)
    return Answer(time.perf_counter() - begin, len(text))


def train_before(dataset: str, runs: int, epochs: int) -> None:
    """Folders of training runs as a trainer leaves them, without weights."""
    from osv_lab.train.run import RunFolder, new_state

    columns = "epoch,time,train/box_loss,val/box_loss,metrics/mAP50(B),metrics/mAP50-95(B)"
    rows = "\n".join(f"{epoch},1,0.5,0.6,0.7,0.4" for epoch in range(1, epochs + 1))
    for _ in range(runs):
        folder = RunFolder.create(
            "bench",
            new_state(
                name="",
                dataset=dataset,
                experiment=dataset,
                recipe={},
                digest="",
                data={},
                gt_field="ground_truth",
                classes=list(CLASSES),
                status="finished",
                epochs=epochs,
            ),
        )
        folder.results.write_text(f"{columns}\n{rows}\n")


@contextlib.contextmanager
def own_lab() -> Iterator[None]:
    """A lab, a database and the plugins for this process alone."""
    with tempfile.TemporaryDirectory(prefix="osv-bench-") as name:
        folder = Path(name)
        os.environ["OSV_HOME"] = str(folder)
        os.environ["FIFTYONE_DATABASE_DIR"] = str(folder / "mongo")
        os.environ["FIFTYONE_DEFAULT_DATASET_DIR"] = str(folder / "fiftyone")
        from osv_lab.app.plugins import use_plugins
        from osv_lab.store.database import connect

        use_plugins()
        yield
        fo = connect()
        for dataset in fo.list_datasets():
            fo.delete_dataset(dataset)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.app", description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--boxes", type=int, default=10)
    args = parser.parse_args()
    with own_lab():
        from osv_lab.evaluate.detection import evaluate

        begin = time.perf_counter()
        dataset = make("bench-app", args.samples, args.boxes)
        for key, field in EVALUATIONS.items():
            evaluate(dataset, field, key=key)
        train_before(dataset.name, 100, 300)
        print(
            f"{args.samples:,} samples, {args.boxes} boxes and 2 x {args.boxes} predictions each; goal {GOAL_S:g} s"
        )
        print(f"  made and evaluated in {time.perf_counter() - begin:.0f} s", flush=True)
        for panel, events in EVENTS.items():
            # The panels' own modules are loaded once per server, not once per answer.
            state = events[0][1]
            ready(panel, dataset.name, state, answer(panel, dataset.name, "on_load", state))
            touch(dataset)
            for method, state, event in events:
                one = answer(panel, dataset.name, method, state, **event)
                whole = ready(panel, dataset.name, state, one)
                line(panel, method, one, f"  all there after {whole:.1f} s" if one.at_work else "")
        for form, params in FORMS.items():
            form_answer(form, dataset.name, params)
            touch(dataset)
            line(form, "opened", form_answer(form, dataset.name, params))
            line(form, "a keystroke", form_answer(form, dataset.name, params))


def touch(dataset: Any) -> None:
    """The dataset changes, as by another hand."""
    dataset._sample_collection.update_one({}, {"$currentDate": {"last_modified_at": True}})


def line(what: str, event: str, one: Answer, more: str = "") -> None:
    told = "" if one.took_s < GOAL_S else "  over the goal"
    print(
        f"  {what:30} {event:12} {one.took_s * 1000:7.0f} ms  {one.size / 1024:6.0f} KiB{told}{more}", flush=True
    )


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
    "@osv/annotate/annotation": [("on_load", {}, {})],
    "@osv/train/training": [("on_load", {}, {}), ("look", {}, {})],
    "@osv/evaluate/error_budget": [("on_load", {}, {}), ("on_load", {}, {}), ("on_row", {}, {"row": 0})],
    "@osv/evaluate/thresholds": [("on_load", {}, {}), ("on_load", {}, {}), ("on_curve", {}, {"x": 0.5})],
    "@osv/evaluate/slices": [("on_load", {}, {}), ("on_load", {}, {}), ("on_row", {}, {"row": 0})],
    "@osv/evaluate/compare": [
        ("on_load", {"compared": ["first", "second"]}, {}),
        ("on_row", {"compared": ["first", "second"]}, {"row": 0}),
    ],
    "@osv/serve/serving": [("on_load", {}, {}), ("look", {}, {})],
}
"""Of each panel the events that are timed: method, state, parameters."""

FORMS: dict[str, dict[str, Any]] = {
    "@osv/train/train": {"epochs": 3},
    "@osv/curate/find_label_errors": {},
    "@osv/evaluate/save_thresholds": {},
    "@osv/evaluate/export_model": {},
}
"""Forms that look at the dataset or the lab, and what was filled in."""


if __name__ == "__main__":
    main()
