"""Videos for tests: bright boxes on a dark road, written with PyAV, and a detector that really finds them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.detect.detector import make_detections
from osv_lab.track import Line, Zone

Image = npt.NDArray[np.uint8]
SIZE = (160, 120)
CLASSES = ("car", "bus")
GATE = Line("gate", (0, 60), (160, 60), anchor="center")
LOT = Zone("lot", ((0, 0), (80, 0), (80, 119), (0, 119)), anchor="center")


def places(number: int) -> list[tuple[int, float, float]]:
    """(class, x, y) of the boxes' top left corners: one goes right, one goes up, from frame 16 on one comes down."""
    step = (number - 1) % 60
    boxes = [(0, 4 + 1.4 * step, 4.0), (1, 125.0, 98 - 1.5 * step)]
    if step >= 15:
        boxes.append((0, 60.0, 28 + 1.2 * (step - 15)))
    return boxes


def image(number: int, size: tuple[int, int] = SIZE) -> Image:
    """One frame of the scene."""
    picture = np.full((size[1], size[0], 3), 25, np.uint8)
    for kind, x, y in places(number):
        picture[round(y) : round(y) + 18, round(x) : round(x) + 26] = (
            (60, 230, 230) if kind == 0 else (230, 120, 60)
        )
    return picture


def write_video(
    path: Path,
    frames: int = 60,
    *,
    rate: Fraction | int = 10,
    times: Sequence[float] | None = None,
    size: tuple[int, int] = SIZE,
    faststart: bool = True,
    gop: int = 12,
    bidirectional: int = 0,
) -> Path:
    """An H.264 video of the scene; ``times`` in seconds make it one of variable frame rate.

    ``bidirectional`` frames, which no other refers to, may lie between two others.
    """
    import av

    options = {"movflags": "+faststart"} if faststart and path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(
            "libx264", rate=rate, options={"crf": "12", "preset": "ultrafast", "bf": str(bidirectional)}
        )
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = size[0], size[1], "yuv420p", gop
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 90_000)
        for number in range(1, frames + 1):
            frame = av.VideoFrame.from_ndarray(image(number, size), format="bgr24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number - 1] * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_folder(folder: Path, frames: int = 12) -> Path:
    """The scene as images 1.png to N.png."""
    import cv2

    folder.mkdir()
    for number in range(1, frames + 1):
        cv2.imwrite(str(folder / f"{number}.png"), image(number))
    return folder


def rotated(source: Path, target: Path, quarter_turns: int) -> Path:
    """The video with a header that says it is to be turned clockwise: the matrix in ``tkhd`` is changed."""
    matrix = {
        1: (0, 1, 0, -1, 0, 0, 0, 0, 0x4000),
        2: (-1, 0, 0, 0, -1, 0, 0, 0, 0x4000),
        3: (0, -1, 0, 1, 0, 0, 0, 0, 0x4000),
    }[quarter_turns]
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    values = (value << 16 for value in matrix)
    data[at : at + 36] = b"".join((value & 0xFFFFFFFF).to_bytes(4, "big") for value in values)
    target.write_bytes(bytes(data))
    return target


class BrightDetector:
    """Finds what is bright. Follows :class:`osv_lab.detect.detector.Detector`.

    Args:
        wait_s: Sleeps so long per batch: a slow network.
    """

    ref, task, provider, input_size, class_names = "bright", "detect", "numpy", None, CLASSES

    def __init__(self, wait_s: float = 0.0) -> None:
        self.wait_s = wait_s
        self.batches: list[int] = []

    def describe(self) -> dict[str, Any]:
        return {"ref": self.ref}

    def predict(
        self,
        images: Sequence[Image],
        *,
        confidence: float = 0.25,
        iou: float = 0.7,
        max_detections: int = 300,
        classes: Sequence[str | int] | None = None,
    ) -> list[Any]:
        import cv2

        time.sleep(self.wait_s)
        self.batches.append(len(images))
        found = []
        for picture in images:
            _, _, stats, _ = cv2.connectedComponentsWithStats((picture.max(axis=2) > 128).astype(np.uint8))
            boxes = stats[1:][stats[1:, 4] > 60, :4].astype(np.float32)
            corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
            kinds = [int(picture[int(y + h / 2), int(x + w / 2), 0] > 128) for x, y, w, h in boxes]
            keep = [row for row, kind in enumerate(kinds) if classes is None or CLASSES[kind] in classes]
            kind = np.array(kinds, dtype=int).reshape(-1)[keep]
            scores = np.full(len(keep), 0.9, np.float32) - 0.05 * kind.astype(np.float32)
            found.append(make_detections(corners[keep], scores, kind, CLASSES))
        return found
