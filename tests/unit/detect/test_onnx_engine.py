"""The ONNX engine on models of other families, on odd files, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from serving import until
from tiny_model import write_tiny_model

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.detect import load_detector
from osv_lab.detect.detector import Detector
from osv_lab.detect.images import read_image
from osv_lab.detect.parity import compare_outputs
from osv_lab.detect.providers import open_session, opened_ahead, usable_providers

GREY = np.full((48, 64, 3), 114, np.uint8)


def constant_model(
    path: Path,
    *outputs: np.ndarray,
    shape: tuple[object, ...] = (1, 3, 64, 64),
    kind: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A model that answers every image with the same outputs."""
    nodes = [
        helper.make_node("Constant", [], [f"output{i}"], value=onnx.numpy_helper.from_array(output))
        for i, output in enumerate(outputs)
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info(f"output{i}", TensorProto.FLOAT, o.shape) for i, o in enumerate(outputs)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


def test_families_without_metadata(tmp_path: Path) -> None:
    cells = 8 * 8 + 4 * 4 + 2 * 2
    box = [32.0, 32.0, 20.0, 10.0]  # Centre and size in input pixels; a 64x48 image lies 8 pixels lower.

    rows = np.zeros((1, 3 * cells, 5 + 4), np.float32)
    rows[0, 7] = [*box, 0.9, 0.1, 0.8, 0.0, 0.0]
    v5 = load_detector(constant_model(tmp_path / "v5.onnx", rows))
    [found] = v5.predict([GREY])
    assert v5.describe()["family"] == "yolov5"
    assert found.class_id.tolist() == [1]
    assert found.confidence[0] == pytest.approx(0.72)
    assert found.xyxy.tolist() == [[22.0, 19.0, 42.0, 29.0]]
    assert v5.class_names == ("class_0", "class_1", "class_2", "class_3")

    raw = np.zeros((1, cells, 5 + 4), np.float32)
    raw[0, 9] = [0.5, 0.25, np.log(2.0), np.log(1.5), 0.9, 0.0, 0.0, 0.0, 0.8]  # Cell (1, 1) of the stride 8 grid.
    yolox = load_detector(constant_model(tmp_path / "yolox.onnx", raw))
    [found] = yolox.predict([GREY])
    assert yolox.describe()["family"] == "yolox"
    np.testing.assert_allclose(found.xyxy, [[12 - 8, 10 - 6, 12 + 8, 10 + 6]], atol=1e-5)

    from osv_lab.detect.heads import grid

    places, stride = grid((64, 64), (8, 16, 32))
    decoded = raw.copy()
    decoded[0, :, :2] = (places + 0.5) * stride[:, None]
    decoded[0, :, 2:4] = 8.0
    assert load_detector(constant_model(tmp_path / "d.onnx", decoded)).describe()["family"] == "yolox-decoded"
    decoded[0, :, 4] = 1.0
    assert load_detector(constant_model(tmp_path / "v6.onnx", decoded)).describe()["family"] == "yolov6"

    v8 = np.zeros((1, 4 + 80, cells), np.float32)
    v8[0, :4, 5], v8[0, 4 + 5, 5] = box, 0.6
    detector = load_detector(constant_model(tmp_path / "v8.onnx", v8))
    assert detector.predict([GREY])[0].data["class_name"].tolist() == ["bus"]

    ends = np.zeros((1, 20, 6), np.float32)
    ends[0, 0] = [22, 27, 42, 37, 0.7, 3]
    named = load_detector(constant_model(tmp_path / "e2e.onnx", ends), class_names=("a", "b", "c", "d"))
    assert named.describe()["family"] == "ultralytics-nms"
    assert named.predict([GREY])[0].data["class_name"].tolist() == ["d"]


@pytest.mark.parametrize("swapped", [False, True])
def test_detr(tmp_path: Path, swapped: bool) -> None:
    boxes = np.tile(np.array([0.5, 0.5, 0.25, 0.5], np.float32), (1, 10, 1))
    logits = np.full((1, 10, 92), -8.0, np.float32)
    logits[..., 91] = 8.0
    logits[0, 4, 6], logits[0, 4, 91] = 9.0, 0.0
    outputs = (boxes, logits) if swapped else (logits, boxes)
    detector = load_detector(constant_model(tmp_path / "detr.onnx", *outputs))
    assert detector.describe()["family"] == "detr"
    [found] = detector.predict([GREY])
    assert found.data["class_name"].tolist() == ["bus"]
    assert found.xyxy.tolist() == [[24.0, 12.0, 40.0, 36.0]]  # Stretched: relative to the image itself.

    sigmoid = np.full((1, 10, 80), -8.0, np.float32)
    sigmoid[0, 2, 5] = 2.0
    rtdetr = load_detector(constant_model(tmp_path / "rtdetr.onnx", sigmoid, boxes))
    assert rtdetr.describe()["family"] == "rtdetr"
    assert rtdetr.predict([GREY])[0].data["class_name"].tolist() == ["bus"]


def test_input_layouts_and_types(tmp_path: Path) -> None:
    ends = np.zeros((1, 5, 6), np.float32)
    ends[0, 0] = [0, 0, 32, 32, 0.7, 0]
    for name, shape, kind in (
        ("nhwc", (1, 64, 64, 3), TensorProto.FLOAT),
        ("half", (1, 3, 64, 64), TensorProto.FLOAT16),
        ("bytes", (1, 64, 64, 3), TensorProto.UINT8),
    ):
        path = constant_model(tmp_path / f"{name}.onnx", ends, shape=shape, kind=kind)
        detector = load_detector(path, class_names=["thing"])
        # Three images through a batch of one.
        assert [len(found) for found in detector.predict([GREY] * 3)] == [1, 1, 1]
        assert detector.describe()["fixed_batch"] == 1


def test_the_sidecar_names_the_classes(tmp_path: Path) -> None:
    rows = np.zeros((1, 6, 84), np.float32)
    path = constant_model(tmp_path / "m.onnx", rows)
    path.with_name("m.onnx.osv.json").write_text(json.dumps({"class_names": ["x"] * 79, "family": "yolov5"}))
    detector = load_detector(path)
    assert detector.describe()["family"] == "yolov5"
    assert detector.class_names == ("x",) * 79


def test_options_that_cannot_be(tmp_path: Path, exported: Callable[..., Path]) -> None:
    path = exported("yolo11n", dynamic=False, batch=2)
    detector = load_detector(path)
    with pytest.raises(UsageError, match="input size is fixed: 160x160, asked for 320x320"):
        load_detector(path, imgsz=320)
    with pytest.raises(UsageError, match="number of class names is wrong: 1 given, the model has 80"):
        load_detector(path, class_names=["one"])
    with pytest.raises(UsageError, match="no such model family: 'yolov9000'"):
        load_detector(path, family="yolov9000")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="no such execution provider: 'gpu'"):
        load_detector(path, providers=["gpu"])
    with pytest.raises(UsageError, match="threads must be at least 1"):
        load_detector(path, threads=0)
    with pytest.raises(UsageError, match="no such class: 'buss'"):
        detector.predict([GREY], classes=["buss"])
    with pytest.raises(UsageError, match="confidence must lie between 0 and 1: 50"):
        detector.predict([GREY], confidence=50)
    with pytest.raises(UsageError, match=r"image 1 is not a BGR uint8 image of shape \(h, w, 3\): float32"):
        detector.predict([GREY, GREY.astype(np.float32)])
    with pytest.raises(UsageError, match="batch of images"):
        detector.predict(GREY)  # type: ignore[arg-type]
    assert detector.predict([]) == []
    assert isinstance(detector, Detector)
    json.dumps(detector.describe())


