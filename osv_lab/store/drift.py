"""Drift in the store: the reference of a model, made from a dataset, and captured samples against it.

A reference is made on held-out images: on those it was trained on a model is surer than it will ever be again.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import OsvError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.sidecars import sidecar_path, update_sidecar
from osv_lab.detect.confidence import limit_of
from osv_lab.serve.drift import SIDECAR_KEY, Reference
from osv_lab.serve.observe import observe
from osv_lab.serve.profile import MIN_IMAGES, Look, Profile, Shift, brightness_only, compare, look
from osv_lab.store.bulk_values import TAG, CapturedSample, iter_captured
from osv_lab.store.catalogue import open_dataset
from osv_lab.store.database import connect, database_errors
from osv_lab.store.records import Box, ImageClass, Problem

if TYPE_CHECKING:
    import fiftyone as fo

    from osv_lab.detect.detector import Detector

VIEW = "drifted"
"""The saved view of the samples of the last report that found drift, the most unusual first."""

_BATCH = 8


@dataclass(frozen=True)
class ReferenceReport(Report):
    """The result of :func:`make_reference`.

    Attributes:
        reference: The reference.
        path: Where it was written.
        problems: One entry per image that could not be read.
    """

    reference: Reference
    path: Path
    problems: tuple[Problem, ...] = ()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per feature: how many values, and the bin that holds most of them."""
        profile = self.reference.profile
        return [
            {
                "feature": name,
                "images": profile.images[name],
                "values": sum(counts),
                "most often": profile.bins(name)[counts.index(max(counts))] if sum(counts) else "–",
            }
            for name, counts in profile.counts.items()
        ]

    def summary(self) -> str:
        """The reference in one line."""
        images = self.reference.profile.images["detections"]
        few = f"; fewer than {MIN_IMAGES} images: too few to tell drift" if images < MIN_IMAGES else ""
        bad = f"; {len(self.problems):,} images could not be read" if self.problems else ""
        source = f"'{self.reference.dataset}'{f' ({self.reference.split})' if self.reference.split else ''}"
        return f"drift reference of {images:,} images of {source} in {self.path}{bad}{few}"


@dataclass(frozen=True)
class DriftReport(Report):
    """The result of :func:`drift`.

    Attributes:
        dataset: The dataset's name.
        field: The field with predictions.
        reference: What they were compared with.
        shifts: How far each feature has moved.
        samples: Samples compared.
        others: Samples left out, as another model made their predictions or there are none.
        biased: Whether the samples were chosen by rules that look for the unusual, so that a difference is expected.
        drifted_ids: Samples that belong to what has become more frequent, the most unusual first.
    """

    dataset: str
    field: str
    reference: Reference
    shifts: tuple[Shift, ...]
    samples: int
    others: int
    biased: bool
    drifted_ids: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Features that have drifted."""
        return tuple(one.feature for one in self.shifts if one.drifted)

    def view(self) -> fo.DatasetView:
        """The drifted samples, the most unusual first; empty where nothing has drifted."""
        return open_dataset(self.dataset).select(list(self.drifted_ids), ordered=True)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per feature."""
        return [
            {
                "feature": one.feature,
                "psi": one.psi if one.enough else None,
                "by chance": one.by_chance if one.enough else None,
                "state": one.state,
                "images": one.images,
                "reference": one.expected,
                "moved most": one.most[0] if one.enough else "–",
                "share then": one.most[1] if one.enough else None,
                "share now": one.most[2] if one.enough else None,
            }
            for one in self.shifts
        ]

    def summary(self) -> str:
        """What has drifted, in one line."""
        what = f"{', '.join(self.drifted)} drifted" if self.drifted else "no drift"
        look = f", {len(self.drifted_ids):,} samples in the view '{VIEW}'" if self.drifted_ids else ""
        rules = "; chosen by rules that look for the unusual, so differences are expected" if self.biased else ""
        left = f"; {self.others:,} others left out" if self.others else ""
        return f"{self.samples:,} samples of '{self.dataset}': {what}{look}{rules}{left}"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            **super().to_dict(),
            "reference": self.reference.to_json(),
            "shifts": [one.to_json() for one in self.shifts],
            "drifted": list(self.drifted),
            "drifted_ids": list(self.drifted_ids),
        }


