"""Which images to label next: where the model is unsure, what looks unlike the rest, which classes are short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.curate.hashes import from_hex
from osv_lab.curate.measures import measure_view
from osv_lab.store.bulk_documents import boxes_in, read_documents
from osv_lab.store.database import connect

if TYPE_CHECKING:
    import fiftyone as fo

STRATEGIES = ("uncertainty", "diversity", "class_need", "mix")


@dataclass(frozen=True)
class Pick:
    """One image to label.

    Attributes:
        sample: The sample's id.
        score: What it was picked for, 0 to 1.
        why: The reason in words.
    """

    sample: str
    score: float
    why: str


@dataclass(frozen=True)
class SelectReport(Report):
    """The result of :func:`select`.

    Attributes:
        dataset: The dataset's name.
        strategy: How they were picked.
        candidates: How many images there were to pick from.
        picks: In the order of picking.
    """

    dataset: str
    strategy: str
    candidates: int
    picks: tuple[Pick, ...] = field(default=())

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per pick."""
        return [{"sample": one.sample, "score": one.score, "why": one.why} for one in self.picks]

    def summary(self) -> str:
        """The counts in one line."""
        return f"{len(self.picks):,} of {self.candidates:,} images of '{self.dataset}' picked by {self.strategy}"

    def view(self) -> Any:
        """The picked samples, in the order of picking."""
        from osv_lab.store.catalogue import open_dataset

        return open_dataset(self.dataset).select([one.sample for one in self.picks], ordered=True)


def select(
    view: fo.SampleCollection,
    n: int,
    strategy: str = "mix",
    *,
    pred_field: str = "predictions",
    gt_field: str = "ground_truth",
    embeddings: np.ndarray | None = None,
    progress: Progress = silent,
) -> SelectReport:
    """Pick the images of a view that are most worth labelling.

    - ``uncertainty``: most predictions near a confidence of 0.5, each counting ``4 c (1 - c)``.
    - ``diversity``: each pick is the farthest from all before it (k-centre greedy; O. Sener and S. Savarese, "Active
      Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018), by embeddings or perceptual hashes.
    - ``class_need``: predicted objects of classes that the whole dataset's labels have few of.
    - ``mix``: farthest-first, weighed by the mean of the other two.

    Args:
        view: What to pick from, for instance the unlabelled images.
        n: How many; fewer where the view has fewer.
        strategy: One of :data:`STRATEGIES`.
        pred_field: Predictions on the view; not needed for diversity.
        gt_field: The labels that there are.
        embeddings: ``(k, d)``, one row per sample of the view in its order; by default perceptual hashes.
        progress: Told about images.

    Returns:
        The picks in order, each with its reason. The same input gives the same picks.

    Raises:
        UsageError: an unknown strategy, ``n`` below 1, a field of another kind, or embeddings of another number, not of
            two dimensions, or not finite.
        NotFoundError: no such predictions field.

    Example:
        >>> picks = select(dataset.match_tags("val"), 2)
        >>> picks.summary()
        "2 of 4 images of 'cells' picked by mix"
        >>> picks.view().count()
        2
    """
    fo = connect()
    if strategy not in STRATEGIES:
        raise UsageError("no such strategy", repr(strategy), nearest(strategy, STRATEGIES))
    if n < 1:
        raise UsageError("n must be at least 1", n)
    if strategy != "diversity" and view.get_field(pred_field) is None:
        raise NotFoundError("no such field", repr(pred_field), "osv predict makes one, or select by diversity")
    for name in (pred_field, gt_field) if strategy != "diversity" else ():
        declared = view.get_field(name)
        if declared is not None and getattr(declared, "document_type", None) is not fo.Detections:
            raise UsageError("images are picked by boxes", f"'{name}' is not a field of Detections")
    documents = read_documents(view, [pred_field])
    if embeddings is not None:
        embeddings = np.asarray(embeddings, float)
        if embeddings.ndim != 2 or len(embeddings) != len(documents) or not np.isfinite(embeddings).all():
            raise UsageError(
                "embeddings must be one row of finite numbers per sample",
                f"shape {embeddings.shape} for {len(documents)} samples",
            )
    found = [[label for label in boxes_in(one, pred_field) if label.get("label")] for one in documents]
    unsure = _scaled(np.array([sum(_doubt(label) for label in some) for some in found]))
    needs = _needs(view._dataset, gt_field, [label["label"] for some in found for label in some])
    needed = _scaled(np.array([sum(needs[label["label"]] * _sure(label) for label in some) for some in found]))
    weights = {"uncertainty": unsure, "class_need": needed, "mix": (unsure + needed) / 2}.get(strategy)
    if strategy in ("uncertainty", "class_need"):
        assert weights is not None
        order = [(int(place), float(weights[place])) for place in np.argsort(-weights, kind="stable")[:n]]
    else:
        points = _hash_bits(view, progress) if embeddings is None else embeddings
        order = farthest_first(points, n, weights)
    picks = []
    for place, score in order:
        doubts = Counter(label["label"] for label in found[place] if _doubt(label) > 0.75)
        shown = Counter(label["label"] for label in found[place] if _sure(label) >= 0.25)
        rare = max(shown, key=lambda name: needs[name], default="")
        reasons = {
            "uncertainty": f"unsure of {sum(doubts.values())} objects ({', '.join(doubts) or 'none near one half'})",
            "class_need": f"shows {shown[rare]} {rare}, which is short of labels"
            if rare
            else "shows no known class",
            "diversity": f"{score:.2f} of the largest distance from all picked before",
        }
        why = reasons.get(strategy) or "; ".join(reasons.values())
        picks.append(Pick(documents[place]["_id"], score, why))
    return SelectReport(view._dataset.name, strategy, len(documents), tuple(picks))