def test_files_that_are_no_models(tmp_path: Path, exported: Callable[..., Path]) -> None:
    whole = exported("yolo11n").read_bytes()
    for name, content in (("empty", b""), ("text", b"not a model at all"), ("cut", whole[: len(whole) // 2])):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(InvalidDataError, match=f"{name}.onnx"):
            load_detector(path)
    with pytest.raises(
        InvalidDataError, match=r"no known family: a model, output shapes \(1, 10, 3\) for an input of 64x64"
    ):
        load_detector(constant_model(tmp_path / "odd.onnx", np.zeros((1, 10, 3), np.float32)))
    with pytest.raises(InvalidDataError, match="does not take colour images: 1 channels"):
        load_detector(
            constant_model(tmp_path / "grey.onnx", np.zeros((1, 5, 6), np.float32), shape=(1, 1, 64, 64))
        )
    with pytest.raises(NotFoundError, match="no such model"):
        load_detector(tmp_path / "nothing.onnx")
    other = tmp_path / "model.mnn"
    other.write_bytes(b"x")
    with pytest.raises(UsageError, match="no engine runs this kind of model"):
        load_detector(other)


@pytest.mark.parametrize("location", ["weights.bin", "../outside.bin", "/etc/hostname"])
def test_external_data_missing_or_escaping_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(1 << 16))
    tensor = onnx.numpy_helper.from_array(np.zeros((1, 20, 6), np.float32), "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value=str(20 * 6 * 4))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["weights"], ["output0"])],
        "external",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 64, 64))],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, (1, 20, 6))],
        initializer=[tensor],
    )
    path = folder / "model.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    with pytest.raises(InvalidDataError, match=r"model\.onnx"):
        load_detector(path)


def test_batches_do_not_change_results(images: list[np.ndarray], exported: Callable[..., Path]) -> None:
    detector = load_detector(exported("yolo11n"), threads=1)
    alone = [detector.predict([image], confidence=0.5)[0] for image in images]
    together = detector.predict([*images, *images[::-1]], confidence=0.5)
    for one, other in zip([*alone, *alone[::-1]], together, strict=True):
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-2)
        np.testing.assert_array_equal(one.class_id, other.class_id)


