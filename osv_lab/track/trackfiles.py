"""Files of tracks: MOTChallenge text, COCO for video, plain JSON. Written in parts, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.files import atomic_path
from osv_lab.core.report import plain
from osv_lab.track.mot import mot_lines
from osv_lab.track.result import TrackResult, track_classes, track_rows
from osv_lab.track.spool import Rows, chunks
from osv_lab.track.writer import SUFFIXES

FORMATS: Mapping[str, str] = {"video": ".mp4", "mot": ".txt", "coco": ".coco.json", "json": ".json"}
"""What can be written, and the suffix it gets."""


def plan_outputs(
    output: str | Path | Sequence[str | Path] | None, formats: Sequence[str] | None, stem: str
) -> dict[str, Path]:
    """Which file each format goes to.

    Args:
        output: A file whose suffix says the format (several of them), or a folder (made if need be).
        formats: Further formats, beside the first file; in a folder all of them (default: video and MOT).
        stem: The name of files in a folder.

    Raises:
        UsageError: a suffix or format that is not written, or two files of one format.

    Example:
        >>> {kind: path.as_posix() for kind, path in plan_outputs("out/a.mp4", ["mot"], "x").items()}
        {'video': 'out/a.mp4', 'mot': 'out/a.txt'}
    """
    for kind in formats or ():
        if kind not in FORMATS:
            raise UsageError("unknown format", repr(kind), nearest(kind, FORMATS))
    if output is None:
        if formats:
            raise UsageError("formats without an output", ", ".join(formats), "say where to write")
        return {}
    given = [Path(output)] if isinstance(output, str | Path) else [Path(path) for path in output]
    plan: dict[str, Path] = {}
    for path in given:
        if path.suffix == "" or path.is_dir():
            wanted = formats or ("video", "mot")
            plan |= {kind: path / f"{stem}{FORMATS[kind]}" for kind in wanted}
            continue
        kind = _format_of(path)
        if kind in plan:
            raise UsageError("two files of one format", f"{plan[kind]} and {path}", "give one of each")
        plan[kind] = path
    for kind in formats or ():
        beside = given[0].with_name(_stem(given[0]) + FORMATS[kind])
        plan.setdefault(kind, beside)
    return plan


def _format_of(path: Path) -> str:
    name = path.name.lower()
    if path.suffix.lower() in SUFFIXES:
        return "video"
    for kind in ("coco", "mot", "json"):
        if name.endswith(FORMATS[kind]):
            return kind
    known = ", ".join((*SUFFIXES, *(suffix for kind, suffix in FORMATS.items() if kind != "video")))
    raise UsageError("no format for this suffix", str(path), f"use one of: {known}, or a folder")


def _stem(path: Path) -> str:
    return path.name[: -len(FORMATS["coco"])] if path.name.lower().endswith(FORMATS["coco"]) else path.stem


def write_mot(path: Path, result: TrackResult) -> None:
    """A MOTChallenge result file; it has no classes."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for part in chunks(result.boxes):
            file.write(mot_lines(track_rows(part)))


def write_coco(path: Path, result: TrackResult, moments: Rows) -> None:
    """COCO for video, as TAO and MMTracking read it.

    ``videos``, ``images`` with ``video_id`` and ``frame_id`` (from 0), ``tracks``, ``annotations`` with ``track_id``
    and ``instance_id``, ``categories`` with ids from 1.
    """
    width, height = result.size
    class_of = {item.track_id: item.class_id for item in result.identities}
    used = sorted(set(class_of.values()))
    names = dict(enumerate(result.class_names))
    video = {"id": 1, "name": result.source, "width": width, "height": height, "fps": result.frame_rate}

    def images() -> Iterator[dict[str, Any]]:
        for part in chunks(moments):
            for number, timestamp in part.tolist():
                yield {
                    "id": number,
                    "video_id": 1,
                    "frame_id": number - 1,
                    "file_name": f"{number:06d}.jpg",
                    "width": width,
                    "height": height,
                    "timestamp_s": round(timestamp, 6),
                }

    def annotations() -> Iterator[dict[str, Any]]:
        count = 0
        for part in chunks(result.boxes):
            kinds = track_classes(part["track_id"], class_of).tolist()
            corners = part["xyxy"].astype(np.float64)
            size = corners[:, 2:] - corners[:, :2]
            boxes = np.concatenate((corners[:, :2], size), axis=1).round(3).tolist()
            areas = size.prod(axis=1).round(3).tolist()
            scores = part["confidence"].astype(np.float64).round(6).tolist()
            for row, (frame, identity) in enumerate(part[["frame", "track_id"]].tolist()):
                count += 1
                yield {
                    "id": count,
                    "image_id": frame,
                    "video_id": 1,
                    "category_id": kinds[row] + 1,
                    "track_id": identity,
                    "instance_id": identity,
                    "bbox": boxes[row],
                    "area": areas[row],
                    "iscrowd": 0,
                    "score": scores[row],
                }

    tracks = ({"id": k, "category_id": kind + 1, "video_id": 1} for k, kind in class_of.items())
    categories = ({"id": kind + 1, "name": names.get(kind, str(kind))} for kind in used)
    _write_json(
        path,
        {
            "videos": iter([video]),
            "images": images(),
            "tracks": tracks,
            "annotations": annotations(),
            "categories": categories,
        },
    )


def write_json(path: Path, result: TrackResult, moments: Rows) -> None:
    """One entry per frame with its objects, then the tracks, counts and events."""
    class_of = {item.track_id: item.class_name for item in result.identities}

    def frames() -> Iterator[dict[str, Any]]:
        boxes = result.boxes
        at = 0
        for part in chunks(moments):
            # Rows are in the order of frames, so that one search finds each frame's.
            ends = np.searchsorted(boxes["frame"], part["frame"], side="right").tolist()
            for (number, timestamp), end in zip(part.tolist(), ends, strict=True):
                objects = [
                    {
                        "id": identity,
                        "class": class_of[identity],
                        "confidence": round(confidence, 6),
                        "xyxy": [round(value, 3) for value in corners],
                    }
                    for _, identity, _, confidence, corners in (
                        (*row[:4], row[4].tolist()) for row in np.array(boxes[at:end]).tolist()
                    )
                ]
                at = end
                yield {"frame": number, "timestamp_s": round(timestamp, 6), "objects": objects}

    said = {
        name: value for name, value in result.to_dict().items() if name not in ("files", "seconds", "resumed_at")
    }
    _write_json(path, {**said, "frame_list": frames()})


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    """A JSON object whose iterators become lists, one element per line, without being held."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("{")
        for position, (name, value) in enumerate(document.items()):
            file.write(f"{',' if position else ''}\n{json.dumps(name)}: ")
            if not isinstance(value, Iterator):
                file.write(json.dumps(plain(value), ensure_ascii=False))
                continue
            file.write("[")
            for index, item in enumerate(value):
                file.write(("," if index else "") + "\n" + json.dumps(item, ensure_ascii=False))
            file.write("]")
        file.write("\n}\n")
