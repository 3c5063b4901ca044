"""What is remembered of a run: who, what and where, and the objects as both sides last agreed on them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from osv_lab.annotate.objects import Annotations, Shape
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

    def task_name(self, dataset: str) -> str:
        """The task's name on the server."""
        return f"{dataset[:120]} / {self.key[:80]} [osv:{self.uid}]"


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
        values["samples"], values["classes"] = tuple(values["samples"]), tuple(values["classes"])
        values["sizes"] = tuple((width, height) for width, height in values["sizes"])
        values["types"] = {one["name"]: one["type"] for one in values["types"]}
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
        # Attribute names may hold dots and dollars, which MongoDB's keys should not.
        values["types"] = [{"name": name, "type": kind} for name, kind in run.types.items()]
        self._store.put(run.key, values)

    def put_counts(self, key: str, counted: Mapping[str, Any]) -> None:
        """Write the last counts, unless the run was forgotten meanwhile."""
        self._store.put(key, {"counted": dict(counted)}, make=False)

    def remove(self, key: str) -> None:
        """Forget a run."""
        self._store.remove(key)

    def base(self, key: str) -> Annotations:
        """The objects as both sides last agreed on them."""
        shapes = [
            Shape.from_dict({**one, "attributes": {item["name"]: item["value"] for item in one["attributes"]}})
            for _, objects in self._store.base(key)
            for one in objects
        ]
        return Annotations(tuple(shapes))

    def put_base(self, key: str, shapes: Iterable[Shape], samples: Iterable[str]) -> None:
        """Write the objects of some samples, all of those samples."""
        objects: dict[str, list[dict[str, Any]]] = {sample: [] for sample in samples}
        for shape in shapes:
            one = shape.to_dict()
            one["attributes"] = [{"name": name, "value": value} for name, value in shape.attributes.items()]
            objects.setdefault(shape.sample, []).append(one)
        self._store.put_base(key, objects)

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """One process of this lab sends, pulls or cancels a key at a time; a killed one blocks nobody."""
        with changing_alone(f"annotation {self._name} {key}"):
            yield
