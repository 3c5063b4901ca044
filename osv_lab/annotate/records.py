"""What is remembered of a run: who, what and where, and the objects as both sides last agreed on them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from osv_lab.annotate.clips import Clip, Place
from osv_lab.annotate.objects import Annotations, Shape, Track
from osv_lab.core.errors import NotFoundError, nearest
from osv_lab.store.annotation_store import RunStore
from osv_lab.store.schema import changing_alone

if TYPE_CHECKING:
    import fiftyone as fo

Phase = Literal["sending", "sent", "cancelling"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run: the samples sent under a key.

    Attributes:
        key: Its name within the dataset.
        uid: Random; part of the task's name on the server, so that a task is found of which we never learnt the id.
        phase: ``sending`` from before the first call to the server until all is there and verified; then ``sent``.
        url: The server. Credentials are never kept.
        organization: The organisation there.
        field: The label field.
        container: Its FiftyOne class.
        project: CVAT's id of the project, ``None`` until it is known.
        task: CVAT's id of the task, ``None`` until it is known.
        samples: Sample ids; the index of each is its frame.
        sizes: Width and height of each in pixels.
        classes: The classes that were sent.
        chosen: Whether the classes were chosen, so that labels of others are none of this run's business.
        types: Attribute types by name.
        made_by: The model that made the labels of the field, if one did.
        counted: The last counts, with the time of the server's last change.
        done: Which jobs a pull takes, unless it is told otherwise.
        reviewers: User names of those who look at finished jobs.
        jobs: The jobs as they were last seen: id, assignee, first and last frame, stage, state.
        pulled: When it was last pulled (ISO 8601, UTC), ``""`` for never.
        made_project: Whether this run made its project on the server.
        clips: The clips, each of which is a task of its own; none for images, which are one task.
    """

    key: str
    uid: str
    phase: Phase
    url: str
    organization: str
    field: str
    container: str
    project: int | None = None
    task: int | None = None
    samples: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    classes: tuple[str, ...] = ()
    chosen: bool = False
    types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    made_by: str | None = None
    counted: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    done: str = "completed"
    reviewers: tuple[str, ...] = ()
    jobs: tuple[Mapping[str, Any], ...] = ()
    pulled: str = ""
    made_project: bool = False
    clips: tuple[Clip, ...] = ()

    @property
    def tasks(self) -> tuple[int, ...]:
        """CVAT's ids of the tasks, as far as they are known."""
        tasks = [clip.task for clip in self.clips] or [self.task]
        return tuple(task for task in tasks if task is not None)

    @property
    def owners(self) -> dict[str, str]:
        """What the tracks of each sample belong to: the video, or the sequence; none without clips."""
        return {sample: clip.name for clip in self.clips for sample in clip.samples}

    def task_name(self, dataset: str, clip: str = "") -> str:
        """The name of a task on the server."""
        return " / ".join(filter(None, (dataset[:100], self.key[:60], clip[:40]))) + f" [osv:{self.uid}]"


