"""One trial of a tuning, in a process of its own: ``python -m osv_lab.train.trial order.json``.

Whatever a trial does to its process (out of memory, a crash in a library) costs that trial only. The process ends when
whoever started it does, so that a killed tuning leaves nothing running.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError
from osv_lab.core.files import write_atomic

ACCURACY = {
    "detect": "mAP50-95",
    "segment": "mask/mAP50-95",
    "pose": "pose/mAP50-95",
    "obb": "mAP50-95",
    "classify": "top1",
}
"""The metric on the validation split that is a trial's accuracy, by task."""

LATENCY_IMAGES = 30
_WARM_UP = 3


def main(order_file: str) -> int:
    """Run the trial that an order describes and write its answer beside it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    order = json.loads(Path(order_file).read_text("utf-8"))
    try:
        answer = _run(order)
    except OsvError as error:
        answer = {"problem": str(error)}
    except MemoryError:
        answer = {"problem": "there is not enough memory to train: use a smaller batch or imgsz"}
    write_atomic(order["answer"], json.dumps(answer))
    return 0


def _end_with_parent() -> None:
    """The pipe from the parent closes when it ends, however it ends."""
    # Not through sys.stdin, whose lock this thread would still hold when the interpreter ends.
    with contextlib.suppress(OSError):
        os.read(0, 1)
    os._exit(1)


def _run(order: dict[str, Any]) -> dict[str, Any]:
    from osv_lab.detect.export import export_model
    from osv_lab.train.recipe import Recipe
    from osv_lab.train.trainer import train

    recipe = Recipe.from_dict(order["recipe"])
    view = _view(order)
    try:
        run = train(
            view,
            recipe,
            gt_field=order["gt_field"],
            run_name=order["run_name"],
            experiment=order["experiment"],
            resume=_known(order["run_name"]),
        )
    finally:
        _nest(order)
    metric = ACCURACY[recipe.task or "detect"]
    if metric not in run.metrics:
        raise InvalidDataError(
            "the trained model has no accuracy", f"no {metric} among {', '.join(run.metrics) or 'no metrics'}"
        )
    answer = {"accuracy": run.metrics[metric], "weights": str(run.weights), "run_id": run.run_id}
    if "latency" in order["objectives"]:
        artifact = export_model(run.weights, imgsz=recipe.imgsz)
        answer |= {"latency": latency_ms(artifact.path, view), "artifact": str(artifact.path)}
    return answer


def _known(run_name: str) -> bool | str:
    from osv_lab.train.run import find_run

    try:
        find_run(run_name)
    except NotFoundError:
        return False
    return run_name


def _view(order: dict[str, Any]) -> Any:
    from osv_lab.store.database import connect
    from osv_lab.store.versions.load import load_version

    if order["version"]:
        return load_version(order["version"])
    ids = json.loads(Path(order["samples"]).read_text("utf-8"))
    return connect().load_dataset(order["dataset"]).select(ids, ordered=True)


def _nest(order: dict[str, Any]) -> None:
    """Tell MLflow that the training run belongs to the tuning's."""
    from osv_lab.train import tracking
    from osv_lab.train.run import find_run

    with contextlib.suppress(NotFoundError):
        _, state = find_run(order["run_name"])
        if state.run_id:
            tags = {"mlflow.parentRunId": order["parent"], "osv.trial": str(order["number"])}
            tracking.set_tags(state.run_id, tags)


def latency_ms(artifact: Path, view: Any) -> float:
    """Median milliseconds per image of an exported model, one image at a time, decoding not counted.

    Args:
        artifact: The exported file.
        view: Images to measure on, the validation split's where there is one; at most :data:`LATENCY_IMAGES`.
    """
    from osv_lab.detect import load_detector
    from osv_lab.detect.images import read_image

    detector = load_detector(artifact)
    files = (view.match_tags("val").values("filepath") or view.values("filepath"))[:LATENCY_IMAGES]
    images = [read_image(file) for file in files]
    for image in images[:_WARM_UP]:
        detector.predict([image])
    times = []
    for number in range(LATENCY_IMAGES):
        begin = time.perf_counter()
        detector.predict([images[number % len(images)]])
        times.append((time.perf_counter() - begin) * 1000)
    return float(np.median(times))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
