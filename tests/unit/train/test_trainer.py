"""Training on real images with a real, if tiny, network: what comes out, and what goes wrong."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osv_lab.core.errors import (
    CheckFailedError,
    InterruptedJobError,
    InvalidDataError,
    NotFoundError,
    OsvError,
    UnavailableError,
    UsageError,
)
from osv_lab.train import engine, tracking
from osv_lab.train.recipe import Recipe
from osv_lab.train.trainer import find_run, latest_run, list_runs, train


@pytest.fixture(scope="module")
def dataset(shapes: Callable[..., Any]) -> Any:
    return shapes(train=8, val=4, test=2)


@pytest.fixture(scope="module")
def run(dataset: Any, recipe: Recipe) -> Any:
    steps: list[tuple[str, int, int | None]] = []
    found = train(
        dataset, recipe, dataset_version="v1", experiment="shapes", progress=lambda *step: steps.append(step)
    )
    return found, steps


def test_a_run_and_its_report(dataset: Any, run: Any) -> None:
    found, steps = run
    assert (found.status, found.epochs, found.started_from) == ("finished", 2, "scratch")
    assert found.classes == ("square", "disc")  # The dataset's order, not the alphabet's.
    assert found.dataset == f"{dataset.name}@v1"
    assert set(found.metrics) == {"mAP50", "mAP50-95", "precision", "recall"}
    assert [row["epoch"] for row in found.history] == [1, 2]
    assert {"train/box_loss", "val/box_loss", "mAP50", "lr/pg0"} <= set(found.history[0])
    assert found.weights.is_file() and found.last.is_file()
    assert ("train", 2, 2) in steps and ("validate", 1, 1) in steps
    assert (
        json.dumps(found.to_dict()) and found._repr_html_() and found.run_id in found.to_frame()["value"].tolist()
    )
    assert latest_run(experiment="shapes") == found
    assert found in list_runs() and find_run(found.run_id)[0].path == found.folder
    written = sorted(path.name for path in (found.folder / "data" / "images" / "train").iterdir())
    assert len(written) == 8  # The test split is not trained on.


def test_the_weights_know_their_classes(run: Any) -> None:
    from osv_lab.detect import load_detector

    detector = load_detector(run[0].weights)
    assert detector.class_names == ("square", "disc")
    sidecar = json.loads(run[0].weights.with_name("best.pt.osv.json").read_text())
    assert sidecar["dataset_digest"] == run[0].dataset_digest and sidecar["run_id"] == run[0].run_id


def test_what_mlflow_knows(run: Any, dataset: Any) -> None:
    found, _ = run
    store = tracking.client()
    job = store.get_run(found.run_id)
    assert job.info.status == "FINISHED"
    assert job.data.params["epochs"] == "2" and job.data.params["classes"] == "square, disc"
    assert job.data.tags["osv.dataset_digest"] == found.dataset_digest
    assert job.data.tags["osv.dataset"] == f"{dataset.name}@v1"
    assert job.inputs.dataset_inputs[0].dataset.digest == found.dataset_digest[:36]
    for name, steps in (("mAP50", [1, 2]), ("train/box_loss", [1, 2]), ("final/mAP50-95", [2])):
        assert [metric.step for metric in store.get_metric_history(found.run_id, name)] == steps
    artifacts = {
        item.path
        for folder in ("", "weights", "curves")
        for item in store.list_artifacts(found.run_id, folder or None)
    }
    assert {
        "weights/best.pt",
        "weights/best.pt.osv.json",
        "results.csv",
        "environment.json",
        "classes.txt",
    } <= artifacts
    assert {"curves/BoxPR_curve.png", "curves/confusion_matrix.png", "curves/results.png"} <= artifacts


def test_a_finished_run_is_returned_and_not_repeated(dataset: Any, run: Any, recipe: Recipe) -> None:
    assert train(dataset, recipe, dataset_version="v1", experiment="shapes", resume=True) == run[0]
    assert train(None, resume=run[0].name) == run[0]


def test_ctrl_c_and_resume(dataset: Any, recipe: Recipe) -> None:
    def stop(label: str, done: int, total: int | None) -> None:
        if (label, done) == ("train", 2):
            raise KeyboardInterrupt

    with pytest.raises(InterruptedJobError, match="resume='stopped'") as caught:
        train(dataset, recipe, run_name="stopped", experiment="stop", progress=stop)
    assert "after 1 of 2 epochs" in str(caught.value)
    folder, state = find_run("stopped")
    assert state.status == "interrupted"
    assert tracking.client().get_run(state.run_id).info.status == "KILLED"
    assert latest_run(experiment="stop") is None

    longer = Recipe.from_dict({**recipe.to_dict(), "epochs": 5})
    with pytest.raises(UsageError, match="epochs 2 → 5"):
        train(dataset, longer, experiment="stop", resume=True)
    with pytest.raises(UsageError, match=r"data .* → "):
        train(dataset.match_tags("train"), recipe, experiment="stop", resume=True)
    found = train(None, resume="stopped")
    assert (found.status, found.epochs, found.run_id) == ("finished", 2, state.run_id)
    history = tracking.client().get_metric_history(found.run_id, "mAP50")
    assert [metric.step for metric in history] == [1, 2]
    assert not folder.previous.exists()


def test_a_full_disk_is_said_and_resumed_from(
    dataset: Any, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_move", full)
        with pytest.raises(UnavailableError, match="the disk is full") as caught:
            train(dataset, recipe, run_name="full", experiment="full")
    assert "resume='full'" in str(caught.value)
    assert find_run("full")[1].status == "failed"
    assert train(dataset, recipe, experiment="full", resume=True).status == "finished"


def test_divergence_is_an_error(dataset: Any, recipe: Recipe) -> None:
    wild = Recipe.from_dict({**recipe.to_dict(), "cls": 1e38, "nbs": 1})
    with pytest.raises(OsvError, match="training diverged"):
        train(dataset, wild, run_name="wild", experiment="wild")
    state = find_run("wild")[1]
    assert state.status == "failed" and "diverged" in state.error
    assert tracking.client().get_run(state.run_id).info.status == "FAILED"


def test_one_process_at_a_time(dataset: Any, recipe: Recipe, run: Any) -> None:
    folder, state = find_run(run[0].name)
    # A second descriptor of the same file is another holder, in this process, too.
    with folder.lock(), pytest.raises(UsageError, match="another process"), folder.lock():
        pass
    assert state.status == "finished"


def test_no_val_split_and_unlabelled_samples(fo: Any, shapes: Callable[..., Any], recipe: Recipe) -> None:
    made = shapes(train=10)
    sample = made.last()
    sample.ground_truth = None
    sample.save()
    found = train(made, Recipe.from_dict({**recipe.to_dict(), "epochs": 1}), run_name="split")
    assert any("no val split: 2 of 9" in note for note in found.notes), found.notes
    assert any("1 of 10 samples left out" in note for note in found.notes), found.notes
    lists = {name: (found.folder / "data" / f"{name}.txt").read_text().split() for name in ("train", "val")}
    assert (len(lists["train"]), len(lists["val"])) == (7, 2)
    assert not set(lists["train"]) & set(lists["val"])


def test_a_changed_version_is_refused(shapes: Callable[..., Any], recipe: Recipe) -> None:
    from osv_lab.store.snapshot import freeze

    made = shapes(train=4, val=2)
    freeze(made, "v1")
    made.delete_samples([made.first().id])
    with pytest.raises(CheckFailedError, match="samples 6 → 5"):
        train(made, recipe, dataset_version="v1")


def test_nothing_to_train_on(fo: Any, shapes: Callable[..., Any], recipe: Recipe) -> None:
    made = shapes(val=3)
    with pytest.raises(InvalidDataError, match="no labelled sample is in the train split"):
        train(made, recipe)
    with pytest.raises(InvalidDataError, match="the view is empty"):
        train(made.match_tags("nothing"), recipe)
    with pytest.raises(NotFoundError, match="ground_truth"):
        train(made, recipe, gt_field="grund_truth")
    made.add_sample_field("note", fo.StringField)
    with pytest.raises(UsageError, match="does not hold labels"):
        train(made, recipe, gt_field="note")
    for sample in made:
        sample.tags = ["train"]
        sample.ground_truth = fo.Detections()
        sample.save()
    made.default_classes = []
    made.save()
    with pytest.raises(InvalidDataError, match="no class to learn"):
        train(made, recipe)
    made.clear_sample_field("ground_truth")
    with pytest.raises(InvalidDataError, match="none of 3 samples is labelled"):
        train(made, recipe)


def test_where_training_starts(
    dataset: Any, recipe: Recipe, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from osv_lab.train.weights import starting_point

    monkeypatch.setenv("OSV_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    model, origin, note = starting_point("yolov8n")
    assert (model, origin) == ("yolov8n.yaml", "scratch") and "started from scratch" in note
    assert starting_point("yolo11n.yaml") == ("yolo11n.yaml", "scratch", "")
    with pytest.raises(UnavailableError, match=r"from scratch with yolo11n\.yaml"):
        train(dataset, Recipe("yolo11n.pt"))
    with pytest.raises(NotFoundError, match=r"missing\.pt"):
        train(dataset, Recipe("missing.pt"))
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InvalidDataError, match="not a checkpoint"):
        train(dataset, Recipe("broken.pt"))

    again = Recipe.from_dict({**recipe.to_dict(), "model": str(run[0].weights), "epochs": 1})
    found = train(dataset, again, run_name="again")
    assert found.started_from == "given weights"
    assert found.classes == run[0].classes


def test_no_device(dataset: Any, recipe: Recipe) -> None:
    import torch

    if torch.cuda.device_count() <= 7:
        with pytest.raises(UnavailableError, match="no such device"):
            train(dataset, Recipe.from_dict({**recipe.to_dict(), "device": 7}), run_name="device")


def test_a_run_takes_a_version_and_records_it(fo: Any, shapes: Callable[..., Any], recipe: Recipe) -> None:
    from osv_lab.store.versions import create_version

    made = shapes(train=4, val=2)
    version = create_version(made)
    made.delete_samples(made.match_tags("train"))
    short = Recipe.from_dict({**recipe.to_dict(), "epochs": 1})
    found = train(version.ref, short, run_name="of-version")
    assert found.dataset == version.ref
    state = find_run("of-version")[1]
    assert (state.dataset, state.version, state.digest) == (made.name, "v1", version.digest)
    assert state.data["version_digest"] == version.digest and state.data["samples"] == 6
    assert train(version, short, resume=True) == found
    with pytest.raises(UsageError, match="is a version already"):
        train(version, short, dataset_version="v2")
    fo.delete_dataset(version.ref)
