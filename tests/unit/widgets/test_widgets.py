"""What each widget answers a page, on real datasets; that pages show it is in tests/browser."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from widget_scenes import IMAGES, SWITCH, images, render, video

from osv_lab import Lab
from osv_lab.core.errors import OsvError
from osv_lab.evaluate.tracking import evaluate_tracks
from osv_lab.widgets import (
    AnnotationBoard,
    ComparisonExplorer,
    ConfusionExplorer,
    HealthExplorer,
    LabWidget,
    SliceExplorer,
    ThresholdExplorer,
    TrackInspector,
    TrainingBoard,
    VersionBrowser,
)


@pytest.fixture(scope="module")
def lab(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = f"widgets-{uuid.uuid4().hex[:8]}"
    images(fo, name, tmp_path_factory.mktemp("images"))
    yield Lab(name)
    fo.delete_dataset(name)


@pytest.fixture(scope="module")
def report(lab: Lab) -> Any:
    return lab.evaluate("predictions", key="eval", split=None)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return render(tmp_path_factory.mktemp("video"))


@pytest.fixture
def clip(fo: Any, rendered: Any, dataset_name: str) -> Any:
    return video(fo, dataset_name, rendered)


def ask(widget: LabWidget, do: str, **values: Any) -> tuple[dict[str, Any], list[bytes]]:
    """What a page gets for a question; it must be JSON."""
    sent: list[tuple[Any, Any]] = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))  # type: ignore[method-assign]
    widget._received(widget, {"do": do, "id": "q", **values}, [])
    reply, buffers = sent[-1]
    json.dumps(reply, allow_nan=False)
    if "error" in reply:
        raise OsvError(reply["error"])
    return reply["answer"], buffers


def ready(widget: LabWidget) -> Any:
    widget.load()
    assert widget.state == "ready", widget.told
    json.dumps(widget.data, allow_nan=False)
    return widget


def test_cells_of_the_confusion_matrix_are_objects(lab: Lab, report: Any) -> None:
    widget = ready(ConfusionExplorer(report))
    labels = widget.data["labels"]
    dog, cat, none = labels.index("dog"), labels.index("cat"), len(labels) - 1
    assert widget.data["counts"][dog][cat] == sum(number % 3 == 0 for number in range(IMAGES))
    answer, pictures = ask(widget, "cell", row=dog, column=cat)
    assert widget.view.count("ground_truth.detections") == widget.view.count("predictions.detections") == 4
    assert widget.view.distinct("ground_truth.detections.label") == ["dog"]
    assert "4 dog found as cat: 4 samples" in answer["note"] and len(pictures) == len(answer["pictures"]) == 4
    assert all(picture.startswith(b"\xff\xd8") for picture in pictures)
    ask(widget, "cell", row=none, column=dog)
    assert widget.view.count("predictions.detections") == 3 and not widget.view.count("ground_truth.detections")
    widget.selected = {"samples": [lab.dataset.first().id], "labels": []}
    assert [dog, cat] in ask(widget, "where")[0]["cells"] and [dog, dog] not in ask(widget, "where")[0]["cells"]
    with pytest.raises(OsvError, match="no such cell"):
        ask(widget, "cell", row=9, column=0)
    assert "<table" in widget.static_html()


def test_the_curves_of_the_page_are_those_of_the_library(report: Any) -> None:
    widget = ready(ThresholdExplorer(report, n_boot=0))
    answer, buffers = ask(widget, "curves")
    for name, packed, curve in zip(answer["classes"], buffers, widget.thresholds.curves, strict=True):
        score, true, false = np.frombuffer(packed).reshape(3, -1)
        assert name == curve.name and np.array_equal(score, curve.score)
        assert np.array_equal(true, curve.true) and np.array_equal(false, curve.false)
    found, pictures = ask(widget, "examples", name="cat", confidence=0.4)
    assert len(found["pictures"]) == len(pictures) == 12 and found["pictures"][0]["text"].startswith("cat 0.4")
    assert {one["tone"] for one in ask(widget, "examples", name="dog", confidence=0.6)[0]["pictures"]} == {
        "good",
        "bad",
    }
    widget.confidences = {**widget.confidences, "cat": 0.9, "dog": 0.7}
    ask(widget, "passing")
    assert widget.view.count("predictions.detections") == IMAGES + 8
    assert "<polyline" in widget.static_html()


def test_a_comparison_opens_its_outcomes(lab: Lab, report: Any) -> None:
    lab.evaluate("second", key="second_eval", split=None)
    widget = ready(ComparisonExplorer(lab.compare("eval", "second_eval", split=None, n_boot=100)))
    assert widget.data["objects"]["fixed"] >= 4
    ask(widget, "open_outcome", what="fixed")
    assert len(widget.view) == len(widget.report.view("fixed")) > 0
    widget.selected = {"samples": list(widget.view.values("id")[:1]), "labels": []}
    assert ask(widget, "where")[0]["outcomes"]["fixed"] >= 1
    with pytest.raises(OsvError, match="no such outcome"):
        ask(widget, "open_outcome", what="x")


def test_findings_and_slices_open_their_samples(lab: Lab, report: Any) -> None:
    widget = ready(HealthExplorer(lab.health()))
    kind = widget.data["findings"][0]["kind"]
    ask(widget, "open_finding", kind=kind)
    samples = widget.report.finding(kind).samples
    assert len(widget.view) == len(samples)
    if samples:
        widget.selected = {"samples": [samples[0]], "labels": []}
        assert kind in ask(widget, "where")[0]["kinds"]
    slices = ready(SliceExplorer(lab.slices("eval", ["tags"], split=None, n_boot=100)))
    name = slices.data["slices"][0]["name"]
    ask(slices, "open_slice", name=name)
    assert len(slices.view) == slices.data["slices"][0]["images"]
    slices.selected = {"samples": slices.view.values("id")[:1], "labels": []}
    assert name in ask(slices, "where")[0]["names"]


def test_versions_are_compared(fo: Any, tmp_path: Path, dataset_name: str) -> None:
    dataset = images(fo, dataset_name, tmp_path)
    lab = Lab(dataset_name)
    widget = VersionBrowser(dataset_name)
    widget.load()
    assert widget.state == "empty" and "create_version" in widget.told["fix"]
    lab.create_version("v1")
    sample = dataset.first()
    sample.ground_truth.detections = sample.ground_truth.detections[1:]
    sample.save()
    lab.create_version("v2")
    widget.load()
    assert widget.state == "ready" and list(widget.pair) == ["v1", "v2"]
    assert widget.data["diff"]["objects"]["removed"] == {"cat": 1}
    ask(widget, "open_change", change="removed")
    assert widget.view.values("changes.detections.change", unwind=True) == ["removed"]
    fo.delete_dataset(widget.view._dataset.name)
    ask(widget, "compare", a="v2", b="v1")
    assert widget.data["diff"]["objects"]["added"] == {"cat": 1} and "v2" in widget.static_html()
    with pytest.raises(OsvError, match="no such version"):
        ask(widget, "compare", a="v1", b="v9")


def test_tracks_are_looked_at_and_mended(clip: Any) -> None:
    evaluate_tracks(clip)
    widget = ready(TrackInspector(clip, "frames.tracks"))
    answer, (packed,) = ask(widget, "boxes")
    columns = np.frombuffer(packed, "<f4").reshape(7, -1)
    assert columns.shape[1] == answer["rows"] == clip.count("frames.tracks.detections")
    assert np.all(np.diff(columns[0]) >= 0) and set(columns[1]) == {one["id"] for one in widget.data["lines"]}
    assert columns[2:6].min() >= -1 and columns[2:4].max() <= 1
    kinds = {event["kind"] for event in widget.data["events"]}
    assert "switch" in kinds
    numbers, pictures = ask(widget, "pictures", numbers=[1, 2, 80, 81])
    assert numbers["numbers"] == [1, 2, 80, 81] and [bool(one) for one in pictures] == [True, True, True, False]
    before = widget.data["revision"]
    ask(widget, "edit", kind="swap", tracks=[1, 2], frame=SWITCH + 1)
    assert widget.data["revision"] == before + 1 and "swapped" in widget.data["undo"]
    assert widget.data["stale"] == ["track_eval"]
    assert not {event.kind for event in evaluate_tracks(clip).events if event.predicted in (1, 2)} & {"switch"}
    ask(widget, "edit", kind="split", tracks=[4], frame=40)
    assert {31} <= {one["id"] for one in widget.data["lines"]}
    ask(widget, "edit", kind="merge", tracks=[4, 31])
    ask(widget, "edit", kind="relabel", tracks=[4], label="gear")
    assert next(one["label"] for one in widget.data["lines"] if one["id"] == 4) == "gear"
    widget.chosen = [5]
    ask(widget, "edit", kind="delete", tracks=[5])
    assert 5 not in {one["id"] for one in widget.data["lines"]} and widget.chosen == []
    for _ in range(5):
        ask(widget, "edit", kind="undo")
    assert widget.data["undo"] == "" and {one["id"] for one in widget.data["lines"]} == set(columns[1])
    with pytest.raises(OsvError, match="no such edit"):
        ask(widget, "edit", kind="merge", tracks=[1])
    with pytest.raises(OsvError, match="side by side"):
        ask(widget, "edit", kind="merge", tracks=[4, 5])
    html = widget.static_html()
    assert "data:image/jpeg" in html and html.count("<rect") > 5


def test_a_label_selected_in_the_app_is_found(clip: Any) -> None:
    from osv_lab.widgets.link import Selection

    widget = ready(TrackInspector(clip.first(), "tracks"))
    frame = clip.first().frames[30]
    label = next(one for one in frame.tracks.detections if one.index == 4)
    widget.select(Selection((), (str(label.id),), 30))
    assert (widget.frame, list(widget.chosen)) == (30, [4])
    widget.select(Selection((), ("0" * 24,), None))
    assert widget.frame == 30


def test_a_clip_without_its_file_still_shows_tracks(clip: Any) -> None:
    sample = clip.first()
    sample.filepath = f"{sample.filepath}.gone.mp4"
    sample.save()
    widget = ready(TrackInspector(clip, "frames.tracks"))
    assert "no pictures" in widget.data["pictures"] and widget.data["lines"]
    assert ask(widget, "pictures", numbers=[1]) == ({"numbers": []}, [])
    assert "<svg" in widget.static_html()


def test_what_cannot_be_shown_is_said(clip: Any, lab: Lab) -> None:
    wrong = TrackInspector(clip, "frames.trackz")
    wrong.load()
    assert wrong.state == "error" and "tracks" in wrong.told["fix"]
    none = TrackInspector(clip.limit(0), "frames.tracks")
    none.load()
    assert none.state == "empty"
    missing = ThresholdExplorer(lab.dataset, eval_key="nothing")
    missing.load()
    assert missing.state == "error" and "no such evaluation" in missing.told["what"].lower()


def test_a_recipe_is_a_form(lab: Lab) -> None:
    board = ready(TrainingBoard(lab.dataset_name))
    assert board.data["runs"] == [] and not board.data["running"]
    names = {field["name"] for group in board.data["form"] for field in group["fields"]}
    assert {"model", "epochs", "lr0", "mosaic", "cos_lr"} <= names
    assert ask(board, "check")[0]["good"]
    board.settings = {**board.settings, "epochs": 3, "mosaic": 0.5, "lr0": ""}
    assert board.recipe.epochs == 3 and board.recipe.augmentation["mosaic"] == 0.5
    board.settings = {**board.settings, "imgsz": 33}
    told = ask(board, "check")[0]
    assert not told["good"] and "multiple of 32" in told["problem"]
    with pytest.raises(OsvError, match="multiple of 32"):
        ask(board, "start")
    with pytest.raises(OsvError, match="nothing is training"):
        ask(board, "stop")


def test_nothing_was_sent_to_annotators(lab: Lab) -> None:
    board = AnnotationBoard(lab.annotate("http://127.0.0.1:9"))
    board.load()
    assert board.state == "empty" and "send" in board.told["fix"]


def test_a_line_of_one_point_is_seen() -> None:
    from osv_lab.widgets.tables import svg_lines

    one = svg_lines([("run", [1], [0.5], None)], "epoch", "mAP")
    assert "<circle" in one and "nan" not in one
    assert "<circle" not in svg_lines([("run", [1, 2], [0.5, 0.6], None)], "epoch", "mAP")
