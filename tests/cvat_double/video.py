"""Videos: which of their frames are the task's, and tracks as a server keeps them.

A task of a video has one file and as many frames as were asked for with ``start_frame``, ``stop_frame`` and
``frame_filter``; an object's frame is the place among these.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import cv2

from cvat_double.state import Frame, Label, Window

SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".webm")


class NoVideoError(Exception):
    """A file cannot be decoded."""


def is_video(names: list[str]) -> bool:
    return len(names) == 1 and names[0].lower().endswith(SUFFIXES)


def read_video(name: str, content: bytes, asked: dict[str, Any]) -> tuple[list[Frame], Window]:
    """One entry per frame of the task, and which frames of the video they are."""
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as file:
        file.write(content)
        file.flush()
        capture = cv2.VideoCapture(file.name)
        count = 0
        while capture.isOpened() and capture.grab():
            count += 1
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        capture.release()
    if not count:
        raise NoVideoError("av.error.InvalidDataError: Invalid data found when processing input")
    step = int((re.search(r"step=(\d+)", asked.get("frame_filter") or "") or ["", "1"])[1])
    first = asked.get("start_frame") or 0
    # A last frame of 0 is none at all.
    last = min(asked.get("stop_frame") or count - 1, count - 1)
    numbers = range(first, last + 1, step)
    if not numbers:
        raise NoVideoError("ValueError: range() arg 3 must not be zero")
    return [Frame(name, *size)] * len(numbers), Window(first, numbers[-1], step)


def with_first_frame(track: dict[str, Any]) -> dict[str, Any]:
    """A track begins with its first keyframe; one that says that it begins earlier is out of sight until then."""
    keyframes = sorted(track["shapes"], key=lambda keyframe: keyframe["frame"])
    first = keyframes[0]
    if track["frame"] < first["frame"]:
        hidden = {**first, "frame": track["frame"], "outside": True}
        hidden.pop("id", None)
        keyframes = [hidden, *keyframes]
    return {**track, "frame": keyframes[0]["frame"], "shapes": keyframes}


def shown_track(label: Label, track: dict[str, Any]) -> dict[str, Any]:
    """A track with all its attributes: what changes along it holds from each keyframe to the next."""
    fixed = {value["spec_id"]: value["value"] for value in track["attributes"]}
    values = {spec["id"]: spec["default_value"] for spec in label.attributes if spec["mutable"]}
    keyframes = []
    for keyframe in track["shapes"]:
        values = {**values, **{value["spec_id"]: value["value"] for value in keyframe["attributes"]}}
        keyframes.append({**keyframe, "attributes": _listed(values)})
    of_all = {
        spec["id"]: fixed.get(spec["id"], spec["default_value"])
        for spec in label.attributes
        if not spec["mutable"]
    }
    return {**track, "attributes": _listed(of_all), "shapes": keyframes}


def _listed(values: dict[int, str]) -> list[dict[str, Any]]:
    return [{"spec_id": spec, "value": value} for spec, value in values.items()]
