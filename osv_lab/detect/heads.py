"""What detection networks put out, decoded into boxes in the pixels of the network's input.

A head takes the raw outputs of a batch and gives the candidates of one image. Which head a model has is told by
:mod:`osv_lab.detect.families`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

if TYPE_CHECKING:
    from osv_lab.detect.preprocess import Placement

_NO_COLUMNS = np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes of one image, not yet suppressed.

    Attributes:
        boxes: ``(n, 4) float32`` x1, y1, x2, y2, or of an oriented head ``(n, 5)`` centre, width, height, radians;
            pixels of the network's input.
        scores: ``(n,) float32``.
        class_id: ``(n,) int64``.
        extra: ``(n, k) float32``: mask coefficients or keypoints.
    """

    boxes: np.ndarray
    scores: np.ndarray
    class_id: np.ndarray
    extra: np.ndarray = field(default_factory=lambda: _NO_COLUMNS)

    def take(self, index: np.ndarray) -> Candidates:
        """The candidates at ``index`` (indices or a bool mask), in that order."""
        extra = self.extra[index] if self.extra.size else self.extra
        return Candidates(self.boxes[index], self.scores[index], self.class_id[index], extra)


@dataclass(frozen=True, slots=True)
class Said:
    """All that a network says about one image before anything is dropped.

    Attributes:
        candidates: One per anchor.
        class_scores: ``(anchors, classes) float32``.
        prototypes: ``(k, h, w) float32`` of a segmenter; of others empty.
        placement: Where the image lay in the input.
    """

    candidates: Candidates
    class_scores: np.ndarray
    prototypes: np.ndarray
    placement: Placement


class Head(Protocol):
    """How one family of networks writes down what it found.

    Attributes:
        final: Whether the network suppressed duplicates itself.
    """

    final: ClassVar[bool]

    def decode(
        self, outputs: Sequence[np.ndarray], index: int, confidence: float, input_size: tuple[int, int]
    ) -> Candidates:
        """Candidates of image ``index`` of the batch with a score above ``confidence``.

        Args:
            outputs: The network's outputs, batch first.
            index: Which image of the batch.
            confidence: 0 to 1.
            input_size: ``(width, height)`` of the network's input.
        """
        ...


def _float(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32, copy=False)


def centers_to_corners(xywh: np.ndarray) -> np.ndarray:
    """``(n, 4)`` centre x, centre y, width, height to x1, y1, x2, y2."""
    half = xywh[:, 2:] / 2
    return np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], axis=1)


@dataclass(frozen=True, slots=True)
class AnchorFree:
    """Ultralytics v8, v9, 11, 12, 26 without suppression: ``(b, 4 + classes + extra, anchors)``.

    Boxes are centre and size in input pixels; scores are probabilities; a segmenter's extra columns are mask
    coefficients, a pose model's keypoints, an oriented model's angle.
    """

    final: ClassVar[bool] = False
    classes: int
    oriented: bool = False

    def decode(
        self, outputs: Sequence[np.ndarray], index: int, confidence: float, input_size: tuple[int, int]
    ) -> Candidates:
        """See :meth:`Head.decode`."""
        columns = outputs[0][index]
        scores = columns[4 : 4 + self.classes]
        kept = np.flatnonzero(scores.max(axis=0) > confidence)
        rows = _float(columns[:, kept].T)
        class_id = rows[:, 4 : 4 + self.classes].argmax(axis=1)
        best = rows[np.arange(len(rows)), 4 + class_id]
        extra = rows[:, 4 + self.classes :]
        if self.oriented:
            return Candidates(np.concatenate([rows[:, :4], extra], axis=1), best, class_id)
        return Candidates(centers_to_corners(rows[:, :4]), best, class_id, extra)

    def class_scores(self, outputs: Sequence[np.ndarray], index: int) -> np.ndarray:
        """``(anchors, classes) float32`` what every anchor of image ``index`` says of every class."""
        return _float(outputs[0][index][4 : 4 + self.classes].T)


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """Already suppressed: ``(b, detections, 6 + extra)`` rows of box, score, class; unused rows score 0.

    Ultralytics exports with ``nms=True`` and one-to-one heads (YOLOv10, YOLO26): corners in input pixels, or centre
    and size with the angle as the last column for oriented boxes. ``relative``: RT-DETR's rows, centre and size in
    input widths and heights.
    """

    final: ClassVar[bool] = True
    oriented: bool = False
    relative: bool = False

    def decode(
        self, outputs: Sequence[np.ndarray], index: int, confidence: float, input_size: tuple[int, int]
    ) -> Candidates:
        """See :meth:`Head.decode`."""
        rows = outputs[0][index]
        rows = _float(rows[rows[:, 4] > confidence])
        boxes, extra = rows[:, :4], rows[:, 6:]
        if self.relative:
            boxes = _scaled(centers_to_corners(boxes), input_size)
        if self.oriented:
            boxes, extra = np.concatenate([boxes, extra[:, -1:]], axis=1), _NO_COLUMNS
        return Candidates(boxes, rows[:, 4], rows[:, 5].astype(np.int64), extra)


