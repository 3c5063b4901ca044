"""How far annotators agree who had the same images: which objects they found, how they drew and what they called them.

Objects of two annotators are matched one to one by IoU, whatever their class. So three questions stay apart: whether
both found it (the share of objects with a match, the F1 of one against the other), how alike they drew it (mean IoU of
matches), and whether they called it the same (Cohen's kappa over matches). Krippendorff's alpha puts the first and the
last into one number over all annotators: an object that somebody left out counts as the class "nothing" of theirs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from osv_lab.annotate.objects import Shape
from osv_lab.annotate.outcomes import matched
from osv_lab.annotate.records import Runs
from osv_lab.annotate.reliability import cohen_kappa, krippendorff_alpha
from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.core.report import Report

if TYPE_CHECKING:
    import fiftyone as fo

NOTHING: Final = "nothing"
Ratings = Mapping[str, Mapping[str, Sequence[Shape]]]
"""Objects by :func:`osv_lab.annotate.records.place_name` and annotator."""


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two annotators on the images that both had.

    Attributes:
        first: One.
        second: The other.
        images: How many images both had.
        objects: How many objects each drew there.
        both: How many of them are matched.
        iou: Mean IoU of matches, ``nan`` without any.
        same_class: Matches that both gave one class.
        kappa: Cohen's kappa of the classes of matches, ``None`` where it is not defined.
    """

    first: str
    second: str
    images: int
    objects: tuple[int, int]
    both: int
    iou: float
    same_class: int
    kappa: float | None

    @property
    def found(self) -> float:
        """The share of objects that both found, 0 to 1: F1 of one against the other."""
        return 2 * self.both / sum(self.objects) if sum(self.objects) else 1.0


