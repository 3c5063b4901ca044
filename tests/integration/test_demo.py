"""The main job: ``osv demo`` on its defaults, with no other machine in reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, DemoRun


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_the_demo_ends_with_a_served_prediction(demo_run: DemoRun) -> None:
    report = demo_run.report
    assert report["metrics"]["deployed"]["map50"] >= 0.5
    assert report["answer"]["predictions"], "the server found nothing in a test image"
    stages = [step["stage"] for step in report["steps"]]
    assert stages == ["source", "ingest", "train", "evaluate", "deploy", "serve"]
    assert report["deployed"] == "models:/demo@champion"


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_the_demo_never_asks_for_another_machine(demo_run: DemoRun) -> None:
    attempts = demo_run.network_log.read_text() if demo_run.network_log.exists() else ""
    assert not attempts, attempts


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_what_the_demo_left_is_in_the_store_and_the_registry(demo_run: DemoRun, fo) -> None:  # type: ignore[no-untyped-def]
    dataset = fo.load_dataset("demo")
    ingested = demo_run.report["ingested"]
    assert len(dataset) == ingested["counts"]["added"] == ingested["samples"]
    assert dataset.has_evaluation("eval")
    assert all(Path(path).exists() for path in dataset.values("filepath"))
    script = (
        "from osv_lab.detect import load_detector; d = load_detector('models:/demo@champion'); "
        "print(d.provider, len(d.class_names))"
    )
    environment = {**os.environ, "OSV_HOME": str(demo_run.home)}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split()[0] == "CPUExecutionProvider"
    assert int(run.stdout.split()[1]) == len(dataset.default_classes)


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_what_is_served_answers_as_what_was_trained(demo_run: DemoRun, fo) -> None:  # type: ignore[no-untyped-def]
    """Trained weights and their export, on images that neither training nor the demo's own check has seen."""
    from osv_lab.detect import load_detector
    from osv_lab.evaluate.verify import verify

    steps = {step["stage"]: step for step in demo_run.report["steps"]}
    assert "parity passed" in steps["deploy"]["result"]
    weights = Path(steps["train"]["where"]) / "weights" / "best.pt"
    artifact = Path(steps["deploy"]["where"].split(", ")[1])
    report = verify(artifact, fo.load_dataset("demo").match_tags("test"), original=weights)
    assert report.passed, report.summary()
    assert report.reference_boxes > 50
    assert abs(report.reference_map50_95 - report.candidate_map50_95) <= 0.005
    assert load_detector(artifact).describe()["engine"] == "onnxruntime"


def test_the_guard_sees_what_leaves(tmp_path: Path) -> None:
    """The guard itself must be able to fail: a look-up and a connection are refused and written down."""
    script = (
        "import socket\n"
        "for call in (lambda: socket.getaddrinfo('example.org', 443),\n"
        "             lambda: socket.create_connection(('192.0.2.1', 80), timeout=1)):\n"
        "    try: call()\n"
        "    except OSError as error: print(error)\n"
    )
    log = tmp_path / "log"
    environment = {**os.environ, "OSV_NETWORK_LOG": str(log), "PYTHONPATH": str(ROOT / "tests" / "guard")}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.count("refused by the test guard") == 2
    assert "example.org" in log.read_text() and "192.0.2.1" in log.read_text()
