"""What autolabel has proposed: counts, and the views of what to trust and what to look at."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from osv_lab.annotate.documents import TRUSTED, WHY
from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.report import Report
from osv_lab.store.annotation_store import is_of_frames, name_of, read_samples
from osv_lab.store.documents import CONTAINERS, SOURCE
from osv_lab.store.records import Problem

VIEWS = ("uncertain", "trusted", "disagreements")
_BATCH = 1000


@dataclass(frozen=True)
class AutolabelReport(Report):
    """The result of :func:`osv_lab.annotate.autolabel.autolabel`.

    Attributes:
        dataset_name: The dataset.
        field: The label field.
        model: The reference of the detector.
        key: What the samples' field is marked with: the same for the same detector and settings.
        settings: The detector, the label of each class, thresholds.
        labelled: Images, or frames, labelled now.
        kept: Images, or frames, that had these proposals already.
        classes: By label, the proposals that are there now, and how many of them are trusted.
        why: By reason, how many proposals a person should look at for it.
        staying: Labels of people and others, which stayed as they are.
        disagreements: Detections of another class where there is such a label.
        images: Images, or frames, with proposals to look at, and those where all are trusted.
        problems: One entry per image that could not be labelled.
    """

    dataset_name: str
    field: str
    model: str
    key: str
    settings: Mapping[str, Any]
    labelled: int
    kept: int
    classes: Mapping[str, tuple[int, int]]
    why: Mapping[str, int]
    staying: int
    disagreements: int
    images: tuple[int, int]
    problems: tuple[Problem, ...] = ()
    dataset: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def proposals(self) -> int:
        """Proposals that are there now."""
        return sum(count for count, _ in self.classes.values())

    @property
    def trusted(self) -> int:
        """Those of them that are trusted."""
        return sum(trusted for _, trusted in self.classes.values())

    @property
    def exit_code(self) -> int:
        """Invalid data where no image could be labelled, else 0."""
        return InvalidDataError.exit_code if self.problems and not self.labelled and not self.kept else 0

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per label, then one per reason, then one per image that failed."""
        found: list[Mapping[str, Any]] = [
            {"what": name, "proposals": count, "trusted": trusted, "to look at": count - trusted}
            for name, (count, trusted) in self.classes.items()
        ]
        found += [{"what": reason, "to look at": count} for reason, count in self.why.items()]
        return [*found, *({"what": one.file, "why": one.what} for one in self.problems)]

    def summary(self) -> str:
        """One line."""
        kept = f", {self.kept:,} had theirs already" if self.kept else ""
        failed = f"; {len(self.problems):,} failed" if self.problems else ""
        differ = f"; {self.disagreements:,} disagreements with labels" if self.disagreements else ""
        media = "frames" if is_of_frames(self.field) else "images"
        unsure = f"{self.proposals - self.trusted:,} to look at on {self.images[0]:,} {media}"
        return (
            f"{self.labelled:,} {media} labelled{kept}: {self.proposals:,} proposals in '{self.field}', "
            f"{self.trusted:,} trusted, {unsure}{differ}{failed}"
        )

    def view(self, kind: str = "uncertain") -> Any:
        """The saved view: images to send to people, where all is trusted, or with disagreements.

        Of videos those with such frames; for the frames themselves see :meth:`windows`.

        Raises:
            NotFoundError: no such kind.
        """
        if kind not in VIEWS:
            raise NotFoundError("no such view", repr(kind), nearest(kind, VIEWS))
        name = f"{name_of(self.field)}_{kind}"
        return self.dataset.load_saved_view(name) if self.dataset.has_saved_view(name) else self.dataset.select([])

    def windows(self, margin: int = 12) -> dict[str, list[tuple[int, int]]]:
        """Of videos, where a person should look: first and last frame, by sample id, to :meth:`send` as ``windows``.

        Args:
            margin: Frames before and after that go along; windows that touch are one.

        Example:
            >>> from osv_lab.annotate.autolabel import autolabel
            >>> report = autolabel(videos, "best.onnx")
            >>> list(report.windows().values())                 # loop.send(..., windows=report.windows())
            [[(1, 30)]]
        """
        if not is_of_frames(self.field):
            raise UsageError("windows are for videos", f"'{self.field}' is of images", "send the view")
        found: dict[str, list[tuple[int, int]]] = {}
        lengths = dict(zip(*self.dataset.values(["id", "metadata.total_frame_count"]), strict=True))
        for one in read_samples(self.dataset, self.view("uncertain").values("id"), self.field):
            if not any(_is_proposal(label) and not label[TRUSTED] for label in one.labels):
                continue
            first, last = max(one.frame - margin, 1), min(one.frame + margin, lengths.get(one.id) or math.inf)
            some = found.setdefault(one.id, [])
            if some and first <= some[-1][1] + 1:
                some[-1] = some[-1][0], int(last)
            else:
                some.append((first, int(last)))
        return found

    def boxes(self, *, trusted: bool) -> Any:
        """The images with nothing but the proposals that are trusted, or that are not: to look at, not to send."""
        return self.dataset.filter_labels(self.field, _proposals(trusted))


