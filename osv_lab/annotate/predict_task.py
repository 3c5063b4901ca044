"""A detector labels a task on the CVAT server, and only where no person's work is.

It writes to frames that nobody has labelled, in jobs that nobody has finished, and replaces nothing but what it wrote
itself and what nobody has touched since. A frame where a person deleted a proposal, or one of all, is theirs. What it
writes is recorded before it is written and read back afterwards; so a killed run is repeated, and doubles nothing.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.codec import to_cvat
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.cvat_function import proposed_shapes
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.records import Runs
from osv_lab.annotate.rules import Rules
from osv_lab.annotate.schema import Schema
from osv_lab.annotate.target import Target
from osv_lab.annotate.task_shapes import Place, TaskShapes, body_of, object_digest, place_digest, split
from osv_lab.core.errors import NotFoundError, OsvError, UnavailableError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.store.predict import DecodedImage, decoded_images, found_in

if TYPE_CHECKING:
    import fiftyone as fo

    from osv_lab.detect.detector import Detector

BATCH = 8
WRITE = 5000
"""Objects per write."""
PART = "predicted"


@dataclass(frozen=True)
class TaskPredictions(Report):
    """What a detector did to a task.

    Attributes:
        task: CVAT's id.
        model: The reference of the detector.
        frames: Frames that were labelled now.
        objects: Objects written, by label.
        replaced: Earlier proposals that were taken away for them.
        left: Frames that were left as they are, by reason.
        unknown: Labels that the task does not have; detections of these were left out.
        problems: One entry per image that could not be labelled.
    """

    task: int
    model: str
    frames: int
    objects: Mapping[str, int]
    replaced: int
    left: Mapping[str, int]
    unknown: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per label, then one per reason."""
        found: list[Mapping[str, Any]] = [{"what": name, "objects": count} for name, count in self.objects.items()]
        return [*found, *({"what": reason, "frames left": count} for reason, count in self.left.items())]

    def summary(self) -> str:
        """One line."""
        left = (
            "; left: " + ", ".join(f"{count} {reason}" for reason, count in self.left.items()) if self.left else ""
        )
        replaced = f" in place of {self.replaced:,} earlier ones" if self.replaced else ""
        unknown = f"; the task has no label {', '.join(self.unknown)}" if self.unknown else ""
        failed = f"; {len(self.problems)} images failed: {self.problems[0]}" if self.problems else ""
        return (
            f"task {self.task}: {sum(self.objects.values()):,} objects on {self.frames:,} frames{replaced}"
            f"{left}{unknown}{failed}"
        )


def predict_task(
    cvat: Connection,
    dataset: fo.Dataset,
    target: Target,
    detector: Detector,
    rules: Rules,
    progress: Progress = silent,
) -> TaskPredictions:
    """Label a task; see :meth:`osv_lab.annotate.AnnotationLoop.annotate_task`.

    Args:
        cvat: The server.
        dataset: Where it is recorded what was written.
        target: The task.
        detector: What finds the objects.
        rules: How its detections become labels.
        progress: Told about images.
    """
    runs = Runs(dataset)
    with runs.alone(target.record):
        return _Labelling(cvat, runs, target.record, target.task, detector, rules, target.files, progress).run()


