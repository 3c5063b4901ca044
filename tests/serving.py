"""What tests of a server on loopback share: images for the tiny model, a request, a look at the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from osv_lab.serve.run import ServerHandle

# The tiny model is as sure as an image is bright, its grey bars included; the threshold is 0.25.
NEAR, SURE, NOTHING = 60, 204, 20


def score(level: int) -> float:
    """Of 64 rows that the network sees of an image of 96 by 64 pixels, 43 are the image, the others grey 114."""
    return (43 * level + 21 * 114) / 64 / 255


def png(level: int, number: int = 0) -> bytes:
    """A plain image of 96 by 64 pixels; its number is in one corner, where it changes nothing else."""
    pixels = np.full((64, 96, 3), level, np.uint8)
    pixels[0, 0] = number % 256, number // 256, 0
    return cv2.imencode(".png", pixels)[1].tobytes()


def ask(server: ServerHandle, image: bytes, **query: Any) -> httpx.Response:
    headers = {"Content-Type": "image/png"}
    answer = httpx.post(f"{server.url}/predict", content=image, headers=headers, params=query, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def measured(server: ServerHandle, **headers: str) -> dict[str, float]:
    answer = httpx.get(f"{server.url}/metrics", trust_env=False, headers=headers)
    return {
        sample.name + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def observed(server: ServerHandle) -> float:
    return measured(server)["osv_observations_total|observed"]
