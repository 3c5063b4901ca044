"""A served answer is followed to the samples behind it, and a run is done again, on real images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import shared_data

from osv_lab.cli import main
from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.lab import Lab
from osv_lab.train import tracking
from osv_lab.train.lineage import lineage
from osv_lab.train.reproduce import reproduce
from osv_lab.train.run import TrainingRun

DATA = shared_data()
pytestmark = pytest.mark.skipif(DATA is None, reason="needs BCCD in the shared data")


@pytest.fixture(scope="module")
def trained(fo: Any) -> Iterator[tuple[Lab, TrainingRun]]:
    assert DATA is not None
    lab = Lab("lineage-cells")
    lab.upload_data(DATA / "bccd")
    keep = [*lab.view("train").limit(24).values("id"), *lab.view("val").limit(8).values("id")]
    lab.dataset.delete_samples(lab.dataset.exclude(keep))
    lab.create_version("v1")
    run = lab.train(DATA / "models" / "bccd_yolo11n.pt", version="v1", epochs=1, imgsz=160, batch=8, lr0=0.001,
                    optimizer="SGD", device="cpu")  # fmt: skip
    yield lab, run
    fo.delete_dataset("lineage-cells")


def test_a_served_answer_leads_to_its_samples(trained: tuple[Lab, TrainingRun], capsys: Any) -> None:
    lab, run = trained
    lab.deploy()
    lab.predict(field="served")
    lab.evaluate("served", split="val", key="served_eval")
    picture = Path(lab.dataset.first().filepath)
    handle = lab.server.start()
    try:
        answer = httpx.post(f"{handle.url}/predict", content=picture.read_bytes(),
                            headers={"Content-Type": "image/jpeg"}, timeout=60, trust_env=False)  # fmt: skip
    finally:
        lab.server.stop()
    assert answer.status_code == 200, answer.text
    found = lineage(answer.headers)
    assert [node.name for node in found.of("model")] == ["models:/lineage-cells/1"]
    assert [node.name for node in found.of("run")] == [run.name]
    assert [node.name for node in found.of("version")] == ["lineage-cells@v1"]
    assert found.of("environment")[0].detail["torch"]
    assert found.of("evaluation")[0].name == "served_eval of lineage-cells"
    assert len(found.view()) == 32 and found.of("version")[0].detail["samples"] == 32
    assert found.of("version")[0].detail["digest"] == run.dataset_digest

    digest = answer.headers["X-Model-Digest"]
    assert lineage(digest=digest[:16]).nodes == found.nodes
    assert lineage("models:/lineage-cells@champion").nodes == found.nodes
    assert lineage(run.name).of("model") == found.of("model")
    assert lineage("lineage-cells@v1").of("evaluation") == found.of("evaluation")
    lines = found.tree().splitlines()
    assert any(f"run {run.name}" in line for line in lines)
    assert any("trained: version lineage-cells@v1" in line for line in lines)
    assert any("evaluated: evaluation served_eval" in line for line in lines)
    assert found.mermaid().startswith("flowchart LR") and "|trained|" in found.mermaid()
    assert len(found.plot().data) == len(found.nodes) == len(found.to_frame())
    assert main(["lineage", digest]) == 0
    assert "frozen as: samples 32 samples" in capsys.readouterr().out
    with pytest.raises(NotFoundError, match="known by that"):
        lineage("models:/nothing@champion")
    with pytest.raises(UsageError, match="nothing to follow"):
        lineage()


def environment_text(run_id: str) -> str:
    import mlflow.artifacts

    place = tracking.client().get_run(run_id).info.artifact_uri
    return str(mlflow.artifacts.load_text(f"{place}/environment.json"))


def test_a_run_is_reproduced(trained: tuple[Lab, TrainingRun]) -> None:
    _, run = trained
    then = json.loads(environment_text(run.run_id)) | {"ultralytics": "8.0.0"}
    tracking.log_text(run.run_id, json.dumps(then), "environment.json")
    again = reproduce(run.name, 0.001)
    assert again.passed and again.same_data and again.exit_code == 0, again.summary()
    assert again.again.run_id != run.run_id and again.again.metrics["mAP50-95"] > 0.1
    assert again.environment["ultralytics"][0] == "8.0.0" and "torch" not in again.environment
    assert any("pip install" in note and "ultralytics==8.0.0" in note for note in again.notes)
    assert len(again.plot().data) == 2 and again.to_dict()["passed"]

    from osv_lab.train.trainer import latest_run

    latest = latest_run(experiment="lineage-cells")
    assert latest is not None and latest.run_id == run.run_id
    with pytest.raises(UsageError, match="no such metric"):
        reproduce(run.name, metric="mAP5-95")
    with pytest.raises(NotFoundError, match="no such training run"):
        reproduce("no-run")
