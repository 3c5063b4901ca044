"""Which family a model belongs to, told by its metadata and the shapes of its outputs.

The rule, in this order (``b`` batch, ``c`` classes, ``n`` cells of the grids of stride 8, 16 and 32):

1. A ``family`` given by the caller or by the sidecar file.
2. Ultralytics metadata (``task`` and ``names``): a classifier by its task; RT-DETR by its head or description;
   ``(b, m, 6 + extra)`` is suppressed inside; ``(b, 4 + c + extra, n)`` is not.
3. No metadata:

   ============================================================  ================================================
   outputs                                                       family
   ============================================================  ================================================
   ``(b, q, c)`` and ``(b, q, 4)``                               ``detr``; its last class is "no object" when there
                                                                 are 92, or one more than the known names
   ``(b, m, 6)``, m not the number of cells                      ``ultralytics-nms``
   ``(b, 4 + c, n)``                                             ``ultralytics``
   ``(b, 3 n, 5 + c)``                                           ``yolov5`` (and v7)
   ``(b, n, 5 + c)``, boxes that lie on their own cells          ``yolov6`` if every objectness is 1, else
                                                                 ``yolox-decoded``
   ``(b, n, 5 + c)``, boxes that do not                          ``yolox``
   ============================================================  ================================================

How the input is prepared follows from the family (:data:`SPECS`): Ultralytics, YOLOv5, v6 and v7 take RGB from 0 to 1,
letterboxed in the middle; YOLOX takes BGR from 0 to 255, letterboxed in the top-left corner; DETR takes stretched RGB,
normalised by ImageNet's mean and deviation, which RT-DETR (sigmoid, 80 classes) does without.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, UsageError, nearest
from osv_lab.detect import heads
from osv_lab.detect.classes import default_names
from osv_lab.detect.preprocess import InputSpec

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SPECS: Mapping[str, InputSpec] = {
    "ultralytics": InputSpec(),
    "ultralytics-nms": InputSpec(),
    "ultralytics-rtdetr": InputSpec(fit="stretch"),
    "ultralytics-rtdetr-rows": InputSpec(fit="stretch"),
    "ultralytics-classify": InputSpec(fit="crop"),
    "yolov5": InputSpec(),
    "yolov6": InputSpec(),
    "yolox": InputSpec(fit="top-left", rgb=False, scale=1.0),
    "yolox-decoded": InputSpec(fit="top-left", rgb=False, scale=1.0),
    "detr": InputSpec(fit="stretch", mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
    "detr-sigmoid": InputSpec(fit="stretch", mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
    "rtdetr": InputSpec(fit="stretch"),
}
"""How each family's input is prepared."""