class _Labelling:
    def __init__(
        self,
        cvat: Connection,
        runs: Runs,
        name: str,
        task: int,
        detector: Detector,
        rules: Rules,
        files: Mapping[int, str],
        progress: Progress,
    ) -> None:
        self._cvat, self._runs, self._name, self._task = cvat, runs, name, task
        self._detector, self._rules, self._files, self._progress = detector, rules, files, progress
        self._key, _ = rules.identity(detector)
        self._left: Counter[str] = Counter()
        self._problems: list[str] = []
        self._schema = Schema({}, {}, {})

    def run(self) -> TaskPredictions:
        """Look, infer, look again, write, read back."""
        cvat, task = self._cvat, self._task
        found = cvat.get(f"/api/tasks/{task}")
        if found.get("mode") == "interpolation":
            raise UsageError("only tasks of images can be labelled", f"task {task} is a video", "track it instead")
        meta = cvat.get(f"/api/tasks/{task}/data/meta")
        self._schema = Schema.of(cvat.pages("/api/labels", {"task_id": task}))
        unknown = tuple(name for name in self._rules.labels if name not in self._schema.ids)
        if len(unknown) == len(self._rules.labels):
            raise NotFoundError(
                "the task has none of the labels", ", ".join(unknown), "give an ontology of its labels"
            )
        before = TaskShapes.read(cvat, task)
        written = self._recorded(before)
        todo = self._todo(before, written, set(meta.get("deleted_frames") or ()))
        shapes = self._infer({frame for _, frame in todo}, meta["frames"])
        return self._write(
            before, {place: shapes[place[1]] for place in todo if place[1] in shapes}, written, unknown
        )

    def _recorded(self, there: TaskShapes) -> dict[Place, dict[str, Any]]:
        """What was written by earlier runs, and by one that was killed before it read back what it wrote."""
        found: dict[Place, dict[str, Any]] = {}
        for name, one in self._runs.documents(self._name, PART).items():
            job, frame = map(int, name.split(" "))
            place = job, frame
            if one["read_back"]:
                found[place] = one
                continue
            here = [place_digest(kind, thing) for kind, thing in there.objects.get(place, ())]
            if sorted(here) == sorted(one["digests"]):
                found[place] = {**one, "read_back": True, "digests": there.digests(place)}
            elif sorted(here) == sorted(one["before"]):
                # It was killed before it wrote here.
                found[place] = {**one, "key": "", "read_back": True, "digests": there.digests(place)}
        return found

    def _todo(
        self, there: TaskShapes, written: Mapping[Place, Mapping[str, Any]], deleted: set[int]
    ) -> list[Place]:
        reasons: dict[Place, str] = {}
        for place in there.places():
            own = written.get(place)
            here = there.digests(place)
            if place[1] in deleted:
                reasons[place] = "deleted"
            elif not there.is_open(place):
                reasons[place] = "finished by people"
            elif place in there.tracked or (here != own["digests"] if own is not None else bool(here)):
                reasons[place] = "labelled by people"
            elif own is not None and own["key"] == self._key:
                reasons[place] = "labelled by this detector before"
        # In images that jobs share, one person's work is enough.
        frames = {frame: reason for (_, frame), reason in reasons.items()}
        self._left.update(frames.values())
        return [place for place in there.places() if place[1] not in frames]

    def _infer(self, frames: set[int], names: Sequence[Mapping[str, Any]]) -> dict[int, list[Shape]]:
        found: dict[int, list[Shape]] = {}
        images = self._images(sorted(frames), names)
        while batch := list(itertools.islice(images, BATCH)):
            readable = []
            for image in batch:
                if isinstance(image.pixels, OsvError):
                    self._problems.append(f"{image.name}: {image.pixels}")
                else:
                    readable.append(image)
            for image, detections in found_in(self._detector, readable, self._rules.options, self._failed):
                height, width = image.pixels.shape[:2]  # type: ignore[union-attr]
                shapes = proposed_shapes(
                    self._rules, detections, (width, height), sample=image.sample_id, model=self._detector.ref
                )
                found[image.frame] = [shape for shape in shapes if shape.label in self._schema.ids]
            self._progress("predict", len(found), len(frames))
        return found

    def _failed(self, image: DecodedImage, error: Exception) -> None:
        self._problems.append(f"{image.name}: the detector failed: {error}")

    def _images(self, frames: Sequence[int], names: Sequence[Mapping[str, Any]]) -> Iterator[DecodedImage]:
        here = [frame for frame in frames if frame in self._files]
        for frame, image in zip(
            here, decoded_images(((str(one), Path(self._files[one])) for one in here), BATCH * 2), strict=True
        ):
            yield image._replace(frame=frame)
        from osv_lab.detect.images import decode_image

        for frame in frames:
            if frame not in self._files:
                name = str(names[frame]["name"])
                query = {"type": "frame", "number": frame, "quality": "original"}
                content = self._cvat.content(f"/api/tasks/{self._task}/data", query)
                try:
                    yield DecodedImage(str(frame), frame, name, decode_image(content))
                except OsvError as error:
                    yield DecodedImage(str(frame), frame, name, error)

    def _write(
        self,
        before: TaskShapes,
        shapes: Mapping[Place, Sequence[Shape]],
        written: dict[Place, dict[str, Any]],
        unknown: tuple[str, ...],
    ) -> TaskPredictions:
        # Somebody may have drawn, or finished a job, while the detector was at work.
        now = TaskShapes.read(self._cvat, self._task)
        places = set(now.places())
        bodies: dict[Place, list[tuple[str, Mapping[str, Any]]]] = {}
        for place, some in shapes.items():
            if place not in places or not now.is_open(place) or now.digests(place) != before.digests(place):
                self._left["changed by people meanwhile"] += 1
                continue
            frames = {(shape.sample, shape.frame): place[1] for shape in some}
            bodies[place] = split(to_cvat(some, frames, self._schema))
        for place, objects in bodies.items():
            written[place] = {
                "key": self._key,
                "model": self._detector.ref,
                "read_back": False,
                "digests": [place_digest(kind, one) for kind, one in objects],
                "before": [place_digest(kind, one) for kind, one in now.objects.get(place, ())],
            }
        self._record(written)
        replaced = 0
        for job, batch in _batches(bodies):
            path = f"/api/jobs/{job}/annotations"
            old = [one for place in batch for one in now.objects.get(place, ())]
            new = [one for place in batch for one in bodies[place]]
            if old:
                self._cvat.call("PATCH", path, {"action": "delete"}, body_of(_writable(old)))
                replaced += len(old)
            if new:
                self._cvat.call("PATCH", path, {"action": "create"}, body_of(new))
        counts = self._read_back(bodies, written)
        return TaskPredictions(
            self._task,
            self._detector.ref,
            len({frame for _, frame in bodies}),
            counts,
            replaced,
            dict(self._left),
            unknown,
            tuple(self._problems),
        )

    def _read_back(
        self,
        bodies: Mapping[Place, Sequence[tuple[str, Mapping[str, Any]]]],
        written: dict[Place, dict[str, Any]],
    ) -> dict[str, int]:
        there = TaskShapes.read(self._cvat, self._task)
        counts: Counter[str] = Counter()
        missing = 0
        for place in bodies:
            wanted = Counter(written[place]["digests"])
            own: list[str] = []
            for kind, one in there.objects.get(place, ()):
                digest = place_digest(kind, one)
                if wanted[digest]:
                    wanted[digest] -= 1
                    own.append(object_digest(kind, one))
                    counts[self._schema.names[one["label_id"]]] += 1
            missing += wanted.total()
            key = "" if wanted.total() else self._key
            written[place] = {**written[place], "key": key, "read_back": True, "digests": sorted(own)}
        self._record(written)
        if missing:
            raise UnavailableError(
                "the server does not have all that was written",
                f"{missing} objects of task {self._task} are missing",
                "run the same again",
            )
        return dict(counts.most_common())

    def _record(self, written: Mapping[Place, Mapping[str, Any]]) -> None:
        documents = {f"{job} {frame}": one for (job, frame), one in written.items()}
        self._runs.put_documents(self._name, PART, documents)


def _batches(bodies: Mapping[Place, Sequence[Any]]) -> list[tuple[int, list[Place]]]:
    """The places of each write: of one job, whole, and so many that it stays well within the deadline of a call."""
    found: list[tuple[int, list[Place]]] = []
    size = 0
    for place in sorted(bodies):
        if not found or found[-1][0] != place[0] or size >= WRITE:
            found.append((place[0], []))
            size = 0
        found[-1][1].append(place)
        size += len(bodies[place])
    return found


def _writable(objects: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Objects as they were read, in the fields that may be written."""
    names = (
        "id",
        "frame",
        "label_id",
        "type",
        "points",
        "rotation",
        "occluded",
        "outside",
        "z_order",
        "attributes",
    )
    return [(kind, {name: one[name] for name in names if name in one}) for kind, one in objects]