@dataclass(frozen=True)
class AgreementReport(Report):
    """How far annotators agree.

    Attributes:
        keys: The runs.
        iou: Overlap from which two objects are matched.
        images: Images that two or more had.
        pairs: Every two annotators with images in common.
        alpha: Krippendorff's alpha over all, ``None`` where it is not defined.
        confusions: How often one annotator's class, or "nothing", met another's, in either order.
        differing: By sample, how many objects they do not agree on, the most first.
    """

    keys: tuple[str, ...]
    iou: float
    images: int
    pairs: tuple[PairAgreement, ...]
    alpha: float | None
    confusions: Mapping[tuple[str, str], int]
    differing: Mapping[str, int]
    dataset: Any = dataclasses.field(default=None, repr=False, compare=False)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per pair of annotators."""
        return [
            {
                "annotators": f"{one.first}, {one.second}",
                "images": one.images,
                "objects": f"{one.objects[0]}, {one.objects[1]}",
                "both found": one.found,
                "mean IoU": one.iou,
                "same class": one.same_class / one.both if one.both else None,
                "kappa": one.kappa,
            }
            for one in self.pairs
        ]

    def summary(self) -> str:
        """One line."""
        alpha = "not defined" if self.alpha is None else f"{self.alpha:.3f}"
        pairs = f"{len(self.pairs)} pair{'s' if len(self.pairs) != 1 else ''} of annotators"
        return (
            f"{pairs} on {self.images:,} images: Krippendorff's alpha {alpha}; "
            f"{sum(self.differing.values()):,} objects in dispute on {len(self.differing):,} images"
        )

    def view(self) -> Any:
        """The images with objects in dispute, the most first."""
        return self.dataset.select(list(self.differing), ordered=True)

    def plot(self) -> Any:
        """Which class met which, as a plotly figure."""
        from osv_lab.annotate.plots import agreement_figure

        return agreement_figure(self)


def agreement_of(dataset: fo.Dataset, keys: Sequence[str], iou: float = 0.5) -> AgreementReport:
    """How far the annotators of runs agree; see :meth:`osv_lab.annotate.AnnotationLoop.agreement`."""
    if not 0 < iou <= 1:
        raise UsageError("iou must lie above 0 and at most at 1", iou)
    ratings = _ratings(Runs(dataset), keys)
    if not ratings:
        raise NotFoundError(
            "no image has two annotators",
            ", ".join(keys),
            "send with overlap=, or the same images under two keys, and pull when both are finished",
        )
    pairs, confusions, differing = _pairs(ratings, iou)
    return AgreementReport(
        tuple(keys),
        iou,
        len(ratings),
        tuple(pairs),
        krippendorff_alpha([unit for some in ratings.values() for unit in units(some, iou)]),
        confusions,
        dict(differing.most_common()),
        dataset,
    )


def units(ratings: Mapping[str, Sequence[Shape]], iou: float) -> list[list[str]]:
    """What each annotator called each object of one image; "nothing" where one left it out.

    An object is matched with the first drawing of it, in the order of the annotators.
    """
    drawn: list[Shape] = []
    called: list[dict[str, str]] = []
    for rater, shapes in ratings.items():
        pairs = {j: i for i, j, _ in matched(drawn, shapes, iou)}
        for j, shape in enumerate(shapes):
            if j in pairs:
                called[pairs[j]][rater] = shape.label
            else:
                drawn.append(shape)
                called.append({rater: shape.label})
    return [[names.get(rater, NOTHING) for rater in ratings] for names in called]


def _ratings(runs: Runs, keys: Sequence[str]) -> dict[str, dict[str, Sequence[Shape]]]:
    """The objects of images that two or more annotators had."""
    found: dict[str, dict[str, Sequence[Shape]]] = defaultdict(dict)
    for key in keys:
        run = runs.get(key)
        names = {job["id"]: job["annotator"] or job["assignee"] for job in run.jobs}
        for (job, place), shapes in sorted(runs.returned(key).items()):
            name = names.get(job) or f"{key}, job {job}"
            # One person who had an image twice agrees with themselves, which is worth knowing too.
            name = f"{name} ({key}, job {job})" if name in found[place] else name
            found[place][name] = shapes
    return {sample: some for sample, some in found.items() if len(some) > 1}


def _pairs(ratings: Ratings, iou: float) -> tuple[list[PairAgreement], dict[tuple[str, str], int], Counter[str]]:
    seen: dict[tuple[str, str], list[tuple[Sequence[Shape], Sequence[Shape], list[tuple[int, int, float]]]]]
    seen = defaultdict(list)
    confusions: Counter[tuple[str, str]] = Counter()
    differing: Counter[str] = Counter()
    for place, some in ratings.items():
        sample = place.partition(" ")[0]
        for a, b in itertools.combinations(sorted(some), 2):
            pairs = matched(some[a], some[b], iou)
            seen[a, b].append((some[a], some[b], pairs))
            met = [(some[a][i].label, some[b][j].label) for i, j, _ in pairs]
            left = {i for i, _, _ in pairs}, {j for _, j, _ in pairs}
            met += [(one.label, NOTHING) for i, one in enumerate(some[a]) if i not in left[0]]
            met += [(NOTHING, one.label) for j, one in enumerate(some[b]) if j not in left[1]]
            for first, second in met:
                confusions[first, second] += 1
                if first != second:
                    confusions[second, first] += 1
                    differing[sample] += 1
    found = []
    for (a, b), images in sorted(seen.items()):
        classes = [(x[i].label, y[j].label) for x, y, pairs in images for i, j, _ in pairs]
        overlaps = [overlap for _, _, pairs in images for _, _, overlap in pairs]
        found.append(
            PairAgreement(
                a,
                b,
                len(images),
                (sum(len(x) for x, _, _ in images), sum(len(y) for _, y, _ in images)),
                len(classes),
                sum(overlaps) / len(overlaps) if overlaps else math.nan,
                sum(x == y for x, y in classes),
                cohen_kappa([x for x, _ in classes], [y for _, y in classes]),
            )
        )
    return found, dict(confusions), differing
