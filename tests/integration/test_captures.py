"""A capture that travels: request, spool, dataset, ready for annotation; and drift on the way."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from serving import NEAR, NOTHING, SURE, ask, measured, observed, png, score, until
from support import ROOT, shared_data
from tiny_model import write_tiny_model

from osv_lab.cli import main
from osv_lab.core.errors import UsageError
from osv_lab.serve.client import Client
from osv_lab.serve.run import start_server
from osv_lab.serve.spool import Spool
from osv_lab.store.captures import import_captures, list_captures
from osv_lab.store.ingest import ingest
from osv_lab.store.versions import create_version, load_version


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("captured") / "tiny.onnx")


# -- into the spool -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [0, 1])
def test_every_way_to_ask_is_captured_as_it_was_received(model: Path, tmp_path: Path, processes: int) -> None:
    rules = "near=0.1,few=0"
    with start_server(model, capture=rules, capture_to=tmp_path, processes=processes) as server:
        images = [png(NEAR, number) for number in range(6)]
        text = [base64.b64encode(image).decode() for image in images]
        ask(server, images[0])
        post = {"timeout": 30, "trust_env": False}
        httpx.post(f"{server.url}/predict", json={"image_url": text[1]}, **post)
        httpx.post(f"{server.url}/predict", files={"file": images[2]}, **post)
        httpx.post(f"{server.url}/predict/batch", json={"images": [text[3], "bad", text[4]]}, **post)
        httpx.post(f"{server.url}/predict/batch", files=[("file", images[5]), ("file", png(NOTHING))], **post)
        for _ in range(3):
            ask(server, png(SURE))
        until(lambda: observed(server) == 10)
        counts = measured(server)
        assert counts["osv_captured_total|near"] == 6
        assert counts["osv_captured_total|few"] == 1
        assert httpx.get(f"{server.url}/models", trust_env=False).json()["capture"] == ["near", "few"]
    spool = Spool(tmp_path)
    kept = {spool.read(digest)[1]: spool.describe(digest) for digest in spool.names()}
    assert set(kept) == {*images, png(NOTHING)}
    seen = kept[images[3]].observation
    assert (seen.model, seen.width, seen.height, seen.class_name) == ("tiny.onnx", 96, 64, ("lamp",))
    assert seen.digest is not None and len(seen.digest) == 64
    assert kept[png(NOTHING)].reasons == {"few": "0 detections, at most 0"}


@pytest.mark.parametrize("processes", [0, 1])
def test_frames_that_the_tracker_doubts_are_captured(model: Path, tmp_path: Path, processes: int) -> None:
    """The lamp goes off for one frame of a stream: the frame where it is back is kept, with its track."""
    frames = [png(SURE, number) for number in range(8)]
    frames[5] = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()  # no grey bars
    rules = {"rules": [{"disagreement": True}]}
    with start_server(model, capture=rules, capture_to=tmp_path, processes=processes) as server:
        with Client(server.url) as client:
            found = list(client.stream(frames, frame_rate=25))
        assert [len(one.predictions) for one in found] == [1, 1, 1, 1, 1, 0, 1, 1]
        until(lambda: observed(server) == 8)
    spool = Spool(tmp_path)
    [digest] = spool.names()
    assert spool.read(digest)[1] == frames[6]
    kept = spool.describe(digest)
    assert kept.reasons == {"disagreement": "track 1 (lamp) was away for 1 frame"}
    assert kept.observation.tracker_id == (1,)


def test_nothing_is_kept_or_observed_unless_asked(model: Path, tmp_path: Path) -> None:
    with start_server(model) as server:
        ask(server, png(NEAR))
        counts = measured(server)
        assert not [name for name in counts if "capture" in name and counts[name]]
        assert httpx.get(f"{server.url}/models", trust_env=False).json()["capture"] == []
    assert not Path(os.environ["OSV_HOME"], "captures").exists()
    for wrong in ({"capture": "random=2"}, {"capture_to": tmp_path}, {"capture": "rnd=1", "capture_to": tmp_path}):
        with pytest.raises(UsageError):
            start_server(model, **wrong)


def test_captures_survive_kill_9_and_the_next_server_goes_on(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "osv_lab", "serve", str(model), "--port", "0", "--capture", "near=0.1"]
    command += ["--capture-to", str(tmp_path / "spool")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for turn in range(2):
        log = tmp_path / f"log{turn}"
        with open(log, "w") as file:
            server = subprocess.Popen(command, stderr=file, env=environment)
        until(lambda log=log: "Application startup complete" in log.read_text())
        port = next(word for word in log.read_text().split() if word.startswith("http://127")).rsplit(":", 1)[1]
        for number in range(10):
            headers = {"Content-Type": "image/png"}
            image = png(NEAR, number + 10 * turn)
            httpx.post(f"http://127.0.0.1:{port}/predict", content=image, headers=headers, trust_env=False)
        spool = Spool(tmp_path / "spool")
        until(lambda turn=turn, spool=spool: len(spool.names()) > 10 * turn)
        server.send_signal(signal.SIGKILL)
        server.wait()
    kept = [spool.read(digest) for digest in spool.names()]
    assert len(kept) > 10


# -- into the dataset -----------------------------------------------------------------------------------------


@pytest.fixture
def spool(model: Path, tmp_path: Path) -> Iterator[Path]:
    """A spool with twelve captured images and one item that is broken."""
    folder = tmp_path / "spool"
    rules = {"rules": [{"near": 0.1}, {"few": 0}, {"random": 1.0}]}
    with start_server(model, capture=rules, capture_to=folder) as server:
        for number in range(8):
            ask(server, png(NEAR, number))
        for number in range(2):
            ask(server, png(NOTHING, number))
            ask(server, png(SURE, number))
        until(lambda: observed(server) == 12)
    (folder / f"{'0' * 64}.json").write_text("{}")
    return folder


def test_a_capture_becomes_a_sample_once(fo: Any, model: Path, spool: Path, dataset_name: str) -> None:
    listed = list_captures(spool)
    assert (len(listed.items), len(listed.problems)) == (12, 1)
    assert "near 8" in listed.summary() and "1 cannot be read" in listed.summary()
    report = import_captures(spool, dataset_name, tags=["line-3"])
    assert (report.added, report.updated, report.known, len(report.problems)) == (12, 0, 0, 1)
    assert dict(report.rules) == {"random": 12, "near": 8, "few": 2}
    assert [path.name for path in spool.iterdir() if path.name != ".lock"] == [f"{'0' * 64}.json"]

    dataset = fo.load_dataset(dataset_name)
    assert dataset.count_sample_tags() == {"captured": 12, "line-3": 12}
    near = dataset.match(fo.ViewField("capture.rules").contains("near"))
    assert len(near) == 8
    sample = near.first()
    [found] = sample.served_predictions.detections
    assert found.label == "lamp" and found.confidence == pytest.approx(score(NEAR), abs=2e-3)
    # The network sees 64 by 64; the image of 96 by 64 goes in at two thirds, centred.
    height, width = cv2.imread(sample.filepath).shape[:2]
    x, y, w, h = np.array(found.bounding_box) * [width, height, width, height]
    assert (w, h) == pytest.approx((30, 30), abs=0.5)
    assert (x + w / 2, y + h / 2) == pytest.approx((48, 32), abs=1)
    capture = sample.capture
    assert capture.model == "tiny.onnx" and capture.threshold == 0.25
    assert capture.score == pytest.approx(score(NEAR), abs=2e-3)
    assert capture.why.startswith("near: lamp scored 0.3")
    assert sample.labelled is False and "captures" not in sample.filepath
    empty = dataset.match(fo.ViewField("capture.rules").contains("few"))
    assert empty.count("served_predictions.detections") == 0

    view = dataset.load_saved_view("captured")
    assert len(view) == 12
    times = view.values("capture.at")
    assert times == sorted(times, reverse=True)
    again = import_captures(spool, dataset_name)
    assert (again.added, again.updated, again.known) == (0, 0, 0)
    sample.labelled = True
    sample.save()
    assert len(dataset.load_saved_view("captured")) == 11, "annotated ones wait no more"


def test_an_image_that_the_dataset_has_keeps_its_labels(
    fo: Any, model: Path, spool: Path, dataset_name: str, tmp_path: Path
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    (tmp_path / "data/data.yaml").write_text("train: images\nnames: [lamp]\n")
    (tmp_path / "data/images/a.png").write_bytes(png(NEAR, 3))
    (tmp_path / "data/labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    ingest(tmp_path / "data", dataset_name)
    kept = tmp_path / "again"
    shutil.copytree(spool, kept)
    report = import_captures(spool, dataset_name)
    assert (report.added, report.updated) == (11, 1)
    dataset = fo.load_dataset(dataset_name)
    known = dataset.match({"filepath": str(tmp_path / "data/images/a.png")}).first()
    assert len(known.ground_truth.detections) == len(known.served_predictions.detections) == 1
    assert "captured" in known.tags and "train" in known.tags
    assert len(dataset) == 12 and len(dataset.load_saved_view("captured")) == 11
    # What another process imported, or an import that was killed before it emptied the spool, left behind.
    before = dataset.values("served_predictions.detections.id")
    repeated = import_captures(kept, dataset_name)
    assert (repeated.added, repeated.updated, repeated.known) == (0, 0, 12)
    assert fo.load_dataset(dataset_name).values("served_predictions.detections.id") == before
    assert Spool(kept).names() == ["0" * 64]

    # A version keeps what the server said, as part of the sample and not of its content.
    version = create_version(dataset, fields="ground_truth")
    copy = load_version(version, f"{dataset_name}-copy")
    try:
        said = {one.content_digest: dict(one.capture.to_dict()) for one in dataset}
        assert {one.content_digest: dict(one.capture.to_dict()) for one in copy} == said
        assert copy.sort_by("capture.at").values("content_digest") == dataset.sort_by("capture.at").values(
            "content_digest"
        )
        copy.clear_sample_field("capture")
        assert create_version(copy, fields="ground_truth").digest == version.digest
    finally:
        fo.delete_dataset(copy.name)


# Children of one process that has imported everything; each is killed before a given one of its writes.
IMPORT = """
import os, signal, sys
import osv_lab.store.captures as captures
from osv_lab.serve.spool import Spool
from osv_lab.store import database
import fiftyone, fiftyone.core.odm, pymongo
spool, dataset, *steps = sys.argv[1:]
captures._BATCH = 4
left = 0
def before(name, owner):
    original = getattr(owner, name)
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(owner, name, call)
before("write_atomic", captures)
before("insert", captures.Writer)
before("set_labels", captures.Writer)
before("set_captures", captures)
before("remove", Spool)
for step in map(int, steps):
    child = os.fork()
    if child == 0:
        left = step
        captures.import_captures(spool, dataset)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("KILLED" if os.WIFSIGNALED(status) else "FINISHED", len(Spool(spool).names()), flush=True)
