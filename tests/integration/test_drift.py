"""Drift from end to end: a reference beside the model, a server that counts, the drifted samples in the dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor
from fiftyone.operators.registry import OperatorRegistry
from serving import NEAR, SURE, measured, png, until
from tiny_model import write_tiny_model

from osv_lab.app.plugins import use_plugins
from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.serve.drift import Reference
from osv_lab.serve.keys import Keys, add_key
from osv_lab.serve.run import start_server
from osv_lab.store.bulk_values import declare_capture, set_captures
from osv_lab.store.captures import import_captures
from osv_lab.store.drift import drift, make_reference
from osv_lab.store.ingest import ingest


@pytest.fixture
def referenced(fo: Any, dataset_name: str, tmp_path: Path) -> Path:
    """The tiny model with a reference of eighty bright images."""
    folder = tmp_path / "bright"
    folder.mkdir()
    for number in range(80):
        (folder / f"{number}.png").write_bytes(png(SURE - number % 20, number))
    ingest(folder, dataset_name)
    (tmp_path / "model").mkdir()
    copy = write_tiny_model(tmp_path / "model" / "tiny.onnx")
    Path(f"{copy}.osv.json").write_text('{"thresholds": {"confidence": 0.2}, "dataset_version": "lamps@v1"}')
    report = make_reference(copy, fo.load_dataset(dataset_name), split="val")
    assert report.reference.profile.images["scores"] == 80
    assert "80 images of 'lamps@v1' (val)" in report.summary()
    assert json.loads(Path(f"{copy}.osv.json").read_text())["thresholds"] == {"confidence": 0.2}
    return copy


def test_drift_is_measured_shown_and_found_again_in_the_dataset(
    fo: Any, referenced: Path, dataset_name: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.txt"
    key = {"Authorization": f"Bearer {add_key(keys, 'me', ['predict'])}"}
    scraper = {"Authorization": f"Bearer {add_key(keys, 'prometheus', ['metrics'])}"}
    rules = {"rules": [{"random": 1, "per_hour": 1000}]}
    options = {"capture": rules, "capture_to": tmp_path / "spool", "key": Keys.from_file(keys)}
    with start_server(referenced, **options) as server, httpx.Client(trust_env=False) as http:
        headers = {**key, "Content-Type": "image/png"}

        def show(levels: list[int]) -> None:
            before = measured(server, **scraper)["osv_observations_total|observed"]
            for number, level in enumerate(levels):
                image = png(level, 1000 + number)
                assert http.post(f"{server.url}/predict", content=image, headers=headers).status_code == 200
            until(lambda: measured(server, **scraper)["osv_observations_total|observed"] == before + len(levels))

        assert http.get(f"{server.url}/drift").status_code == 401
        assert http.get(f"{server.url}/drift", headers=key).status_code == 403
        show([SURE - number % 20 for number in range(60)])
        [state] = http.get(f"{server.url}/drift", headers=scraper).json()["models"]
        assert state["drifted"] == [] and state["images"] == 60 and state["dataset"] == "lamps@v1"
        assert {one["state"] for one in state["features"]} == {"stable"}
        show([NEAR + number % 20 for number in range(60)])
        [state] = http.get(f"{server.url}/drift", headers=scraper).json()["models"]
        assert state["drifted"] == ["scores", "brightness"]
        counts = measured(server, **scraper)
        psi = {name.split("|")[2]: value for name, value in counts.items() if name.startswith("osv_drift_psi")}
        assert psi["scores"] > 0.25 and psi["classes"] < 0.1
        assert {n.split("|")[2] for n, v in counts.items() if n.startswith("osv_drifted|") and v} == {
            "scores",
            "brightness",
        }

    import_captures(tmp_path / "spool", dataset_name)
    dataset = fo.load_dataset(dataset_name)
    assert len(dataset) == 80 + 120
    report = drift(dataset, referenced)
    assert report.drifted == ("scores", "brightness") and not report.biased
    assert report.samples == 120 and report.others == 0
    drifted = report.view()
    assert len(drifted) == 60
    assert max(drifted.values("capture.brightness")) < 0.5
    assert len(dataset.load_saved_view("drifted")) == 60
    assert "scores, brightness drifted" in report.summary()
    assert "scores" in report._repr_html_() and len(report.to_frame()) == 5
    assert json.loads(json.dumps(report.to_dict()))["drifted"] == ["scores", "brightness"]
    dataset.match_tags("captured").set_values("capture.rules", [["near"]] * 120)
    chosen = drift(dataset, referenced)
    assert chosen.biased and "differences are expected" in chosen.summary()


def test_what_higher_thresholds_of_some_classes_left_out_is_no_drift(
    fo: Any, referenced: Path, dataset_name: str
) -> None:
    """The reference has lamps from 0.2 up; captured answers, made after thresholds were chosen, only from 0.9 up."""
    dataset = fo.load_dataset(dataset_name)
    boxes = fo.Detections(
        detections=[fo.Detection(label="lamp", bounding_box=[0.3, 0.3, 0.3, 0.3], confidence=0.999)]
    )
    dataset.set_values("served_predictions", [boxes.copy() for _ in range(80)])
    digest = Reference.read(referenced).digest
    capture = {"rules": ["random"], "digest": digest, "brightness": 0.95, "partial": False, "threshold": 0.1}
    declare_capture(dataset)
    of_lamps = {}
    for name, more in (("one", {}), ("each", {"thresholds": [["*", 0.1], ["lamp", 0.9]]})):
        set_captures(dataset, {one: {**capture, **more} for one in dataset.values("id")}, ["captured"])
        of_lamps[name] = {one.feature: one.images for one in drift(dataset.view(), referenced).shifts}
    assert of_lamps["one"]["scores"] == 80 and of_lamps["each"].get("scores", 0) == 0
    assert of_lamps["each"]["brightness"] == 80


def test_references_that_cannot_be(fo: Any, referenced: Path, dataset_name: str, tmp_path: Path) -> None:
    dataset = fo.load_dataset(dataset_name)
    with pytest.raises(UsageError):
        make_reference(referenced, dataset.match_tags("no such tag"))
    with pytest.raises(UsageError):
        make_reference(referenced, dataset, out=tmp_path / "drift.txt")
    with pytest.raises(NotFoundError):
        drift(dataset, tmp_path / "none.json")
    made = make_reference(referenced, dataset, out=tmp_path / "drift.json")
    # Of another file: nothing is compared, and the server serves all the same.
    other = json.loads((tmp_path / "drift.json").read_text()) | {"digest": "0" * 64}
    Path(f"{referenced}.osv.json").write_text(json.dumps({"drift_reference": other}))
    (tmp_path / "other.json").write_text(json.dumps(other))
    image, headers = png(SURE), {"Content-Type": "image/png"}
    for given, expected in ((True, 0), (tmp_path / "other.json", 0), (tmp_path / "drift.json", 1), (False, 0)):
        with start_server(referenced, drift=given, processes=0) as server, httpx.Client(trust_env=False) as http:
            http.post(f"{server.url}/predict", content=image, headers=headers).raise_for_status()
            # Without a reference to compare with nothing is observed: that would cost every request.
            if isinstance(given, Path):
                until(lambda server=server: measured(server)["osv_observations_total|observed"] == 1)
            else:
                assert measured(server).get("osv_observations_total|observed", 0) == 0
            assert len(http.get(f"{server.url}/drift").json()["models"]) == expected
    assert drift(dataset, made.path, captured_only=False).samples == 0, "nothing was predicted into the field yet"


def test_what_drifted_is_said_in_the_app(
    fo: Any, referenced: Path, dataset_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_plugins()
    panel = OperatorRegistry().get_operator("@osv/serve/serving")
    with start_server(referenced, processes=0) as server, httpx.Client(trust_env=False) as http:
        monkeypatch.setattr("osv_lab.up.pages", lambda: {"api": server.url})

        def shown() -> tuple[str, list[dict[str, Any]]]:
            """What the Serving panel puts on its page, and its table of drift."""
            params = {"__method__": "look", "panel_id": "one", "panel_state": {}, "event_args": {}}
            request = {"dataset_name": dataset_name, "params": params, "view": [], "panel_id": "one"}
            ctx = ExecutionContext(request_params=request, executor=Executor(), operator_uri=panel.uri)
            panel.execute(ctx)
            asked = {one["operator_uri"]: one["params"] for one in (r.to_json() for r in ctx.executor._requests)}
            return json.dumps(asked), asked["set_panel_data"]["data"].get("drift", [])

        def answered(levels: list[int]) -> None:
            for number, level in enumerate(levels):
                image, headers = png(level, 1000 + number), {"Content-Type": "image/png"}
                http.post(f"{server.url}/predict", content=image, headers=headers).raise_for_status()

        assert "No comparison with the training yet" in shown()[0]
        answered([SURE])
        until(lambda: measured(server)["osv_observations_total|observed"] == 1)
        assert "Too few images yet" in shown()[0]
        answered([NEAR + number % 20 for number in range(60)])
        until(lambda: measured(server)["osv_observations_total|observed"] == 61)
        said, table = shown()
        assert "Drifted: scores, brightness" in said and "Stop serving" in said
        assert {row["feature"]: row["state"] for row in table}["scores"] == "drifted"
        assert {row["feature"]: row["state"] for row in table}["classes"] == "stable"

        # osv up has started others too: a button that stops the App it is in is none of this page.
        monkeypatch.setattr("osv_lab.up.pages", lambda: {"app": "http://127.0.0.1:5151", "api": server.url})
        said, _ = shown()
        assert "Stop serving" not in said and "Started together with app" in said
    said, table = shown()
    assert "no server answers" in said and table == []