def make_reference(
    model: str | Path | Detector,
    view: fo.SampleCollection,
    *,
    split: str = "",
    out: str | Path | None = None,
    progress: Progress = silent,
) -> ReferenceReport:
    """Profile a model's answers on a view, and write that beside the model.

    Args:
        model: A path, a reference, or a loaded detector. Thresholds are those of its sidecar, as a server uses them.
        view: Images of the version it was trained on that it did not see, the validation split for instance.
        split: What to call them.
        out: A file (``.json``) for it; by default the model's sidecar, which a registered model's copy takes along.
        progress: Told about images.

    Raises:
        UsageError: a view of videos, an empty one, or a model that nothing can be written beside.
        OsvError: the model cannot be loaded.

    Example:
        >>> make_reference("best.onnx", dataset.match_tags("train")).summary()
        "drift reference of 10 images of 'cells' in ...best.onnx.osv.json; fewer than 50 images: ..."
    """
    from osv_lab.detect import load_detector
    from osv_lab.serve.served import dataset_version_of, sidecar_of, stored_thresholds
    from osv_lab.store.predict import decoded_images

    connect()
    if view.media_type != "image" or not len(view):
        raise UsageError(
            "a drift reference needs images", f"{len(view)} samples of {view.media_type}", "give a split"
        )
    detector = load_detector(model) if isinstance(model, (str, Path)) else model
    place = _place(model, detector, out)
    digest = detector.describe().get("digest")
    if not digest:
        raise UsageError("only a model of a file has a drift reference", detector.ref, "export it first")
    sidecar = sidecar_of(detector)
    thresholds = stored_thresholds(sidecar, detector.ref)
    source = dataset_version_of(sidecar) or view._dataset.name
    reference = Reference(Profile(tuple(detector.class_names)), thresholds.confidence, str(digest), source, split)
    problems: list[Problem] = []
    total, done = len(view), 0
    todo = zip(view.values("id"), view.values("filepath"), strict=True)
    images = decoded_images(todo, 4 * _BATCH)
    while batch := list(itertools.islice(images, _BATCH)):
        broken = [one for one in batch if isinstance(one.pixels, OsvError)]
        problems += [Problem(one.name, str(one.pixels), "", "file skipped") for one in broken]
        pixels = [one.pixels for one in batch if not isinstance(one.pixels, OsvError)]
        found = detector.predict(
            pixels, confidence=thresholds.confidence, iou=thresholds.iou, max_detections=thresholds.max_detections
        )
        for image, detections in zip(pixels, found, strict=True):
            seen = observe(image, detections, model=detector.ref, threshold=thresholds.confidence)
            reference.profile.add(reference.look(seen))
        done += len(batch)
        progress("reference", done, total)
    _write(reference, place)
    return ReferenceReport(reference, place, tuple(problems))


