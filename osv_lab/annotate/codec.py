"""Between the loop's shapes and tracks and CVAT's JSON, the one place that knows both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from osv_lab.annotate.clips import Place
from osv_lab.annotate.objects import Keyframe, Shape, Track, Value
from osv_lab.annotate.origin import ORIGIN, origin_of, origin_text
from osv_lab.annotate.schema import Schema, Types, fits, from_text, to_text

TYPES = {
    "box": "rectangle",
    "oriented": "rectangle",
    "polygon": "polygon",
    "polyline": "polyline",
    "keypoints": "points",
    "mask": "mask",
}
_USUAL = ("rotation", "occluded", "z_order")
"""What most shapes do not have."""
_KINDS = {"rectangle": "box", "polygon": "polygon", "polyline": "polyline", "points": "keypoints", "mask": "mask"}


def normal(shape: Shape, types: Types) -> Shape:
    """A shape of the dataset with those attributes only that travel: known by name, and of their type."""
    kept = {name: value for name, value in shape.attributes.items() if name in types and fits(value, types[name])}
    return shape if len(kept) == len(shape.attributes) else replace(shape, attributes=kept)


def to_cvat(
    shapes: Iterable[Shape], frames: Mapping[Place, int], schema: Schema, tracks: Iterable[Track] = ()
) -> dict[str, Any]:
    """What CVAT's annotations endpoints take.

    Args:
        shapes: Shapes and tags.
        frames: The frame of the task at each place, from 0.
        schema: The labels as the server has them.
        tracks: Tracks.
    """
    body: dict[str, Any] = {"version": 0, "shapes": [], "tags": [], "tracks": []}
    for shape in shapes:
        one = {
            "frame": frames[shape.sample, shape.frame],
            "label_id": schema.ids[shape.label],
            "group": shape.group,
            "source": shape.source,
            "attributes": _texts_of(shape, schema.specs[shape.label]),
        }
        if shape.kind == "tag":
            body["tags"].append(one)
            continue
        one |= {"type": TYPES[shape.kind], "points": shape.points}
        # What is as the server has it by itself costs it time to look at.
        one |= {name: value for name in _USUAL if (value := getattr(shape, name))}
        body["shapes"].append(one)
    body["tracks"] = [_track_to_cvat(track, schema) for track in tracks]
    return body


def _track_to_cvat(track: Track, schema: Schema) -> dict[str, Any]:
    specs = schema.specs[track.label]
    along = {name: spec for name, spec in specs.items() if schema.attributes[spec]["mutable"]}
    return {
        "frame": track.keyframes[0].frame,
        "label_id": schema.ids[track.label],
        "group": track.group,
        "source": track.source,
        "attributes": _texts_of(track, {name: spec for name, spec in specs.items() if name not in along}),
        "shapes": [
            {
                "type": TYPES[track.kind],
                "frame": one.frame,
                "points": list(one.points),
                "rotation": one.rotation,
                "occluded": one.occluded,
                "outside": one.outside,
                "z_order": one.z_order,
                "attributes": [
                    {"spec_id": along[name], "value": to_text(value)}
                    for name, value in one.attributes.items()
                    if name in along
                ],
            }
            for one in track.keyframes
        ],
    }


def from_cvat(
    answer: Mapping[str, Any],
    places: Sequence[str] | Sequence[Place],
    schema: Schema,
    types: Types,
    job: int | None = None,
) -> tuple[list[Shape], list[str]]:
    """Shapes and tags of a task or a job.

    Args:
        answer: The server's JSON.
        places: The sample of each frame of the task, or of a clip the place.
        schema: The labels as the server has them.
        types: The types of attributes.
        job: CVAT's id of the job that it was read from.

    Returns:
        The shapes, and in words what could not be read.
    """
    found, problems = [], []
    types = schema.types(types)
    for one in (*answer.get("shapes", ()), *answer.get("tags", ())):
        if not 0 <= one["frame"] < len(places):
            problems.append(f"an object on frame {one['frame']}, which the task does not have")
            continue
        place = places[one["frame"]]
        sample, frame = (place, 0) if isinstance(place, str) else place
        (uid, confidence, model), attributes = _read_attributes(one, schema, types, problems)
        kind = "tag" if "type" not in one else _KINDS.get(one["type"], one["type"])
        rotation = float(one.get("rotation") or 0.0)
        found.append(
            Shape(
                uid=uid,
                sample=sample,
                kind="oriented" if kind == "box" and rotation else kind,
                label=schema.names.get(one["label_id"], ""),
                points=tuple(map(float, one.get("points", ()))),
                rotation=rotation,
                attributes=attributes,
                occluded=bool(one.get("occluded")),
                z_order=int(one.get("z_order") or 0),
                group=int(one.get("group") or 0),
                source=one.get("source") or "manual",
                confidence=confidence,
                model=model,
                frame=frame,
                server_id=one["id"],
                job=job,
            )
        )
    return found, problems


def tracks_from_cvat(
    answer: Mapping[str, Any], part: str, schema: Schema, types: Types, job: int
) -> tuple[list[Track], list[str]]:
    """Tracks of a job.

    Args:
        answer: The server's JSON.
        part: The name of the job's part of a clip.
        schema: The labels as the server has them.
        types: The types of attributes.
        job: CVAT's id of the job.

    Returns:
        The tracks, and in words what could not be read.
    """
    found: list[Track] = []
    problems: list[str] = []
    types = schema.types(types)
    for one in answer.get("tracks", ()):
        if not one["shapes"]:
            continue
        kinds = {_KINDS.get(shape["type"], shape["type"]) for shape in one["shapes"]}
        kind = kinds.pop() if len(kinds) == 1 else "track of several shapes"
        turned = any(shape.get("rotation") for shape in one["shapes"])
        (uid, confidence, model), attributes = _read_attributes(one, schema, types, problems)
        keyframes = [
            Keyframe(
                frame=shape["frame"],
                points=tuple(map(float, shape["points"])),
                rotation=float(shape.get("rotation") or 0.0),
                outside=bool(shape.get("outside")),
                occluded=bool(shape.get("occluded")),
                attributes=_read_attributes({"id": one["id"], **shape}, schema, types, problems)[1],
                z_order=int(shape.get("z_order") or 0),
            )
            for shape in sorted(one["shapes"], key=lambda shape: shape["frame"])
        ]
        found.append(
            Track(
                uid=uid,
                sample=part,
                kind="oriented" if kind == "box" and turned else kind,
                label=schema.names.get(one["label_id"], ""),
                keyframes=tuple(keyframes),
                attributes=attributes,
                group=int(one.get("group") or 0),
                source=one.get("source") or "manual",
                confidence=confidence,
                model=model,
                server_id=one["id"],
                job=job,
            )
        )
    return found, problems


def written_ids(answer: Mapping[str, Any], schema: Schema) -> Iterator[tuple[tuple[int, str | None], int]]:
    """Frame and uid of each shape and tag of an answer, with the id that the server gave it."""
    ours = {specs[ORIGIN] for specs in schema.specs.values() if ORIGIN in specs}
    for one in (*answer["shapes"], *answer["tags"]):
        texts = [value["value"] for value in one["attributes"] if value["spec_id"] in ours]
        yield (one["frame"], origin_of(texts[0])[0] if texts else None), one["id"]


def _read_attributes(
    one: Mapping[str, Any], schema: Schema, types: Types, problems: list[str]
) -> tuple[tuple[str | None, float | None, str | None], dict[str, Value]]:
    """What the object's attribute of ours says, and the values of the others."""
    texts = {
        schema.attributes[value["spec_id"]]["name"]: value["value"]
        for value in one.get("attributes", ())
        if value["spec_id"] in schema.attributes
    }
    attributes: dict[str, Value] = {}
    for name, text in texts.items():
        if name != ORIGIN:
            value = from_text(text, types[name])
            if value is not None:
                attributes[name] = value
            elif text:
                problems.append(f"attribute '{name}' of object {one['id']}: {text!r} is no {types[name]}")
    return origin_of(texts.get(ORIGIN, "")), attributes


def _texts_of(one: Shape | Track, specs: Mapping[str, int]) -> list[dict[str, Any]]:
    values = {name: to_text(value) for name, value in one.attributes.items() if name in specs}
    values[ORIGIN] = origin_text(one.uid, one.confidence, one.model)
    return [{"spec_id": specs[name], "value": text} for name, text in values.items() if name in specs]