@dataclass(frozen=True, slots=True)
class Objectness:
    """YOLOv5, v6, v7 and YOLOX: ``(b, anchors, 5 + classes + extra)``, the score being objectness times class score.

    Attributes:
        classes: Number of classes.
        strides: Of YOLOX's undecoded output: its grids' strides. Boxes are then offsets in cells and logarithms of
            sizes in cells (Ge et al. 2021, https://arxiv.org/abs/2107.08430). Empty: boxes are input pixels.
    """

    final: ClassVar[bool] = False
    classes: int
    strides: tuple[int, ...] = ()

    def decode(
        self, outputs: Sequence[np.ndarray], index: int, confidence: float, input_size: tuple[int, int]
    ) -> Candidates:
        """See :meth:`Head.decode`."""
        rows = outputs[0][index]
        likely = np.flatnonzero(rows[:, 4] > confidence)
        rows = _float(rows[likely])
        scores = rows[:, 5 : 5 + self.classes] * rows[:, 4:5]
        class_id = scores.argmax(axis=1) if len(rows) else np.zeros(0, np.int64)
        best = scores[np.arange(len(rows)), class_id]
        kept = best > confidence
        xywh = rows[kept, :4]
        if self.strides:
            cells, stride = grid(input_size, self.strides)
            stride = stride[likely[kept], None]
            xywh = np.concatenate(
                [(xywh[:, :2] + cells[likely[kept]]) * stride, np.exp(xywh[:, 2:]) * stride], axis=1
            )
        return Candidates(centers_to_corners(xywh), best[kept], class_id[kept], rows[kept, 5 + self.classes :])

    def class_scores(self, outputs: Sequence[np.ndarray], index: int) -> np.ndarray:
        """``(anchors, classes) float32`` what every anchor of image ``index`` says of every class."""
        rows = _float(outputs[0][index])
        return np.asarray(rows[:, 5 : 5 + self.classes] * rows[:, 4:5])


@dataclass(frozen=True, slots=True)
class Detr:
    """DETR and its kin: class logits ``(b, queries, classes)`` and boxes ``(b, queries, 4)``, relative centre and size.

    Attributes:
        logits: Which output holds the logits; the other holds the boxes.
        softmax: DETR proper, whose last class is "no object" (Carion et al. 2020, https://arxiv.org/abs/2005.12872).
            Otherwise every class has its own sigmoid (Deformable DETR, RT-DETR, RF-DETR), and one query may be
            several detections.
    """

    final: ClassVar[bool] = True
    logits: int
    softmax: bool

    def decode(
        self, outputs: Sequence[np.ndarray], index: int, confidence: float, input_size: tuple[int, int]
    ) -> Candidates:
        """See :meth:`Head.decode`."""
        logits = _float(outputs[self.logits][index])
        boxes = _float(outputs[1 - self.logits][index])
        if self.softmax:
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
            query = np.flatnonzero(scores.max(axis=1) > confidence)
            class_id = scores[query].argmax(axis=1)
        else:
            scores = 1 / (1 + np.exp(-logits))
            query, class_id = np.nonzero(scores > confidence)
        corners = _scaled(centers_to_corners(boxes[query]), input_size)
        return Candidates(corners, scores[query, class_id], class_id)


@dataclass(frozen=True, slots=True)
class RelativeRows:
    """RT-DETR as older Ultralytics exported it: ``(b, queries, 4 + classes)``, relative boxes, probabilities."""

    final: ClassVar[bool] = True
    classes: int

    def decode(
        self, outputs: Sequence[np.ndarray], index: int, confidence: float, input_size: tuple[int, int]
    ) -> Candidates:
        """See :meth:`Head.decode`."""
        rows = outputs[0][index]
        rows = _float(rows[rows[:, 4 : 4 + self.classes].max(axis=1) > confidence])
        scores = rows[:, 4 : 4 + self.classes]
        class_id = scores.argmax(axis=1) if len(rows) else np.zeros(0, np.int64)
        boxes = _scaled(centers_to_corners(rows[:, :4]), input_size)
        return Candidates(boxes, scores[np.arange(len(rows)), class_id], class_id)


@dataclass(frozen=True, slots=True)
class WholeImage:
    """A classifier: ``(b, classes)`` probabilities. Every class above the threshold is one box round the image."""

    final: ClassVar[bool] = True

    def decode(
        self, outputs: Sequence[np.ndarray], index: int, confidence: float, input_size: tuple[int, int]
    ) -> Candidates:
        """See :meth:`Head.decode`."""
        scores = _float(outputs[0][index])
        class_id = np.flatnonzero(scores > confidence)
        box = np.array([0, 0, *input_size], np.float32)
        return Candidates(np.repeat(box[None], len(class_id), axis=0), scores[class_id], class_id)


def grid(input_size: tuple[int, int], strides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The cells of an anchor-free detector's grids, finest first, row by row.

    Returns:
        Cell positions ``(n, 2)`` (column, row) and the stride of each ``(n,)``, float32.

    Example:
        >>> cells, stride = grid((64, 32), (32,))
        >>> cells.tolist(), stride.tolist()
        ([[0.0, 0.0], [1.0, 0.0]], [32.0, 32.0])
    """
    cells, sizes = [], []
    for stride in strides:
        columns, rows = input_size[0] // stride, input_size[1] // stride
        y, x = np.mgrid[:rows, :columns]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        sizes.append(np.full(rows * columns, stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def _scaled(relative: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    return relative * np.array([*input_size, *input_size], np.float32)
