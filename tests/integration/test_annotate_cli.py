"""``osv annotate``: what a person types, against the double."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from annotation_people import Annotator
from scripted_detector import ScriptedDetector

from osv_lab.annotate import AnnotationLoop
from osv_lab.cli import main

SURE, UNSURE = ("cat", 0.9, (2.0, 2.0, 20.0, 20.0)), ("dog", 0.4, (30.0, 20.0, 60.0, 40.0))


@pytest.fixture
def osv(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``osv annotate`` and gives what it printed as JSON, or its exit code."""
    monkeypatch.setenv("OSV_CVAT_ORGANIZATION", "")
    monkeypatch.setattr("osv_lab.detect.load_detector", lambda ref: ScriptedDetector(SURE, UNSURE, ref=str(ref)))

    def run(*words: str) -> Any:
        code = main(["annotate", *words, "--json", "--quiet"] if words[0] != "listen" else ["annotate", *words])
        out = capsys.readouterr().out
        return json.loads(out) if code == 0 else code

    return run


def test_from_proposals_to_what_became_of_them(loop: AnnotationLoop, pets: Any, osv: Any, tmp_path: Path) -> None:
    name = pets.name
    made = osv("autolabel", name, "m.onnx", "--field", "auto", "--map", "dog=puppy", "--threshold", "puppy=0.3")
    assert made["classes"] == {"cat": [6, 6], "puppy": [6, 0]}
    assert osv("autolabel", name, "m.onnx", "--field", "auto", "--threshold", "much") == 2
    sent = osv("send", name, "key", "--view", "auto_uncertain", "--field", "auto", "--segment-size", "4",
               "--overlap", "2")  # fmt: skip
    assert (sent["samples"], sent["jobs"]) == (6, 2)
    assert osv("predict", name, "m.onnx", "--key", "key", "--map", "dog=puppy")["left"] == {
        "labelled by people": 6
    }
    assert osv("yield", name, "key") == 3
    person = Annotator(loop.connection, sent["task"])
    person.do("update", {**person.objects()[0], "points": [2.0, 2.0, 20.0, 18.0], "source": "semi-auto"})
    sample = pets.first()
    sample["auto"].detections[0].bounding_box = [0.5, 0.5, 0.2, 0.2]
    sample.save()
    person.finish()
    osv("pull", name, "key")
    (conflict,) = osv("conflicts", name, "key")["conflicts"]
    assert osv("resolve", name, "key", "--keep", "ours") == 2
    assert osv("resolve", name, "key", conflict["object"], "--keep", "theirs")["settled"] == 1
    plot = tmp_path / "yield.html"
    kinds = [one["kind"] for one in osv("yield", name, "key", "--plot", str(plot))["outcomes"]]
    assert (kinds.count("moved"), kinds.count("accepted")) == (1, 15)
    assert plot.stat().st_size > 1000
    assert osv("agreement", name)["images"] == 2
    assert [job["stage"] for job in osv("advance", name, "key")["jobs"]] == ["acceptance"] * 2
    assert osv("reassign", name, "key", "nobody-of-that-name") == 3


def test_listening_ends_when_it_is_told_to_and_takes_its_webhook_along(loop: AnnotationLoop, pets: Any) -> None:
    sent = loop.send(pets, "key", "pred")
    command = [sys.executable, "-m", "osv_lab", "annotate", "listen", pets.name, "--status"]
    environment = {**os.environ, "OSV_CVAT_ORGANIZATION": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("key: 0 of 1 jobs completed")
    Annotator(loop.connection, sent.task).finish()
    assert process.stdout.readline().startswith("key: 1 of 1 jobs completed")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 0
    (project,) = loop.connection.pages("/api/projects", {"name": pets.name})
    assert list(loop.connection.pages("/api/webhooks", {"project_id": project["id"]})) == []
