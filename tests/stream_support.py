"""What the tests of streams and sources share."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import cv2
import numpy as np
from websockets.sync.client import ClientConnection, connect

from osv_lab.serve.run import ServerHandle

Result = TypeVar("Result")


def png(level: int = 200, size: tuple[int, int] = (64, 64)) -> bytes:
    """A plain image; the tiny model finds one lamp in it, as sure as it is bright."""
    return cv2.imencode(".png", np.full((size[1], size[0], 3), level, np.uint8))[1].tobytes()


def open_stream(server: ServerHandle, path: str = "/stream", **options: Any) -> ClientConnection:
    """A connection as any WebSocket library makes it."""
    return connect("ws" + server.url.removeprefix("http") + path, proxy=None, **options)


def heard(connection: ClientConnection) -> dict[str, Any]:
    """The next answer."""
    answer: dict[str, Any] = json.loads(connection.recv(timeout=30))
    return answer


def in_thread(work: Callable[[], Result]) -> Result:
    """Run work that has an event loop of its own away from the one of the browser tests."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


class SlowDetector:
    """The tiny model's answer, given when the test lets it."""

    ref, task, class_names, provider, input_size = "slow", "detect", ("lamp", "cat"), "test", None

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.busy = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()

    def predict(self, images: list[np.ndarray], **options: Any) -> list[Any]:
        from osv_lab.detect.detector import make_detections

        found = []
        for image in images:
            self.seen.append(int(image[0, 0, 0]))
            self.busy.release()
            assert self.go.wait(30)
            box = np.array([[22, 22, 42, 42]], np.float32)
            found.append(make_detections(box, np.array([0.8]), np.array([0]), self.class_names))
        return found

    def describe(self) -> dict[str, Any]:
        return {"ref": self.ref, "engine": "test", "digest": None}