def test_an_exact_input_size_is_taken(images: list[np.ndarray], exported: Callable[..., Path]) -> None:
    path = exported("yolo11n")
    assert load_detector(path).input_size is None
    assert load_detector(path, imgsz=(192, 100)).input_size == (192, 128)
    square = load_detector(path, imgsz=(160, 160))
    fixed = load_detector(exported("yolo11n", dynamic=False, batch=2))
    report = compare_outputs(fixed, square, images)
    assert report.passed, report.summary()
    assert report.max_corner_px < 0.05


def test_only_classes_that_were_asked_for(images: list[np.ndarray], exported: Callable[..., Path]) -> None:
    detector = load_detector(exported("yolo11n"))
    every = detector.predict(images[:1], confidence=0.5)[0]
    name = every.data["class_name"][0]
    some = detector.predict(images[:1], confidence=0.5, classes=[name])[0]
    assert set(some.data["class_name"]) == {name}
    assert len(detector.predict(images[:1], confidence=0.5, max_detections=3)[0]) == 3


def test_the_server_needs_neither_torch_nor_ultralytics(exported: Callable[..., Path]) -> None:
    """Loading and predicting in a fresh process, its stderr silent, without the heavy modules."""
    code = (
        "import sys, numpy as np\n"
        "from osv_lab.detect import load_detector\n"
        "assert not {'cv2', 'supervision', 'onnxruntime'} & set(sys.modules), 'import must be instant'\n"
        f"detector = load_detector({str(exported('yolo11n'))!r})\n"
        "detector.predict([np.zeros((50, 60, 3), np.uint8)])\n"
        "heavy = {'torch', 'ultralytics', 'fiftyone', 'mlflow', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(detector.provider)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == usable_providers()[0]
    assert done.stderr == ""


def test_yolox_finds_the_bus_and_the_people(images: list[np.ndarray], shared: Path | None) -> None:
    if shared is None:
        pytest.skip("the published YOLOX file is not here; its head is tested above on a made one")
    detector = load_detector(shared / "models" / "yolox_nano_coco.onnx")
    assert (detector.input_size, detector.describe()["family"]) == ((416, 416), "yolox")
    [found] = detector.predict(images[:1], confidence=0.6)
    names = sorted(found.data["class_name"])
    assert names == ["bus", "person", "person", "person"]
    bus = found.xyxy[list(found.data["class_name"]).index("bus")]
    np.testing.assert_allclose(bus, [13, 231, 801, 735], atol=4)

    import cv2

    video = cv2.VideoCapture(str(shared / "videos" / "car-detection.mp4"))
    cars = 0
    for number in range(377):
        _, frame = video.read()
        if number in range(90, 110) or number in range(220, 235):
            cars += len(detector.predict([frame], classes=["car"], confidence=0.25)[0])
    assert cars >= 5


def test_an_export_equals_its_weights(images: list[np.ndarray], shared: Path | None, exported: Callable[..., Path],
                                      weights: Callable[[str], Path]) -> None:  # fmt: skip
    if shared is None:
        original, export, photos, line = weights("yolo11n"), exported("yolo11n"), images, 0.5
    else:
        original, export = (shared / "models" / f"bccd_yolo11n.{kind}" for kind in ("pt", "onnx"))
        folder = next((shared / "bccd").rglob("JPEGImages"))
        photos, line = [read_image(path) for path in sorted(folder.glob("*.jpg"))[:12]], 0.25
    candidate = load_detector(export)
    reference = load_detector(original, imgsz=candidate.input_size or candidate.describe()["input_size"][0])
    report = compare_outputs(reference, candidate, photos, confidence=line)
    assert report.passed, report.summary()
    assert report.matched == 1.0
    assert report.max_score_difference < 1e-4


def test_a_session_that_was_opened_ahead_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    class Counted(onnxruntime.InferenceSession):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)
            opened.append(self)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
    path = write_tiny_model(tmp_path / "tiny.onnx")
    monkeypatch.chdir(tmp_path)
    with opened_ahead("tiny.onnx", providers=["cpu"], threads=1):
        detector = load_detector(path, providers=("cpu",), threads=1)
        assert len(opened) == 1
        assert open_session(path, providers=("cpu",), threads=1) is opened[1]
    bright = np.full((64, 64, 3), 255, np.uint8)
    assert [len(one) for one in detector.predict([bright])] == [1]
    with opened_ahead(path, providers=["cpu"], threads=1):
        until(lambda: len(opened) == 3)  # Nobody wants it.
    assert open_session(path, providers=("cpu",), threads=1) is opened[3]
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    for missing in ("broken.onnx", "none.onnx"):
        with opened_ahead(missing, threads=1), pytest.raises((InvalidDataError, NotFoundError)):
            load_detector(missing, threads=1)
