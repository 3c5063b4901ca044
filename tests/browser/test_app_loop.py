"""The whole loop by clicks alone: from a folder of photos to a model that is served, and back to the photos it kept."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_driver import Driver
from app_scenes import LISTS, cells_folder
from support import shared_data
from tiny_model import write_tiny_model

from osv_lab.app.worker import worker_beside
from osv_lab.core.errors import NotFoundError
from osv_lab.core.settings import load_settings
from osv_lab.jobs import queue
from osv_lab.train.registry import get_version
from osv_lab.train.run import list_runs
from osv_lab.up import down, pages

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

IMAGES, TESTED = sum(LISTS.values()), LISTS["test"]


@pytest.fixture
def begun(fo: Any, dataset_name: str) -> Iterator[Any]:
    """An empty dataset, a folder of photos, a model that was given, and the worker that `osv app` starts."""
    lab = load_settings()
    for folder in (lab.home / "imports", lab.models_dir):
        folder.mkdir(parents=True, exist_ok=True)
    data = shared_data()
    given = lab.models_dir / "given.onnx"
    if data is None:
        write_tiny_model(given, ("bolt", "knob"))
    else:
        shutil.copy(data / "models" / "bccd_yolo11n.onnx", given)
    with worker_beside():
        yield fo.Dataset(dataset_name)
    queue.operations().delete_many({"context.request_params.dataset_name": dataset_name})
    try:
        down()
    except NotFoundError:
        assert pages() == {}
    given.unlink()
    shutil.rmtree(lab.captures_dir, ignore_errors=True)


def test_the_loop_by_clicks_alone(app: Driver, begun: Any) -> None:
    name, settings = begun.name, load_settings()
    source = cells_folder(settings.home / "imports")
    # Four panels stand side by side in the end: on a narrower page their tabs cover each other.
    app.page.set_viewport_size({"width": 1920, "height": 1000})
    app.open(name, samples=False)
    ingest_and_look(app, name, source)
    (run,) = train(app, name)
    evaluate_and_compare(app, run.name)
    promote(app, name, run.name)
    serve_and_capture(app, name)

    begun.reload()
    assert begun.match_tags("test").exists("trained").count() == TESTED
    assert begun.list_evaluations() == ["given", "trained"]
    assert get_version(name, "champion").version == 2
    assert begun.count_sample_tags()["captured"] == TESTED
    # What has no labels yet waits for an annotator; where all have, the page stays where it was.
    waiting = len(begun.load_saved_view("captured"))
    app.wait_for_count(f"{waiting or TESTED} sample")


def ingest_and_look(app: Driver, name: str, source: Path) -> None:
    app.operator("Ingest images and labels")
    app.fill("Source", str(source))
    app.send()
    app.told(f"{IMAGES} files of .* {IMAGES} added")
    app.open(name)
    app.wait_for_count(f"{IMAGES} samples")
    app.panel("Health").get_by_text(f"{IMAGES} images, ").wait_for()
    app.picture("app-loop-1-health")
    app.operator("Create a dataset version")
    app.send()
    app.told(f"{name}@v1 .*{IMAGES} samples")
    app.done()


def train(app: Driver, name: str) -> list[Any]:
    app.operator("Train a model")
    app.fill("Start from", "yolo11n.yaml")
    app.fill("Epochs", "2")
    app.fill("Image size", "64")
    app.send("Schedule")
    app.told("scheduled|Scheduled|queued")
    app.open(name)
    app.panel("Training").get_by_text("finished, 2 epochs").wait_for(timeout=300_000)
    app.picture("app-loop-2-trained")
    return list_runs(name)


def evaluate_and_compare(app: Driver, run: str) -> None:
    app.operator("Query samples")
    app.fill("Query", "split:test")
    app.send()
    app.told(f"{TESTED} of {IMAGES} samples match")
    app.done()
    app.wait_for_count(f"{TESTED} samples")
    for field, model in (("given", "given.onnx"), ("trained", run)):
        app.operator("Predict")
        app.choose("Model", model)
        app.fill("Field to write", field)
        app.fill("Least confidence", "0.01")
        app.send()
        app.told(f"{TESTED} images predicted into '{field}'")
        app.done()
        app.operator("Evaluate detections")
        app.choose("Predictions", field)
        app.fill("Name of the evaluation", field)
        app.send()
        app.told(f"{field}: mAP50")
        app.done()
    panel = app.panel("Compare models")
    panel.get_by_role("button", name="Compare trained with given").click()
    panel.get_by_text(re.compile(rf"trained against given on [1-{TESTED}] samples")).wait_for()
    panel.locator(".ytick").first.wait_for()
    app.picture("app-loop-3-compared")


def promote(app: Driver, name: str, run: str) -> None:
    app.operator("Export a model")
    app.choose("Model", run)
    app.send()
    app.told("parity passed")
    app.picture("app-loop-4-exported")
    app.done()
    for alias, model in (("champion", "given.onnx"), ("candidate", f"{run}.onnx")):
        app.operator("Deploy a model")
        app.choose("Model", model)
        app.fill("Alias", alias)
        app.send()
        app.told(f"deployed models:/{name}@{alias}")
        app.done()
    app.operator("Promote a model")
    app.fill("Candidate", f"models:/{name}@candidate")
    # Two epochs make no better model, and eight images would be no evidence.
    app.field("Promote whatever is found").click()
    app.fill("Why", "to show the way")
    app.send()
    app.told("is 'champion' now over .*forced .to show the way.")
    app.picture("app-loop-5-promoted")
    app.done()


def serve_and_capture(app: Driver, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    app.panel("Serving").get_by_role("button", name="Serve a model").click()
    app.fill("Model", f"models:/{name}@champion")
    app.fill("Port", str(port))
    app.fill("Keep images for the dataset", "random=1")
    app.send()
    app.told(f"is served at http://127.0.0.1:{port}")
    app.done()
    app.operator("Ask the server")
    app.send()
    app.told(f"answered {TESTED} images with .* into 'served'")
    app.done()
    app.told(f"{TESTED} images answered, p50")
    app.told(f"{TESTED} captured images")
    app.picture("app-loop-6-served")
    app.page.get_by_role("button", name="Import them").click()
    app.form.wait_for()
    app.send()
    app.told(f"{TESTED} captured images into .* .0 new, {TESTED} it had")
    app.done()
    app.picture("app-loop-7-captured")
