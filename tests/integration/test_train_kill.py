"""kill -9 during training, at ten random moments and at every stage: the next sitting completes the same run.

Importing what training needs takes half a minute, so one warmed process forks a child for every sitting.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EPOCHS = 3
RECIPE = {"epochs": EPOCHS, "imgsz": 64, "batch": 8, "device": "cpu", "patience": 0}
# Five convolutions and a head: training is not what costs time here.
MODEL = """
backbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]],
  [-1, 1, Conv, [16, 3, 2]]]
head: [[[2, 3, 4], 1, Detect, [nc]]]
nc: 2
"""
SPLITS = ["train"] * 12 + ["val"] * 4
KILLS = 10


# -- the warmed process ---------------------------------------------------------------------------------------


def serve() -> None:
    """Fork a child per line of stdin, a JSON order; kill it when it says so; answer with how it ended."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Whatever a library prints must not be taken for an answer.
    import matplotlib.pyplot
    import mlflow
    import scipy.ndimage
    import torch._dynamo
    import torchvision
    import ultralytics.models.yolo

    import osv_lab.train.trainer
    from osv_lab.store.database import _import_fiftyone

    _import_fiftyone()
    assert torch and torchvision and ultralytics and mlflow and scipy and matplotlib and osv_lab
    print("ready", file=answers)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            sit(order)
        deadline = time.monotonic() + order.get("kill_after_s", 600)
        ended, status = os.waitpid(child, os.WNOHANG)
        while not ended and time.monotonic() < deadline:
            time.sleep(0.01)
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        print(status, file=answers)


def sit(order: dict[str, Any]) -> None:
    """One sitting of a run, in a child that ends here."""
    try:
        import torch

        from osv_lab.store.database import connect
        from osv_lab.train import engine
        from osv_lab.train.recipe import Recipe
        from osv_lab.train.trainer import train

        torch.set_num_threads(1)
        fo = connect()

        def progress(label: str, done: int, total: int | None) -> None:
            if order.get("at") == [label, done]:
                os.kill(os.getpid(), signal.SIGKILL)

        if order.get("at") == "half a checkpoint":
            # What a crash of the whole machine could leave: a last.pt cut short, after one good one.
            move = engine._move

            def half(source: Path, target: Path) -> None:
                move(source, target)
                if target.name == "last.pt" and target.with_name("previous.pt").exists():
                    os.truncate(target, target.stat().st_size // 2)
                    os.kill(os.getpid(), signal.SIGKILL)

            engine._move = half
        if order.get("at") == "between checkpoint and log":
            engine._Resumable.save_model = _then_die(engine._Resumable.save_model)
        dataset = fo.load_dataset(order["dataset"])
        recipe = Recipe.from_dict({"model": order["model"], **RECIPE})
        train(dataset, recipe, run_name=order["run"], resume=True, progress=progress)
    except BaseException:  # noqa: BLE001  (a child must not return into the parent's loop)
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _then_die(method: Any) -> Any:
    def wrapped(*arguments: Any) -> None:
        method(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    return wrapped


# -- the tests ------------------------------------------------------------------------------------------------


class Trainer:
    """The warmed process, from outside."""

    def __init__(self, model: Path) -> None:
        self.model = str(model)
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def sitting(self, **order: Any) -> int:
        """Run one sitting, to its end or to ``kill_after_s`` or ``at``. Returns 0, 1 (an error) or -9."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"model": self.model, **order}) + "\n")
        self.process.stdin.flush()
        return os.waitstatus_to_exitcode(int(self._line()))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def trainer(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    model = tmp_path_factory.mktemp("model") / "tiny.yaml"
    model.write_text(MODEL)
    found = Trainer(model)
    yield found
    found.close()


@pytest.fixture(scope="module")
def dataset(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Squares and discs on noise."""
    import cv2

    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(51)
    made = fo.Dataset("test-train-kill")
    for number, split in enumerate(SPLITS):
        image = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
        found = []
        for label in ("disc", "square"):
            x, y = (int(v) for v in rng.integers(4, 44, 2))
            if label == "disc":
                cv2.circle(image, (x + 8, y + 8), 8, (40, 200, 240), -1)
            else:
                cv2.rectangle(image, (x, y), (x + 16, y + 16), (240, 80, 40), -1)
            found.append(fo.Detection(label=label, bounding_box=[x / 64, y / 64, 0.25, 0.25]))
        path = folder / f"{number:02}.png"
        cv2.imwrite(str(path), image)
        made.add_sample(fo.Sample(str(path), tags=[split], ground_truth=fo.Detections(detections=found)))
    yield made.name
    fo.delete_dataset(made.name)


def check(run_name: str) -> None:
    """One MLflow run, each epoch once in every metric, and everything where it belongs."""
    from osv_lab.train import tracking
    from osv_lab.train.run import find_run

    folder, state = find_run(run_name)
    run = folder.report()
    assert (run.status, run.epochs) == ("finished", EPOCHS)
    assert [row["epoch"] for row in run.history] == list(range(1, EPOCHS + 1))
    assert run.weights.is_file() and run.last.is_file()
    assert not list(folder.checkpoints.glob("*new*")) and not folder.previous.exists()
    written = {path.name for path in (folder.data / "images").rglob("*") if path.suffix}
    assert len(written) == len(SPLITS)
    store = tracking.client()
    jobs = store.search_runs([tracking.experiment_id(state.experiment)], f"tags.`osv.job` = '{state.job}'")
    assert [job.info.run_id for job in jobs] == [run.run_id]
    assert jobs[0].info.status == "FINISHED"
    for name in ("train/box_loss", "mAP50", "mAP50-95", "val/cls_loss", "lr/pg0"):
        assert [one.step for one in store.get_metric_history(run.run_id, name)] == list(range(1, EPOCHS + 1)), name
    assert [one.step for one in store.get_metric_history(run.run_id, "final/mAP50")] == [EPOCHS]
    assert len(jobs[0].inputs.dataset_inputs) == 1
    assert "best.pt" in {Path(one.path).name for one in store.list_artifacts(run.run_id, "weights")}


@pytest.mark.parametrize(
    "moment",
    [
        ["export as yolo-detect", 5],
        ["train", 1],
        ["train", 4],
        "half a checkpoint",
        "between checkpoint and log",
        ["validate", 0],
        ["validate", 1],
    ],
    ids=str,
)
def test_a_kill_at_each_stage(trainer: Trainer, dataset: str, moment: object) -> None:
    name = "stage-" + "".join(letter for letter in str(moment) if letter.isalnum())
    assert trainer.sitting(dataset=dataset, run=name, at=moment) == -signal.SIGKILL
    assert trainer.sitting(dataset=dataset, run=name) == 0
    check(name)


def test_ten_kills_at_random_moments(trainer: Trainer, dataset: str) -> None:
    started = time.monotonic()
    assert trainer.sitting(dataset=dataset, run="unharmed") == 0
    whole_s = time.monotonic() - started
    check("unharmed")

    moments = random.Random(51)
    kills, runs = 0, ["killed-0"]
    while kills < KILLS:
        ended = trainer.sitting(kill_after_s=moments.uniform(0, 0.7 * whole_s), dataset=dataset, run=runs[-1])
        assert ended in {0, -signal.SIGKILL}
        kills += ended != 0
        if ended == 0:
            runs.append(f"killed-{len(runs)}")
    for name in runs:
        assert trainer.sitting(dataset=dataset, run=name) == 0
        check(name)

    from osv_lab.train.run import run_folders

    assert sum(folder.path.name.startswith("killed-") for folder, _ in run_folders()) == len(runs)


if __name__ == "__main__":
    serve()
