"""What is on a task's frames, job by job, and which of it a detector wrote and nobody has touched since."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from osv_lab.annotate.connection import Connection
from osv_lab.core.digests import value_digest

Place = tuple[int, int]
"""A job and a frame of it."""
OPEN = ("new", "in progress")
"""States of jobs at the stage of annotation that nobody has finished."""


@dataclass(slots=True)
class TaskShapes:
    """The objects of a task, as CVAT describes them.

    Attributes:
        jobs: The annotation jobs by id.
        objects: Shapes and tags by job and frame.
        tracked: Places that tracks cover.
    """

    jobs: dict[int, Mapping[str, Any]]
    objects: dict[Place, list[tuple[str, Mapping[str, Any]]]] = field(default_factory=lambda: defaultdict(list))
    tracked: set[Place] = field(default_factory=set)

    @classmethod
    def read(cls, cvat: Connection, task: int) -> TaskShapes:
        """One call for the jobs and one for each of them."""
        jobs = [job for job in cvat.pages("/api/jobs", {"task_id": task}) if job["type"] == "annotation"]
        found = cls({job["id"]: job for job in sorted(jobs, key=lambda job: job["id"])})
        for number, job in found.jobs.items():
            answer = cvat.get(f"/api/jobs/{number}/annotations")
            for kind in ("shapes", "tags"):
                for one in answer[kind]:
                    found.objects[number, one["frame"]].append((kind, one))
            for track in answer["tracks"]:
                found.tracked.update((number, frame) for frame in range(track["frame"], job["stop_frame"] + 1))
        return found

    def digests(self, place: Place) -> list[str]:
        """What lies at a place, so that any change of it shows."""
        return sorted(object_digest(kind, one) for kind, one in self.objects.get(place, ()))

    def is_open(self, place: Place) -> bool:
        """Whether nobody has finished the frame."""
        job = self.jobs[place[0]]
        return job["stage"] == "annotation" and job["state"] in OPEN

    def places(self) -> list[Place]:
        """All jobs' frames."""
        return [
            (number, frame)
            for number, job in self.jobs.items()
            for frame in range(job["start_frame"], job["stop_frame"] + 1)
        ]


def object_digest(kind: str, one: Mapping[str, Any]) -> str:
    """What an object says, attributes included; not its id."""
    said = {name: value for name, value in one.items() if name not in ("id", "source", "attributes", "elements")}
    said["points"] = [round(value, 3) for value in one.get("points", ())]
    said["attributes"] = sorted((value["spec_id"], value["value"]) for value in one.get("attributes", ()))
    return value_digest(json.dumps([kind, said], sort_keys=True))[:16]


def place_digest(kind: str, one: Mapping[str, Any]) -> str:
    """Only what was written of an object: where it is and its class. By this, shapes are found again of which it was
    never read back how the server has them."""
    points = [round(float(value), 3) for value in one.get("points", ())]
    said = [kind, one["frame"], one["label_id"], one.get("type", ""), points, float(one.get("rotation") or 0)]
    return value_digest(json.dumps(said))[:16]


def body_of(objects: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Objects as the annotations endpoints take them."""
    body: dict[str, Any] = {"version": 0, "shapes": [], "tags": [], "tracks": []}
    for kind, one in objects:
        body[kind].append({name: value for name, value in one.items() if value is not None})
    return body


def split(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects of a body, each with its kind."""
    return [(kind, one) for kind in ("shapes", "tags") for one in found[kind]]