def drift(
    view: fo.SampleCollection,
    reference: Reference | str | Path,
    *,
    field: str = "served_predictions",
    captured_only: bool = True,
    min_images: int = MIN_IMAGES,
) -> DriftReport:
    """Compare predictions on samples with a model's reference.

    Of captured samples those that the rule ``random`` chose are taken where there are enough of them: other rules look
    for the unusual and would show drift where there is none.

    Args:
        view: A dataset or view.
        reference: A reference, a file of one, or a model that has one in its sidecar.
        field: The field with predictions.
        captured_only: Whether only captured samples count.
        min_images: How many images make a difference mean anything.

    Returns:
        The report. Where something has drifted its samples are saved as the view ``drifted``.

    Raises:
        NotFoundError: there is no such reference.
        UsageError: the samples are no images.

    Example:
        >>> from osv_lab.store.captures import import_captures
        >>> usual = make_reference("best.onnx", dataset).reference
        >>> captured = import_captures("captures", dataset)
        >>> drift(dataset, usual, min_images=10).summary()
        "12 samples of 'cells': scores, brightness drifted, 12 samples in the view 'drifted'"
    """
    connect()
    if view.media_type not in ("image", None):
        raise UsageError("drift compares images", f"this holds {view.media_type}", "give a dataset of images")
    usual = _resolved(reference)
    with database_errors():
        every = list(iter_captured(view.match_tags(TAG) if captured_only else view, field))
    ours = [one for one in every if one.labels is not None and _made_by(one, usual)]
    random = [one for one in ours if "random" in (one.capture.get("rules") or ())]
    biased = len(random) < min_images and any(one.capture for one in ours)
    chosen = ours if biased or not random else random
    looks = {one.id: _look(one, usual) for one in chosen}
    now = Profile(usual.profile.classes)
    for one in looks.values():
        now.add(one)
    shifts = tuple(compare(now, usual.profile, min_images))
    report = DriftReport(
        dataset=view._dataset.name,
        field=field,
        reference=usual,
        shifts=shifts,
        samples=len(chosen),
        others=len(every) - len(chosen),
        biased=biased,
        drifted_ids=_drifted(looks, now, usual.profile, [one.feature for one in shifts if one.drifted]),
    )
    if report.drifted_ids:
        view._dataset.save_view(
            VIEW, report.view(), description=f"Drifted: {', '.join(report.drifted)}", overwrite=True
        )
    return report


def _drifted(looks: Mapping[str, Look], now: Profile, usual: Profile, features: Sequence[str]) -> tuple[str, ...]:
    surprises = {sample: now.surprise(one, usual, features) for sample, one in looks.items()}
    return tuple(sorted((one for one in looks if surprises[one] > 0), key=lambda one: -surprises[one]))


def _made_by(sample: CapturedSample, reference: Reference) -> bool:
    """Whether a captured sample's predictions are those of the reference's model; of others that is not known."""
    digest = sample.capture.get("digest")
    return not sample.capture or reference.digest is None or digest == reference.digest


def _look(sample: CapturedSample, reference: Reference) -> Look:
    labels = [one for one in sample.labels or () if isinstance(one, (Box, ImageClass))]
    capture = sample.capture
    brightness = capture.get("brightness")
    threshold = dict(capture.get("thresholds") or ()) or capture.get("threshold") or 0.0
    if capture.get("partial") or reference.is_cut(threshold):
        return Look({}) if brightness is None else brightness_only(brightness)
    scored = [(one, 1.0 if one.confidence is None else one.confidence) for one in labels]
    scored = [(one, score) for one, score in scored if score >= limit_of(reference.confidence, one.label)]
    kept = [one for one, _ in scored]
    return look(
        [score for _, score in scored],
        [one.xywh[2] * one.xywh[3] if isinstance(one, Box) else 1.0 for one in kept],
        [one.label for one in kept],
        brightness,
    )


def _resolved(reference: Reference | str | Path) -> Reference:
    if isinstance(reference, Reference):
        return reference
    text = str(reference)
    if text.lower().endswith(".json"):
        return Reference.read(text)
    from osv_lab.detect.reference import resolve_model

    return Reference.read(resolve_model(text))


def _place(model: object, detector: Detector, out: str | Path | None) -> Path:
    """The file that the reference is written to."""
    if out is not None:
        path = Path(out).expanduser()
        if path.suffix.lower() != ".json":
            raise UsageError("a drift reference is a .json file", path, "name it drift.json")
        return path
    path = Path(str(getattr(detector, "path", "")))
    if not path.is_file() or str(model).startswith(("models:/", "runs:/")):
        raise UsageError(
            "a drift reference is not written into a registry",
            str(model),
            "give --out drift.json, and serve --drift",
        )
    return sidecar_path(path)


def _write(reference: Reference, place: Path) -> None:
    try:
        if not place.name.endswith(".osv.json"):
            reference.write(place)
            return
        update_sidecar(place.with_name(place.name.removesuffix(".osv.json")), {SIDECAR_KEY: reference.to_json()})
    except OSError as error:
        found = f"{place}: {error.strerror}"
        raise UsageError(
            "the drift reference cannot be written there", found, "give another place with out"
        ) from None
