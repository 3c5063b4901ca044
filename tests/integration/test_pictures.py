"""``POST /predict`` that answers the image with what was found drawn onto it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_support import png
from support import shared_data
from tiny_model import write_tiny_model

from osv_lab.detect.draw import draw_detections, label_of
from osv_lab.serve.run import ServerHandle, start_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    with start_server(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")) as handle:
        yield handle


def ask(server: ServerHandle, **request: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/predict", trust_env=False, timeout=30, **request)


def as_upload(accept: str = "*/*", **data: Any) -> dict[str, Any]:
    return {"files": {"file": png()}, "data": data, "headers": {"Accept": accept}}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (as_upload(format="image"), "image/jpeg"),
        (as_upload("image/png", format="image"), "image/png"),
        (as_upload("image/jpeg"), "image/jpeg"),
        (as_upload("image/png;q=0.9, */*"), "image/png"),
        (as_upload("image/*"), "image/jpeg"),
        (
            {"content": png(), "params": {"format": "image"}, "headers": {"Content-Type": "image/png"}},
            "image/jpeg",
        ),
        (as_upload("image/png", format="json"), "application/json"),
        (as_upload("text/html, image/png"), "application/json"),
        (as_upload(), "application/json"),
    ],
)
def test_what_is_asked_is_what_comes(server: ServerHandle, request_: dict[str, Any], kind: str) -> None:
    answer = ask(server, **request_)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["X-Model"] == "tiny.onnx"
    assert "draw;dur=" in answer.headers["Server-Timing"] or kind == "application/json"
    if kind == "application/json":
        assert len(answer.json()["predictions"]) == 1
        return
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (64, 64, 3)
    # The image where nothing was found, and the box where something was.
    assert np.abs(picture[60:, 60:].astype(int) - 200).max() < 12
    assert np.abs(picture[42, 24:40].astype(int) - 200).max() > 50


def test_only_those_two_and_only_of_one_image(server: ServerHandle) -> None:
    assert ask(server, **as_upload(format="svg")).status_code == 422
    batch = httpx.post(
        f"{server.url}/predict/batch", files={"file": png()}, data={"format": "image"}, trust_env=False
    )
    assert batch.status_code == 422
    assert ask(server, files={"file": b"no image"}, data={"format": "image"}).status_code == 422


@st.composite
def anything(draw: st.DrawFn) -> tuple[np.ndarray, sv.Detections]:
    """Images and detections of all sizes, boxes beyond the edge and without area among them."""
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    count = draw(st.integers(0, 5))
    corners = st.tuples(*[st.floats(-500, 900, width=32)] * 4)
    found = sv.Detections(
        xyxy=np.array([draw(corners) for _ in range(count)], np.float32).reshape(-1, 4),
        confidence=np.array([draw(st.floats(0, 1)) for _ in range(count)], np.float32),
        class_id=np.array([draw(st.integers(0, 99)) for _ in range(count)], int),
        tracker_id=np.arange(1, count + 1) if draw(st.booleans()) else None,
        data={"class_name": np.array([draw(st.text(max_size=50)) for _ in range(count)], dtype=str)},
    )
    if draw(st.booleans()):
        points = st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(0, 1))
        keypoints = [[draw(points) for _ in range(3)] for _ in range(count)]
        found.data["keypoints"] = np.array(keypoints, np.float32).reshape(-1, 3, 3)
    return np.full((height, width, 3), 127, np.uint8), found


@settings(max_examples=60)
@given(anything())
def test_whatever_was_found_can_be_drawn(made: tuple[np.ndarray, sv.Detections]) -> None:
    image, found = made
    before = image.copy()
    picture = draw_detections(image, found)
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8
    assert (image == before).all()
    assert len(found) > 0 or (picture == image).all()


def test_labels_say_what_is_known() -> None:
    found = sv.Detections(np.array([[0, 0, 9, 9]]), confidence=np.array([0.914]), class_id=np.array([0]))
    assert label_of(found, 0) == "0.91"
    found.data["class_name"] = np.array(["x" * 100])
    assert label_of(found, 0) == "x" * 39 + "… 0.91"


def test_a_real_photo(server: ServerHandle, output_dir: Any) -> None:
    data = shared_data()
    if data is None:
        pytest.skip("needs the shared photos")
    photo = (data / "bccd" / "BCCD" / "JPEGImages" / "BloodImage_00001.jpg").read_bytes()
    with start_server(data / "models" / "bccd_yolo11n.onnx") as cells:
        answer = ask(cells, content=photo, params={"format": "image"}, headers={"Content-Type": "image/jpeg"})
    (output_dir / "annotated.jpg").write_bytes(answer.content)
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    plain = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    changed = (np.abs(picture.astype(int) - plain) > 60).any(axis=2).mean()
    assert 0.005 < changed < 0.3
