"""Tuning on a real, if tiny, network: what fails costs its trial only, and a killed tuning goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from osv_lab.core.errors import UsageError
from osv_lab.core.settings import load_settings
from osv_lab.train import tracking
from osv_lab.train.recipe import Recipe
from osv_lab.train.tune import tune

MODEL = """
backbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]],
  [-1, 1, Conv, [16, 3, 2]]]
head: [[[2, 3, 4], 1, Detect, [nc]]]
nc: 1
"""


@pytest.fixture(scope="module")
def dataset(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(51)
    made = fo.Dataset(f"test-tune-{uuid.uuid4().hex[:8]}", persistent=True)
    for number, split in enumerate(["train"] * 4 + ["val"] * 2):
        image = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(4, 44, 2))
        cv2.rectangle(image, (x, y), (x + 16, y + 16), (240, 80, 40), -1)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        box = fo.Detection(label="square", bounding_box=[x / 64, y / 64, 0.25, 0.25])
        made.add_sample(
            fo.Sample(str(folder / f"{number}.png"), tags=[split], ground_truth=fo.Detections(detections=[box]))
        )
    yield made
    fo.delete_dataset(made.name)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    model = tmp_path_factory.mktemp("model") / "tiny.yaml"
    model.write_text(MODEL)
    return Recipe(str(model), epochs=1, imgsz=64, batch=4, device="cpu", patience=0, options={"nbs": 1})


def test_trials_that_fail_are_reported_and_the_study_goes_on(dataset: Any, recipe: Recipe, tmp_path: Path) -> None:
    from osv_lab.train.run import find_run

    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"cut short")
    space = {"cls": [0.5, 1e38], "model": [recipe.model, str(broken)]}
    # With this seed the first three proposals are one of each kind.
    report = tune(dataset, recipe, space, 3, name="hard", seed=0)
    assert len(report.trials) == 3
    for one in report.trials:
        if one.settings["model"] == str(broken):
            assert one.state == "failed" and "not a checkpoint" in one.problem
        elif one.settings["cls"] > 1:
            assert one.state == "failed" and "training diverged" in one.problem
        else:
            assert one.state == "complete" and Path(one.weights).is_file()
            assert 0 <= one.accuracy <= 1 and one.latency_ms > 0
            parent = tracking.client().get_run(one.run_id).data.tags["mlflow.parentRunId"]
            assert parent == report.run_id
            assert find_run(one.run_id)[1].status == "finished"
    problems = {one.problem[:8] for one in report.trials if one.problem}
    assert len(problems) == 2, report.to_frame()
    done = [one for one in report.trials if one.state == "complete"]
    assert done and report.front and report.best in done
    for number in report.front:
        mine = report.trials[number]
        assert not any(o.accuracy > mine.accuracy and o.latency_ms < mine.latency_ms for o in done)
    assert len(report.plot().data) == 2 and len(report.to_frame()) == 3
    again = tune(dataset, recipe, space, 3, name="hard", seed=0)
    assert again.to_dict() == report.to_dict()
    with pytest.raises(UsageError, match="tuning of this name exists"):
        tune(dataset, recipe, {"cls": [0.5]}, 3, name="hard")


def test_a_killed_trial_is_one_failed_trial(dataset: Any, recipe: Recipe) -> None:
    """As the system's out-of-memory killer does it."""
    over = threading.Event()

    def kill_first() -> None:
        while not over.wait(0.05):
            for child in psutil.Process().children(recursive=True):
                # Another child may have gone since it was listed.
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "osv_lab.train.trial" in child.cmdline():
                        child.kill()
                        return

    thread = threading.Thread(target=kill_first)
    thread.start()
    try:
        report = tune(dataset, recipe, {"imgsz": [64]}, 2, ["accuracy"], name="oom")
    finally:
        over.set()
        thread.join()
    assert [one.state for one in report.trials] == ["failed", "complete"]
    assert "out of memory" in report.trials[0].problem


SCRIPT = """
import json, sys
from osv_lab.store.database import connect
from osv_lab.train.recipe import Recipe
from osv_lab.train.tune import tune
dataset = connect().load_dataset(sys.argv[1])
tune(dataset, Recipe.from_dict(json.loads(sys.argv[2])), {"warmup_epochs": (0.0, 3.0)}, 2, ["accuracy"], name="kill")
"""


def test_a_killed_tuning_goes_on(dataset: Any, recipe: Recipe) -> None:
    import json

    folder = load_settings().home / "tunings" / "kill"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-c", SCRIPT, dataset.name, json.dumps(recipe.to_dict())]
    first = subprocess.Popen(command, env=dict(os.environ))
    # Killed while the second trial is under way, whose settings are in its order.
    while not (folder / "1.order.json").exists():
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    children = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.wait(30)
    _, alive = psutil.wait_procs([one for one in children if one.name() != "mongod"], timeout=60)
    assert not alive, "a trial outlived its tuning"
    before = json.loads((folder / "1.order.json").read_text())["recipe"]["warmup_epochs"]
    done = json.loads((folder / "0.answer.json").read_text())

    report = tune(dataset, recipe, {"warmup_epochs": (0.0, 3.0)}, 2, ["accuracy"], name="kill")
    assert [one.state for one in report.trials] == ["complete", "complete"]
    assert report.trials[1].settings["warmup_epochs"] == before
    assert (report.trials[0].run_id, report.trials[0].accuracy) == (done["run_id"], done["accuracy"])
    nested = tracking.client().search_runs(
        [tracking.experiment_id(dataset.name)], f"tags.mlflow.parentRunId = '{report.run_id}'"
    )
    assert len(nested) == 2
