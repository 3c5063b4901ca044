"""A detector of a few hundred bytes, made on the spot: one box in the middle, as sure as the image is bright."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIZE = 64
BOX = (22.0, 22.0, 42.0, 42.0)
CLASSES = ("lamp", "cat")


def write_tiny_model(path: Path, classes: tuple[str, str] = CLASSES) -> Path:
    """Write the detector as ONNX with Ultralytics' metadata; its input is ``(n, 3, 64, 64)``, RGB, 0 to 1."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    cells = sum((SIZE // stride) ** 2 for stride in (8, 16, 32))
    fixed, score = np.zeros((1, 6, cells), np.float32), np.zeros((1, 6, cells), np.float32)
    fixed[0, :4, 0] = (32, 32, 20, 20)
    score[0, 4, 0] = 1
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "shape"], ["brightness"]),
        helper.make_node("Mul", ["score", "brightness"], ["scores"]),
        helper.make_node("Add", ["fixed", "scores"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 6, cells])],
        [
            numpy_helper.from_array(fixed, "fixed"),
            numpy_helper.from_array(score, "score"),
            numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    names = str(dict(enumerate(classes)))
    for key, value in {"task": "detect", "names": names, "imgsz": str([SIZE, SIZE]), "stride": "32"}.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return path


def write_shifted(path: Path, px: float) -> Path:
    """The tiny model with its box elsewhere: so many pixels to the right."""
    import onnx

    model = onnx.load(str(write_tiny_model(path)))
    tensor = next(item for item in model.graph.initializer if item.name == "fixed")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0, 0, 0] += px
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(path))
    return path
