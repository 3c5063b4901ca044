"""Between the loop's shapes and CVAT's JSON, the one place that knows both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from osv_lab.annotate.objects import Shape, Value
from osv_lab.annotate.schema import CONFIDENCE, MODEL, OURS, UID, Schema, Types, fits, from_text, to_text

TYPES = {
    "box": "rectangle",
    "oriented": "rectangle",
    "polygon": "polygon",
    "polyline": "polyline",
    "keypoints": "points",
    "mask": "mask",
}
_KINDS = {"rectangle": "box", "polygon": "polygon", "polyline": "polyline", "points": "keypoints", "mask": "mask"}


def normal(shape: Shape, types: Types) -> Shape:
    """A shape of the dataset with those attributes only that travel: known by name, and of their type."""
    kept = {name: value for name, value in shape.attributes.items() if name in types and fits(value, types[name])}
    return shape if len(kept) == len(shape.attributes) else replace(shape, attributes=kept)


def to_cvat(shapes: Iterable[Shape], frames: Mapping[str, int], schema: Schema) -> dict[str, Any]:
    """What CVAT's annotations endpoints take.

    Args:
        shapes: Shapes and tags.
        frames: The frame of each sample, from 0.
        schema: The labels as the server has them.
    """
    body: dict[str, Any] = {"version": 0, "shapes": [], "tags": [], "tracks": []}
    for shape in shapes:
        one = {
            "frame": frames[shape.sample],
            "label_id": schema.ids[shape.label],
            "group": shape.group,
            "source": shape.source,
            "attributes": _attributes(shape, schema.specs[shape.label]),
        }
        if shape.kind == "tag":
            body["tags"].append(one)
            continue
        one |= {
            "type": TYPES[shape.kind],
            "points": list(shape.points),
            "rotation": shape.rotation,
            "occluded": shape.occluded,
            "outside": False,
            "z_order": shape.z_order,
        }
        body["shapes"].append(one)
    return body


def from_cvat(
    answer: Mapping[str, Any], samples: Sequence[str], schema: Schema, types: Types, job: int | None = None
) -> tuple[list[Shape], list[str]]:
    """Shapes and tags of a task or a job.

    Args:
        answer: The server's JSON.
        samples: The sample of each frame.
        schema: The labels as the server has them.
        types: The types of attributes.
        job: CVAT's id of the job that it was read from.

    Returns:
        The shapes, and in words what could not be read.
    """
    found, problems = [], []
    types = schema.types(types)
    for one in (*answer.get("shapes", ()), *answer.get("tags", ())):
        if not 0 <= one["frame"] < len(samples):
            problems.append(f"an object on frame {one['frame']}, which the task does not have")
            continue
        texts = {
            schema.attributes[value["spec_id"]]["name"]: value["value"]
            for value in one.get("attributes", ())
            if value["spec_id"] in schema.attributes
        }
        attributes: dict[str, Value] = {}
        for name, text in texts.items():
            if name not in OURS:
                value = from_text(text, types[name])
                if value is not None:
                    attributes[name] = value
                elif text:
                    problems.append(f"attribute '{name}' of object {one['id']}: {text!r} is no {types[name]}")
        kind = "tag" if "type" not in one else _KINDS.get(one["type"], one["type"])
        rotation = float(one.get("rotation") or 0.0)
        confidence = from_text(texts.get(CONFIDENCE) or "", "float")
        found.append(
            Shape(
                uid=texts.get(UID) or None,
                sample=samples[one["frame"]],
                kind="oriented" if kind == "box" and rotation else kind,
                label=schema.names.get(one["label_id"], ""),
                points=tuple(map(float, one.get("points", ()))),
                rotation=rotation,
                attributes=attributes,
                occluded=bool(one.get("occluded")),
                z_order=int(one.get("z_order") or 0),
                group=int(one.get("group") or 0),
                source=one.get("source") or "manual",
                confidence=confidence if isinstance(confidence, float) and math.isfinite(confidence) else None,
                model=texts.get(MODEL) or None,
                server_id=one["id"],
                job=job,
            )
        )
    return found, problems


def _attributes(shape: Shape, specs: Mapping[str, int]) -> list[dict[str, Any]]:
    values = {name: to_text(value) for name, value in shape.attributes.items() if name in specs}
    values[UID] = shape.uid or ""
    if shape.confidence is not None:
        values[CONFIDENCE] = to_text(shape.confidence)
    if shape.model:
        values[MODEL] = shape.model[:4096]
    return [{"spec_id": specs[name], "value": text} for name, text in values.items() if name in specs]