def report(
    view: Any,
    field: str,
    container: str,
    *,
    key: str,
    model: str,
    settings: Mapping[str, Any],
    labelled: int,
    kept: int,
    problems: tuple[Problem, ...],
) -> AutolabelReport:
    """Save the views of a field's proposals, and count them."""
    dataset = view._dataset
    _save_views(dataset, field, container)
    classes: Counter[str] = Counter()
    trusted: Counter[str] = Counter()
    why: Counter[str] = Counter()
    staying = uncertain_images = trusted_images = 0
    ids = view.values("id")
    # A video is read alone: it may have as many frames as a dataset has images.
    step = 1 if is_of_frames(field) else _BATCH
    for start in range(0, len(ids), step):
        for sample in read_samples(dataset, ids[start : start + step], field):
            own = [one for one in sample.labels if _is_proposal(one)]
            staying += len(sample.labels) - len(own)
            unsure = [one for one in own if not one[TRUSTED]]
            uncertain_images += bool(unsure)
            trusted_images += bool(own and not unsure)
            classes.update(one["label"] for one in own)
            trusted.update(one["label"] for one in own if one[TRUSTED])
            why.update(reason for one in unsure for reason in _reasons(one.get(WHY, "")))
    name = f"{field}_disagreements"
    differing = dataset.get_field(name) is not None
    return AutolabelReport(
        dataset_name=dataset.name,
        field=field,
        model=model,
        key=key,
        settings=settings,
        labelled=labelled,
        kept=kept,
        classes={one: (count, trusted[one]) for one, count in classes.most_common()},
        why=dict(why.most_common()),
        staying=staying,
        disagreements=view.count(_path(name, container)) if differing else 0,
        images=(uncertain_images, trusted_images),
        problems=problems,
        dataset=dataset,
    )


def _reasons(why: str) -> list[str]:
    return ["could be another class" if one.startswith("could be") else one for one in why.split(", ") if one]


def _is_proposal(label: Mapping[str, Any]) -> bool:
    return label.get(SOURCE) == "auto" and TRUSTED in label


def _save_views(dataset: Any, field: str, container: str) -> None:
    """Views that follow the labels: what people change or confirm is no proposal any more."""
    from fiftyone import ViewField

    name = name_of(field)
    if container in CONTAINERS:
        labels = ViewField(_path(name, container))
        unsure, sure = (labels.filter(_proposals(one)).length() > 0 for one in (False, True))
        differs = ViewField(_path(f"{name}_disagreements", container)).length() > 0
    else:
        unsure, sure = (_proposals(one, f"{name}.") for one in (False, True))
        differs = ViewField(f"{name}_disagreements.label").exists()
    views = {"uncertain": unsure, "trusted": sure & ~unsure}
    if dataset.get_field(f"{field}_disagreements") is not None:
        views["disagreements"] = differs
    for kind, condition in views.items():
        if is_of_frames(field):
            condition = ViewField("frames").filter(condition).length() > 0
        dataset.save_view(f"{name}_{kind}", dataset.match(condition), overwrite=True)


def _proposals(trusted: bool, prefix: str = "") -> Any:
    from fiftyone import ViewField

    return (ViewField(f"{prefix}{TRUSTED}") == trusted) & (ViewField(f"{prefix}{SOURCE}") == "auto")


def _path(field: str, container: str) -> str:
    return f"{field}.{CONTAINERS[container]}" if container in CONTAINERS else field