def farthest_first(points: np.ndarray, n: int, weights: np.ndarray | None = None) -> list[tuple[int, float]]:
    """Places of ``n`` points, each the farthest from all before it; the first is the farthest from the mean.

    Memory is that of the points; time grows with ``n`` times their number.

    Args:
        points: ``(k, d)``.
        n: How many.
        weights: ``(k,)`` 0 to 1; distances are multiplied by 0.5 to 1.5 with them.

    Returns:
        Places and their (weighed) distance as a share of the first one's.

    Example:
        >>> [place for place, _ in farthest_first(np.array([[0.0], [1.0], [9.0], [10.0]]), 2)]
        [0, 3]
    """
    if not len(points):
        return []
    weigh = np.ones(len(points)) if weights is None else 0.5 + weights
    distance = np.linalg.norm(points - points.mean(axis=0), axis=1)
    largest, picked, left = 0.0, list[tuple[int, float]](), np.ones(len(points), bool)
    for _ in range(min(n, len(points))):
        value = np.where(left, distance * weigh, -1)
        place = int(value.argmax())
        left[place] = False
        own = np.linalg.norm(points - points[place], axis=1)
        distance = own if not picked else np.minimum(distance, own)
        largest = max(largest, float(value[place]))
        picked.append((place, float(value[place]) / largest if largest > 0 else 0.0))
    return [(place, min(score, 1.0)) for place, score in picked]


def _doubt(label: Mapping[str, Any]) -> float:
    return 4 * _sure(label) * (1 - _sure(label))


def _sure(label: Mapping[str, Any]) -> float:
    return float(label.get("confidence") or 0.0)


def _needs(dataset: Any, gt_field: str, predicted: Sequence[str]) -> dict[str, float]:
    """How short of labels each class is, 0 to 1: 1 for the rarest, by the inverse root of counts."""
    there = dataset.get_field(gt_field) is not None
    counts = dataset.count_values(f"{gt_field}.detections.label") if there else {}
    needs = {name: 1 / np.sqrt(1 + counts.get(name, 0)) for name in {*counts, *predicted}}
    most = max(needs.values(), default=1.0)
    return {name: float(value / most) for name, value in needs.items()}


def _scaled(values: np.ndarray) -> np.ndarray:
    most = float(values.max(initial=0))
    return np.asarray(values / most if most > 0 else np.zeros(len(values)))


def _hash_bits(view: fo.SampleCollection, progress: Progress) -> np.ndarray:
    """The bits of each image's two hashes, ``(k, 128)``; an image that cannot be read is in the middle of all."""
    rows, _ = measure_view(view, progress)
    points = np.full((len(rows), 128), 0.5, np.float32)
    good = [place for place, row in enumerate(rows) if not row.get("broken")]
    for part, kind in enumerate(("phash", "dhash")):
        hashes = from_hex([rows[place][kind] for place in good]).astype(">u8")
        bits = np.unpackbits(hashes.view(np.uint8)).reshape(-1, 64)
        points[good, part * 64 : part * 64 + 64] = bits
    return points