_STRIDES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a model file and its sidecar say about the model.

    Attributes:
        task: Ultralytics' task, ``""`` where not stated.
        names: Class names by id, ``()`` where not stated.
        imgsz: ``(width, height)`` it was exported at, or ``None``.
        stride: The largest stride of its grids.
        head: Ultralytics' head class (``"Detect"``), ``""`` where not stated.
        description: Free text.
        kpt_shape: Keypoints and numbers per keypoint, or ``None``.
        suppressed_batch: Of a graph with suppression inside: the most images it takes at once, else ``None``.
        family: A family stated in the sidecar, or ``""``.
    """

    task: str = ""
    names: tuple[str, ...] = ()
    imgsz: tuple[int, int] | None = None
    stride: int = 32
    head: str = ""
    description: str = ""
    kpt_shape: tuple[int, int] | None = None
    suppressed_batch: int | None = None
    family: str = ""

    @property
    def is_ultralytics(self) -> bool:
        """Whether it was exported by Ultralytics, which names the task."""
        return bool(self.task and self.names)


@dataclass(frozen=True, slots=True)
class Family:
    """A model's family, ready to use.

    Attributes:
        name: A key of :data:`SPECS`.
        task: What the model finds.
        class_names: By class id.
        head: Decodes its outputs.
        spec: How its input is prepared.
    """

    name: str
    task: str
    class_names: tuple[str, ...]
    head: heads.Head
    spec: InputSpec


def read_metadata(stored: Mapping[str, str], path: Path | None = None) -> Metadata:
    """Metadata from an ONNX file's key-value pairs, completed from the sidecar ``<file>.osv.json``.

    Values that cannot be read are taken as not stated.
    """
    values = {key: _literal(value) for key, value in stored.items()}
    metadata = _metadata(values)
    sidecar = _read_sidecar(path)
    if sidecar:
        said = _metadata({**sidecar, "names": sidecar.get("class_names"), "imgsz": None})
        metadata = replace(
            metadata,
            names=metadata.names or said.names,
            kpt_shape=metadata.kpt_shape or said.kpt_shape,
            family=str(sidecar.get("family") or ""),
        )
    return metadata


def _read_sidecar(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        sidecar = json.loads(path.with_name(path.name + ".osv.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return sidecar if isinstance(sidecar, dict) else {}


def _literal(text: str) -> Any:
    """A Python literal as Ultralytics writes its metadata, or the text itself."""
    if len(text) > 1_000_000:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _metadata(values: Mapping[str, Any]) -> Metadata:
    imgsz = values.get("imgsz")
    if isinstance(imgsz, int):
        imgsz = [imgsz, imgsz]
    sizes = _integers(imgsz, 2)
    arguments = values.get("args")
    suppressed = isinstance(arguments, Mapping) and arguments.get("nms") is True
    return Metadata(
        task=str(values.get("task") or ""),
        names=_names(values.get("names")),
        imgsz=(sizes[1], sizes[0]) if sizes else None,
        stride=max((_integers(values.get("stride"), 1) or (32,))[0], 1),
        head=str(values.get("head") or ""),
        description=str(values.get("description") or ""),
        kpt_shape=_integers(values.get("kpt_shape"), 2),  # type: ignore[arg-type]
        suppressed_batch=(_integers(values.get("batch"), 1) or (1,))[0] if suppressed else None,
    )


def _integers(value: Any, count: int) -> tuple[int, ...] | None:
    items = value if isinstance(value, (list, tuple)) else [value]
    if len(items) == count and all(isinstance(item, (int, float)) and item > 0 for item in items):
        return tuple(int(item) for item in items)
    return None


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        try:
            by_id = {int(key): str(name) for key, name in value.items()}
        except (ValueError, TypeError):
            return ()
        return tuple(by_id.get(index, f"class_{index}") for index in range(max(by_id, default=-1) + 1))
    return tuple(str(name) for name in value) if isinstance(value, (list, tuple)) else ()


def infer_family(
    metadata: Metadata,
    outputs: Sequence[np.ndarray],
    input_size: tuple[int, int],
    *,
    class_names: Sequence[str] | None = None,
    family: str | None = None,
) -> Family:
    """The family of a model (the module's docstring has the rule).

    Args:
        metadata: What the file says.
        outputs: The network's outputs for one plain grey image.
        input_size: ``(width, height)`` of that image.
        class_names: Names that replace the model's own.
        family: A key of :data:`SPECS` that replaces the rule.

    Raises:
        InvalidDataError: no family has such outputs; the shapes are named.
        UsageError: an unknown ``family``, or a wrong number of ``class_names``.
    """
    shapes = [tuple(output.shape) for output in outputs]
    names = tuple(class_names) if class_names is not None else metadata.names
    chosen = family or metadata.family
    if chosen and chosen not in SPECS:
        raise UsageError("no such model family", f"'{chosen}'", nearest(chosen, SPECS))
    found = (
        _by_name(chosen, shapes, metadata, names, input_size)
        if chosen
        else _by_metadata(shapes, metadata)
        if metadata.is_ultralytics
        else _by_shape(outputs, names, input_size)
    )
    if found is None:
        kind = (
            f"a {metadata.task} model with {len(metadata.names)} classes" if metadata.is_ultralytics else "a model"
        )
        raise InvalidDataError(
            "this model's outputs belong to no known family",
            f"{kind}, output shapes {', '.join(map(str, shapes))} for an input of {input_size[0]}x{input_size[1]}",
            "name its family (" + ", ".join(SPECS) + ") if it is one of them, or export it another way",
        )
    name, head, count, task = found
    if class_names is not None and len(names) != count and count:
        raise UsageError("the number of class names is wrong", f"{len(names)} given, the model has {count}")
    if len(names) < count:
        names = (*names, *default_names(count)[len(names) :])
    return Family(name, task, names, head, SPECS[name])


_Found = tuple[str, heads.Head, int, str]
_Shapes = Sequence[tuple[int, ...]]


def _by_metadata(shapes: _Shapes, metadata: Metadata) -> _Found | None:
    task, classes = metadata.task, len(metadata.names)
    if task == "classify":
        return ("ultralytics-classify", heads.WholeImage(), classes, task) if len(shapes[0]) == 2 else None
    if len(shapes[0]) != 3 or task not in ("detect", "segment", "pose", "obb"):
        return None
    rows, columns = shapes[0][1:]
    if metadata.head == "RTDETRDecoder" or "rtdetr" in metadata.description.lower().replace("-", ""):
        if columns == 6 and (metadata.head or classes != 2):
            return "ultralytics-rtdetr", heads.EndToEnd(relative=True), classes, task
        return (
            ("ultralytics-rtdetr-rows", heads.RelativeRows(classes), classes, task)
            if columns == 4 + classes
            else None
        )
    extra = _extra_columns(shapes, metadata)
    if extra is None:
        return None
    if rows == 4 + classes + extra:
        return "ultralytics", heads.AnchorFree(classes, oriented=task == "obb"), classes, task
    if columns == 6 + extra:
        return "ultralytics-nms", heads.EndToEnd(oriented=task == "obb"), classes, task
    if columns == 5 + classes and task == "detect":
        return "yolov5", heads.Objectness(classes), classes, task
    return None


def _extra_columns(shapes: _Shapes, metadata: Metadata) -> int | None:
    """How many numbers per box follow its classes."""
    if metadata.task == "segment":
        return shapes[1][1] if len(shapes) == 2 and len(shapes[1]) == 4 else None
    if metadata.task == "pose":
        return math.prod(metadata.kpt_shape) if metadata.kpt_shape else None
    return 1 if metadata.task == "obb" else 0


def _by_shape(outputs: Sequence[np.ndarray], names: Sequence[str], input_size: tuple[int, int]) -> _Found | None:
    shapes = [output.shape for output in outputs]
    if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes) and shapes[0][1] == shapes[1][1]:
        widths = [shape[2] for shape in shapes]
        if widths.count(4) >= 1:
            return _detr(int(widths[0] == 4), max(widths) if widths != [4, 4] else 4, names)
    if len(shapes) != 1 or len(shapes[0]) != 3:
        return None
    rows, columns = shapes[0][1:]
    cells = cell_count(input_size)
    if columns == 6 and rows not in (cells, 3 * cells):
        return "ultralytics-nms", heads.EndToEnd(), len(names), "detect"
    if columns == cells and rows > 4:
        return "ultralytics", heads.AnchorFree(rows - 4), rows - 4, "detect"
    if rows == 3 * cells and columns > 5:
        return "yolov5", heads.Objectness(columns - 5), columns - 5, "detect"
    if rows == cells and columns > 5:
        classes = columns - 5
        if not _on_their_cells(outputs[0][0], input_size):
            return "yolox", heads.Objectness(classes, _STRIDES), classes, "detect"
        certain = bool(np.all(np.abs(outputs[0][0, :, 4].astype(np.float32) - 1) < 1e-3))
        return "yolov6" if certain else "yolox-decoded", heads.Objectness(classes), classes, "detect"
    return None


def _detr(logits: int, width: int, names: Sequence[str]) -> _Found:
    softmax = width == len(names) + 1 if names else width == 92
    classes = width - 1 if softmax else width
    name = "detr" if softmax else "rtdetr" if classes == 80 else "detr-sigmoid"
    return name, heads.Detr(logits, softmax), classes, "detect"


def _by_name(
    name: str, shapes: _Shapes, metadata: Metadata, names: Sequence[str], input_size: tuple[int, int]
) -> _Found | None:
    """The head of a family that the caller named; the class count still comes from the shapes."""
    task = metadata.task or "detect"
    if name in ("detr", "detr-sigmoid", "rtdetr"):
        if len(shapes) != 2 or 4 not in (shapes[0][-1], shapes[1][-1]):
            return None
        logits = int(shapes[0][-1] == 4)
        softmax = name == "detr"
        return name, heads.Detr(logits, softmax), shapes[logits][-1] - softmax, "detect"
    if name == "ultralytics-classify":
        return (name, heads.WholeImage(), shapes[0][1], "classify") if len(shapes[0]) == 2 else None
    if len(shapes[0]) != 3:
        return None
    rows, columns = shapes[0][1:]
    if name in ("yolov5", "yolov6", "yolox", "yolox-decoded"):
        strides = _STRIDES if name == "yolox" else ()
        if columns <= 5 or (strides and rows != cell_count(input_size)):
            return None
        return name, heads.Objectness(columns - 5, strides), columns - 5, "detect"
    if name == "ultralytics-rtdetr-rows":
        return name, heads.RelativeRows(columns - 4), columns - 4, "detect"
    if name in ("ultralytics-nms", "ultralytics-rtdetr"):
        if columns < 6:
            return None
        return name, heads.EndToEnd(task == "obb", name == "ultralytics-rtdetr"), len(names), task
    extra = _extra_columns(shapes, metadata)
    if extra is None or rows <= 4 + extra:
        return None
    return name, heads.AnchorFree(rows - 4 - extra, task == "obb"), rows - 4 - extra, task


def cell_count(input_size: tuple[int, int]) -> int:
    """How many cells the grids of stride 8, 16 and 32 have together."""
    return sum((input_size[0] // stride) * (input_size[1] // stride) for stride in _STRIDES)


def _on_their_cells(rows: np.ndarray, input_size: tuple[int, int]) -> bool:
    """Whether boxes are in pixels (their centres lie near their own cells) or offsets still to be decoded."""
    cells, stride = heads.grid(input_size, _STRIDES)
    away = np.abs(rows[:, :2].astype(np.float32) / stride[:, None] - (cells + 0.5))
    # Not numpy's median, which imports masked arrays for a network's first run.
    return bool(2 * np.count_nonzero(away < 2) > away.size)