"""


def test_an_import_that_is_killed_is_finished_by_the_next(fo: Any, spool: Path, dataset_name: str) -> None:
    everything = set(Spool(spool).names())
    # The broken item is in the first batch of four: of its writes 1 to 3 are files (where they are not there yet), then
    # come samples, labels, captures, and three that empty the spool.
    command = [sys.executable, "-c", IMPORT, str(spool), dataset_name, "4", "5", "3", "5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = killed.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["KILLED"] * 4, killed.stdout + killed.stderr
    assert [int(line.split()[1]) for line in lines][:3] == [13] * 3, "nothing of these was whole in the store"
    dataset = fo.load_dataset(dataset_name)
    gone = everything - set(Spool(spool).names())
    whole = dataset.match({"capture.at": {"$ne": None}, "served_predictions": {"$ne": None}})
    assert gone and gone <= set(whole.values("content_digest")), "what left the spool is in the store"
    report = import_captures(spool, dataset_name)
    assert report.added + report.updated + report.known == 12 - len(gone) and len(report.problems) == 1
    dataset.reload()
    assert len(dataset) == 12 == len(set(dataset.values("content_digest")))
    assert dataset.count("served_predictions.detections") == 10
    assert None not in dataset.values("capture.at")


def test_the_commands(spool: Path, dataset_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    def osv(*words: str) -> Any:
        assert main([*words, "--json", "--quiet"]) == 0
        return json.loads(capsys.readouterr().out)

    assert len(osv("captures", "list", str(spool))["items"]) == 12
    assert osv("captures", "import", str(spool), dataset_name, "--tag", "x")["added"] == 12
    assert main(["captures", "list", str(spool / "none"), "--json"]) == 3


@pytest.mark.skipif(shared_data() is None, reason="needs the shared blood cell images and model")
def test_real_cells_travel(fo: Any, dataset_name: str, tmp_path: Path) -> None:
    data = shared_data()
    assert data is not None
    model = tmp_path / "bccd.onnx"
    shutil.copyfile(data / "models" / "bccd_yolo11n.onnx", model)
    photos = sorted((data / "bccd" / "BCCD" / "JPEGImages").glob("*.jpg"))[:30]
    rules = {"rules": [{"near": 0.01}, {"many": 20, "per_hour": 3}]}
    with start_server(model, capture=rules, capture_to=tmp_path / "spool") as server:
        answers = {}
        for photo in photos:
            headers = {"Content-Type": "image/jpeg"}
            answer = httpx.post(
                f"{server.url}/predict", content=photo.read_bytes(), headers=headers, trust_env=False, timeout=60
            )
            answers[photo.read_bytes()] = answer.json()["predictions"]
        until(lambda: observed(server) == 30)
        counts = measured(server)
        assert counts["osv_captured_total|many"] == 3
        assert counts["osv_capture_dropped_total|per_hour|many"] >= 1
    report = import_captures(tmp_path / "spool", dataset_name)
    dataset = fo.load_dataset(dataset_name)
    assert 3 <= report.added == len(dataset) < 30
    for sample in dataset:
        said = answers[Path(sample.filepath).read_bytes()]
        stored = sample.served_predictions.detections
        assert [one.label for one in stored] == [one["class"] for one in said]
        for one, other in zip(stored, said, strict=True):
            x, y, w, h = np.array(one.bounding_box) * [640, 480, 640, 480]
            assert list(other["box"].values()) == pytest.approx([x, y, x + w, y + h], abs=0.01)
            assert one.confidence == pytest.approx(other["confidence"], abs=1e-4)