class Runs:
    """The runs of a dataset."""

    def __init__(self, dataset: fo.Dataset) -> None:
        self._store = RunStore(dataset)
        self._name = dataset.name

    def names(self) -> list[str]:
        """The keys of all runs, the oldest first."""
        return self._store.keys()

    def find(self, key: str) -> Run | None:
        """A run, or ``None``."""
        found = self._store.get(key)
        if found is None:
            return None
        known = {spec.name for spec in fields(Run)}
        values = {name: value for name, value in found.items() if name in known}
        for name in ("samples", "classes", "reviewers", "jobs"):
            values[name] = tuple(values.get(name) or ())
        values["sizes"] = tuple((width, height) for width, height in values["sizes"])
        values["types"] = {one["name"]: one["type"] for one in values["types"]}
        values["clips"] = tuple(map(Clip.from_dict, values.get("clips") or ()))
        return Run(**values)

    def get(self, key: str) -> Run:
        """A run.

        Raises:
            NotFoundError: there is none under this key.
        """
        found = self.find(key)
        if found is None:
            keys = self.names()
            raise NotFoundError(
                "nothing was sent under this key", repr(key), nearest(key, keys) if keys else "send first"
            )
        return found

    def put(self, run: Run) -> None:
        """Write a run."""
        values = asdict(run)
        values["types"] = [{"name": name, "type": kind} for name, kind in run.types.items()]
        self._store.put(run.key, values)

    def put_some(self, key: str, **values: Any) -> None:
        """Write some values of a run, unless it was forgotten meanwhile."""
        self._store.put(key, values, make=False)

    def remove(self, key: str) -> None:
        """Forget a run."""
        self._store.remove(key)

    def base(self, key: str) -> Annotations:
        """The objects as both sides last agreed on them."""
        return Annotations(tuple(shape_from(one) for _, objects in self._store.base(key) for one in objects))

    def put_base(self, key: str, shapes: Iterable[Shape], places: Iterable[str]) -> None:
        """Write the objects of some places, all of those places."""
        self._store.put_base(key, _by_place(shapes, places))

    def tracks(self, key: str, part: str) -> list[Track]:
        """The tracks of a job as both sides last agreed on them."""
        return [_track_from(one) for some in self._store.part(key, f"tracks {part}").values() for one in some]

    def put_tracks(self, key: str, part: str, tracks: Iterable[Track]) -> None:
        """Write the tracks of a job, all of them."""
        documents = {str(track.uid): [_track_document(track)] for track in tracks}
        self._store.put_part(key, f"tracks {part}", documents, alone=True)

    def sent(self, key: str) -> Annotations:
        """The objects as they were sent."""
        found = self._store.part(key, "sent").values()
        return Annotations(tuple(shape_from(one) for some in found for one in some))

    def put_sent(self, key: str, shapes: Iterable[Shape], places: Iterable[str]) -> None:
        """Keep the objects as they were sent."""
        self._store.put_part(key, "sent", _by_place(shapes, places))

    def returned(self, key: str) -> dict[tuple[int, str], tuple[Shape, ...]]:
        """The objects of finished jobs as they were last pulled, by job and :func:`place_name`."""
        found = {}
        for name, some in self._store.part(key, "returned").items():
            job, _, place = name.partition(" ")
            found[int(job), place] = tuple(map(shape_from, some))
        return found

    def put_returned(self, key: str, shapes: Iterable[Shape], places: Iterable[tuple[int, Place]]) -> None:
        """Keep the objects of some jobs and places, all of those."""
        objects: dict[str, list[dict[str, Any]]] = {f"{job} {place_name(*place)}": [] for job, place in places}
        for shape in shapes:
            name = f"{shape.job} {place_name(shape.sample, shape.frame)}"
            objects.setdefault(name, []).append(shape_document(shape))
        self._store.put_part(key, "returned", objects)

    def documents(self, key: str, part: str) -> dict[str, dict[str, Any]]:
        """Documents that were kept of a run, by name."""
        return {name: one for name, (one,) in self._store.part(key, part).items()}

    def put_documents(self, key: str, part: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep these documents, and no others of the part."""
        self._store.put_part(key, part, {name: [dict(one)] for name, one in documents.items()}, alone=True)

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """One process of this lab sends, pulls or cancels a key at a time; a killed one blocks nobody."""
        with changing_alone(f"annotation {self._name} {key}"):
            yield


def place_name(sample: str, frame: int) -> str:
    """What the objects of a sample, or of a frame of a video, are kept under."""
    return f"{sample} {frame}" if frame else sample


def shape_document(shape: Shape) -> dict[str, Any]:
    """A shape as the database keeps it."""
    return {**shape.to_dict(), "attributes": _listed(shape.attributes)}


def shape_from(one: Mapping[str, Any]) -> Shape:
    """The inverse of :func:`shape_document`."""
    return Shape.from_dict({**one, "attributes": _mapped(one["attributes"])})


def _track_document(track: Track) -> dict[str, Any]:
    keyframes = [{**one.to_dict(), "attributes": _listed(one.attributes)} for one in track.keyframes]
    return {**track.to_dict(), "attributes": _listed(track.attributes), "keyframes": keyframes}


def _track_from(one: Mapping[str, Any]) -> Track:
    keyframes = [{**keyframe, "attributes": _mapped(keyframe["attributes"])} for keyframe in one["keyframes"]]
    return Track.from_dict({**one, "attributes": _mapped(one["attributes"]), "keyframes": keyframes})


def _listed(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    # Names may hold dots and dollars, which MongoDB's keys should not.
    return [{"name": name, "value": value} for name, value in attributes.items()]


def _mapped(attributes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {item["name"]: item["value"] for item in attributes}


def _by_place(shapes: Iterable[Shape], places: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    objects: dict[str, list[dict[str, Any]]] = {place: [] for place in places}
    for shape in shapes:
        objects.setdefault(place_name(shape.sample, shape.frame), []).append(shape_document(shape))
    return objects
