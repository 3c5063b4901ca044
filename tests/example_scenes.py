"""Pictures, films, models and labels of the examples' world: tiny, and the same every time.

A picture shows a red cell in the middle and, in every second picture, a white one in the upper left corner.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

PICTURES = 20
SIZE = 64
MIDDLE, CORNER = (22, 22, 42, 42), (4, 4, 18, 18)
CLASSES = ("RBC", "WBC")
ARCHITECTURE = """
backbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]],
  [-1, 1, Conv, [16, 3, 2]]]
head: [[[2, 3, 4], 1, Detect, [nc]]]
nc: 2
"""
FILM = (160, 120)
FRAMES = 30


def picture(number: int) -> np.ndarray:
    """``(64, 64, 3)`` uint8 BGR."""
    rng = np.random.default_rng(number)
    image = rng.normal(185 + 2 * number, 4, (SIZE, SIZE, 3))
    image[22:42, 22:42] = rng.normal((90, 80, 230), 9, (20, 20, 3))
    if number % 2 == 0:
        image[4:18, 4:18] = rng.normal((240, 120, 90), 9, (14, 14, 3))
    return image.clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path) -> None:
    import cv2

    folder.mkdir()
    for number in range(PICTURES):
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture(number))


def write_photo(path: Path) -> None:
    import cv2

    cv2.imwrite(str(path), cv2.resize(picture(0), (640, 480)))


def write_detector(path: Path) -> None:
    """The tiny model, which sees a red cell in the middle and, less surely, a white one in the corner."""
    import onnx
    from tiny_model import write_tiny_model

    path.parent.mkdir(exist_ok=True)
    model = onnx.load(str(write_tiny_model(path, CLASSES)))
    for tensor in model.graph.initializer:
        if tensor.name in ("fixed", "score"):
            values = onnx.numpy_helper.to_array(tensor).copy()
            if tensor.name == "fixed":
                values[0, :4, 1] = (11, 11, 14, 14)
            else:
                values[0, 5, 1] = 0.9
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(path))


def write_candidate(path: Path) -> None:
    """A detector that knows no white cells."""
    from tiny_model import write_tiny_model

    write_tiny_model(path, CLASSES)


def write_weights(path: Path) -> None:
    """A YOLO of five convolutions, with random weights."""
    import torch
    from ultralytics import YOLO

    path.parent.mkdir(exist_ok=True)
    architecture = path.with_suffix(".yaml")
    architecture.write_text(ARCHITECTURE)
    torch.manual_seed(0)
    YOLO(architecture, task="detect").save(path)


def write_captures(folder: Path) -> None:
    """The spool of a server of best.onnx: twelve pictures taken in less light than those of the dataset."""
    import cv2

    from osv_lab.detect import load_detector
    from osv_lab.serve.capture import Capture
    from osv_lab.serve.observe import observe

    write_detector(model := folder.with_name("captured by") / "best.onnx")
    detector, capture = load_detector(model), Capture("random=1", folder)
    for number in range(12):
        dim = (picture(number) * 0.6).astype(np.uint8)
        [found] = detector.predict([dim])
        seen = observe(dim, found, model="best.onnx", digest=detector.describe()["digest"])
        capture.see(seen, cv2.imencode(".png", dim)[1].tobytes)


def write_embedder(path: Path) -> None:
    """The mean colour of a crop, eight numbers of it: no network that anybody should use."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["crops"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colours"]),
        helper.make_node("MatMul", ["colours", "weights"], ["embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "reid",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["batch", 3, 32, 16])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32), "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def write_truth(folder: Path) -> None:
    """MOT files of two clips."""
    _write_mot(folder, mistakes=False)


def write_results(folder: Path) -> None:
    _write_mot(folder, mistakes=True)


def _write_mot(folder: Path, mistakes: bool) -> None:
    from osv_lab.track.mot import write_tracks

    folder.mkdir()
    write_tracks(folder / "cars-01.txt", tracks(mistakes))
    write_tracks(folder / "cars-02.txt", tracks(False))


def write_film(path: Path) -> None:
    """Three blocks that slide along lanes of their own over a bright ground."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, FILM)
    for number in range(1, FRAMES + 1):
        frame = np.full((FILM[1], FILM[0], 3), 200, np.uint8)
        for lane in range(3):
            x, y = _place(lane, number)
            frame[y : y + 24, x : x + 20] = 40 + 30 * lane
        writer.write(frame)
    writer.release()


def _place(lane: int, number: int) -> tuple[int, int]:
    return 5 + number * (2 + lane), 10 + 36 * lane


def tracks(mistakes: bool) -> Any:
    """The blocks' tracks 1 to 3; with mistakes, 1 and 2 change places at frame 16 and 3 is lost for a while."""
    from osv_lab.track.tracks import Tracks

    frame, track, box = [], [], []
    for number in range(1, FRAMES + 1):
        for lane in range(3):
            if mistakes and lane == 2 and 10 <= number <= 14:
                continue
            x, y = _place(lane, number)
            swapped = mistakes and number >= 16 and lane < 2
            frame.append(number)
            track.append(2 - lane if swapped else lane + 1)
            box.append((x, y, x + 20, y + 24))
    return Tracks(np.array(frame), np.array(track), np.array(box, float))


def fill_videos(dataset: Any, film: Path) -> Any:
    import fiftyone as fo

    from osv_lab.store.tracks import write_tracks

    metadata = fo.VideoMetadata(
        frame_width=FILM[0], frame_height=FILM[1], frame_rate=25.0, total_frame_count=FRAMES
    )
    dataset.add_sample(fo.Sample(filepath=str(film), metadata=metadata))
    write_tracks(dataset.first(), tracks(False), "ground_truth")
    write_tracks(dataset.first(), tracks(True), "tracks")
    return dataset


def fill(dataset: Any, pictures: Path) -> Any:
    """Labels: the truth, ``predictions`` that miss and confuse some, and ``candidate``, which does better."""
    import fiftyone as fo

    def box(label: str, place: tuple[int, ...], confidence: float | None = None, shift: float = 0) -> Any:
        x1, y1, x2, y2 = (value / SIZE for value in place)
        return fo.Detection(label=label, bounding_box=[x1 + shift, y1, x2 - x1, y2 - y1], confidence=confidence)

    samples = []
    for number in range(PICTURES):
        truth = [box("RBC", MIDDLE)] + [box("WBC", CORNER)] * (number % 2 == 0)
        found = [box("RBC", MIDDLE, 0.9 - 0.02 * number, 0.01)]
        better = [box("RBC", MIDDLE, 0.95)]
        if number % 2 == 0:
            found += [box("RBC" if number % 4 == 0 else "WBC", CORNER, 0.6)] if number % 6 else []
            better += [box("WBC", CORNER, 0.8)]
        if number % 5 == 0:
            found += [box("WBC", (44, 44, 60, 60), 0.35)]
        samples.append(
            fo.Sample(
                filepath=str(pictures / f"{number:02d}.png"),
                tags=["train" if number < 10 else "val" if number < 14 else "test"],
                patient=f"p{number // 2}",
                metadata=fo.ImageMetadata(width=SIZE, height=SIZE, num_channels=3, mime_type="image/png"),
                ground_truth=fo.Detections(detections=truth),
                predictions=fo.Detections(detections=found),
                candidate=fo.Detections(detections=better),
            )
        )
    dataset.add_samples(samples)
    return dataset
