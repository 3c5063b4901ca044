"""Ask a running server about samples: their files go as they are, and its answers become labels."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.store.bulk import Writer
from osv_lab.store.convert.supervision import labels_from
from osv_lab.store.database import connect, database_errors
from osv_lab.store.predict import CONTAINERS
from osv_lab.store.records import ImageClass, Label, Problem

if TYPE_CHECKING:
    import fiftyone as fo

    from osv_lab.serve.prediction import Prediction


@dataclass(frozen=True)
class ServedReport(Report):
    """What a server answered about samples.

    Attributes:
        url: The server.
        models: Images answered, by the model that did.
        field: The field written.
        classes: Objects by class, most frequent first.
        problems: One entry per image that it did not answer.
    """

    url: str
    models: Mapping[str, int]
    field: str
    classes: Mapping[str, int]
    problems: tuple[Problem, ...] = ()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        found = [{"what": name, "objects": count, "why": ""} for name, count in self.classes.items()]
        return [*found, *({"what": one.file, "objects": None, "why": one.what} for one in self.problems)]

    def summary(self) -> str:
        images, objects = sum(self.models.values()), sum(self.classes.values())
        bad = f", {len(self.problems):,} failed" if self.problems else ""
        who = ", ".join(self.models) or self.url
        return f"{who} answered {images:,} images with {objects:,} objects into '{self.field}'{bad}"


def ask_server(
    view: fo.SampleCollection,
    url: str,
    field: str = "served",
    *,
    key: str | None = None,
    batch_size: int = 8,
    progress: Progress = silent,
    **options: Any,
) -> ServedReport:
    """Send a view's images to a server and write what it answers into a field.

    The files travel byte for byte, so that an image that the server keeps is recognised when it comes home.

    Args:
        view: A dataset or view of images.
        url: The server.
        field: The field to write, made if it is not there.
        key: The server's bearer key, if it wants one.
        batch_size: Images per request, 1 to 64.
        progress: Told about images.
        options: See :class:`~osv_lab.serve.asking.PredictOptions`; by default the server's own thresholds.

    Returns:
        The report. An image that the server refuses is named in it; the others are written.

    Raises:
        UsageError: videos, a batch size out of range, or a field that cannot be used.
        UnavailableError: no server there, or it stays busy; what was answered until then is written.

    Example:
        >>> ask_server(dataset.limit(4), server.url).summary()
        "best.onnx answered 4 images with 8 objects into 'served'"
    """
    from osv_lab.serve.asking import check_batch_size
    from osv_lab.serve.client import Client

    check_batch_size(batch_size)
    if view.media_type not in (None, "image"):
        raise UsageError(
            "a server is asked about images", f"the view holds {view.media_type}", "track the videos instead"
        )
    connect()
    models: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    problems: list[Problem] = []
    paths: dict[str, str] = dict(zip(*view.values(["id", "filepath"]), strict=True))
    writer = Writer(view._dataset)
    todo = iter(paths.items())
    with database_errors(), Client(url, key) as client:
        try:
            while batch := list(itertools.islice(todo, batch_size)):
                found = client.predict_batch([path for _, path in batch], batch_size, **options)
                by_container: dict[str, dict[str, list[Label]]] = {}
                for (sample_id, path), one in zip(batch, found, strict=True):
                    if one.error is not None:
                        problems.append(
                            Problem(path, f"{one.error['what']}: {one.error['found']}", "", "file skipped")
                        )
                        continue
                    labels = _labels(one)
                    models[str(one.model["ref"])] += 1
                    classes.update(label.label for label in labels)
                    by_container.setdefault(CONTAINERS[one.model["task"]], {})[sample_id] = labels
                for container, labels_of in by_container.items():
                    writer.set_labels(field, labels_of, container)
                progress("ask", sum(models.values()) + len(problems), len(paths))
        finally:
            writer.finish()
    return ServedReport(url, dict(models), field, dict(classes.most_common()), tuple(problems))


def _labels(one: Prediction) -> list[Label]:
    if one.model["task"] == "classify":
        # The most confident class comes first, and is the image's.
        return [ImageClass(str(each["class"]), float(each["confidence"])) for each in one.predictions[:1]]
    return labels_from(one.to_supervision(), (one.width, one.height))
