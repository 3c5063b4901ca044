"""The gate in front of an alias: a model takes another's place only with evidence, which is kept.

The rule, gate by gate:

- ``overall``: the lower end of the 95% interval of the difference of mAP50-95 is not below ``-margin``, the largest
  fall overall that is accepted (non-inferiority).
- ``slices``: of no class, size or slice the fall of mAP50-95 goes beyond ``slice_margin`` by more than luck explains:
  the one-sided p-value, judged together over all of them (max-t over the paired bootstrap), is above 0.05. Slices with
  fewer than ``min_objects`` objects are not judged, and named; with ``strict`` they refuse.
- ``parity``: the exported file was compared with its weights and passed, and is the file that was registered.
- ``latency``: the candidate's time per image, measured in turns with the other's, is within the stated ratio, and the
  stated milliseconds.
- ``evidence``: there are at least ``min_images`` images and ``min_objects`` objects.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from osv_lab.core.errors import UsageError
from osv_lab.core.modelfiles import model_digest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import SEED
from osv_lab.evaluate.comparison import compare
from osv_lab.evaluate.comparison_report import ComparisonReport
from osv_lab.evaluate.differences import MIN_OBJECTS, Difference
from osv_lab.train import tracking
from osv_lab.train.aliases import move_alias, parse_version
from osv_lab.train.registry import ModelVersion, get_version, has_alias

ALPHA = 0.05


@dataclass(frozen=True)
class Gate:
    """One condition: its name, whether it holds, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Verdict(Report):
    """Whether a model takes another's place, and why.

    Attributes:
        candidate: The model version that was judged.
        champion: The one it was compared with; ``None`` where the alias did not exist.
        alias: The alias.
        decision: ``promoted``, ``refused`` or ``forced``.
        gates: Each condition.
        regressed: Slices that got worse beyond luck, in words.
        unjudged: Slices with too few objects to tell.
        reason: Why it was forced.
        comparison: The evidence; ``None`` without a champion.
        settings: The rule's numbers.
        at: When, as ISO 8601 in UTC.
        stored: Where MLflow keeps it.
    """

    candidate: str
    champion: str | None
    alias: str
    decision: str
    gates: tuple[Gate, ...]
    regressed: tuple[str, ...]
    unjudged: tuple[str, ...]
    reason: str
    comparison: ComparisonReport | None
    settings: Mapping[str, Any]
    at: str
    stored: str = field(default="", compare=False)

    @property
    def promoted(self) -> bool:
        """Whether the alias was moved."""
        return self.decision != "refused"

    @property
    def exit_code(self) -> int:
        """6 where it was refused."""
        return 0 if self.promoted else 6

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {"gate": one.name, "passed": "yes" if one.passed else "NO", "found": one.found} for one in self.gates
        ]

    def summary(self) -> str:
        over = f" over {self.champion}" if self.champion else ""
        failed = "; ".join(one.found for one in self.gates if not one.passed)
        if self.decision == "refused":
            return f"{self.candidate} is refused as '{self.alias}'{over}: {failed}"
        because = f", forced ({self.reason}) although {failed}" if self.decision == "forced" else ""
        return f"{self.candidate} is '{self.alias}' now{over}{because}"

    def view(self, what: str = "broken") -> Any:
        """As :meth:`ComparisonReport.view`."""
        if self.comparison is None:
            raise UsageError("nothing was compared", f"there was no '{self.alias}'")
        return self.comparison.view(what)

    def plot(self, name: str = "differences") -> Any:
        """As :meth:`ComparisonReport.plot`."""
        if self.comparison is None:
            raise UsageError("nothing was compared", f"there was no '{self.alias}'")
        return self.comparison.plot(name)


def promote(
    candidate: str | ModelVersion,
    over: str = "champion",
    *,
    view: Any,
    slices: Sequence[str] = (),
    margin: float = 0.01,
    slice_margin: float = 0.0,
    max_latency_ratio: float = 1.25,
    max_latency_ms: float | None = None,
    min_images: int = 30,
    min_objects: int = MIN_OBJECTS,
    strict: bool = False,
    force: bool = False,
    reason: str = "",
    n_boot: int = 1000,
    seed: int = SEED,
    progress: Progress = silent,
) -> Verdict:
    """Point an alias at a model version if the evidence allows it; the rule is this module's docstring.

    Both models' predictions are written into the fields ``<model>_v<version>`` of the view's dataset, where they are
    not there already. The verdict is kept in MLflow: as ``verdicts/*.json`` of the candidate's run, and in tags of the
    model version.

    Args:
        candidate: A registered version (``models:/cells/4``).
        over: The alias of the same registered model.
        view: Labelled images that neither model has trained on.
        slices: As for :func:`osv_lab.evaluate.comparison.compare`.
        margin: Largest fall of mAP50-95 overall that is accepted.
        slice_margin: The same of one slice.
        max_latency_ratio: Candidate's time over the other's.
        max_latency_ms: Candidate's median time per image.
        min_images: Fewer are no evidence.
        min_objects: Fewer, overall or in a slice, are no evidence.
        strict: Slices with too few objects refuse.
        force: Move the alias whatever is found; needs a reason.
        reason: Why it was forced.
        n_boot: Resamples.
        seed: Of the resamples.
        progress: Told of images and stages.

    Raises:
        UsageError: forced without a reason, or the candidate is what the alias points at.
        NotFoundError: no such version.
        CheckFailedError: the alias was moved by someone else meanwhile.

    Example:
        >>> from osv_lab.train.registry import register
        >>> candidate = register("candidate.onnx", "cells")
        >>> promote(candidate, view=dataset).summary()
        "models:/cells/2 is refused as 'champion' over models:/cells/1: 20 images with 30 objects: too few, ..."
    """
    if force and not reason.strip():
        raise UsageError("a model is forced only with a reason", repr(reason), "say why: reason='...'")
    version = parse_version(candidate) if isinstance(candidate, str) else candidate
    ref = f"models:/{version.name}/{version.version}"
    now = get_version(version.name, over) if has_alias(version.name, over) else None
    if now is not None and now.version == version.version:
        raise UsageError(f"the candidate is '{over}' already", ref)
    comparison = None
    if now is not None:
        fields = tuple(_predicted(one, view, progress) for one in (now, version))
        comparison = compare(
            view, fields[0], fields[1], n_boot, seed, slices=slices, margin=slice_margin,
            min_objects=min_objects,
            models=tuple(str(_file(one)) for one in (now, version)), progress=progress,  # type: ignore[arg-type]
        )  # fmt: skip
    regressed, unjudged = _slices(comparison, min_objects, slice_margin)
    gates = [_parity(version)]
    if comparison is not None:
        gates = [
            _evidence(comparison, min_images, min_objects),
            _overall(comparison, margin),
            _slice_gate(regressed, unjudged, strict, min_objects),
            *gates,
            _latency(comparison, max_latency_ratio, max_latency_ms),
        ]
    passed = all(one.passed for one in gates)
    verdict = Verdict(
        candidate=ref,
        champion=f"models:/{now.name}/{now.version}" if now else None,
        alias=over,
        decision="promoted" if passed else "forced" if force else "refused",
        gates=tuple(gates),
        regressed=tuple(regressed),
        unjudged=tuple(unjudged),
        reason=reason.strip() if force else "",
        comparison=comparison,
        settings={
            "margin": margin, "slice_margin": slice_margin, "max_latency_ratio": max_latency_ratio,
            "max_latency_ms": max_latency_ms, "min_images": min_images, "min_objects": min_objects, "strict": strict,
            "alpha": ALPHA, "n_boot": n_boot, "seed": seed,
        },
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    # The evidence first: an alias never points at a model whose verdict is not kept.
    verdict = dataclasses.replace(verdict, stored=_store(verdict, version))
    if verdict.promoted:
        kind = "forced" if verdict.decision == "forced" else "promote"
        expected = now.version if now else None
        move_alias(version.name, over, version.version, expected=expected, kind=kind, reason=verdict.reason)
    return verdict


def _file(version: ModelVersion) -> Any:
    from osv_lab.detect.reference import resolve_model

    return resolve_model(f"models:/{version.name}/{version.version}")


def _predicted(version: ModelVersion, view: Any, progress: Progress) -> str:
    from osv_lab.detect import load_detector
    from osv_lab.store.predict import predict

    plain = "".join(letter if letter.isalnum() else "_" for letter in version.name)
    name = f"{plain if plain[0].isalpha() else f'model_{plain}'}_v{version.version}"
    predict(view, load_detector(_file(version)), name, progress=progress)
    return name


def _slices(report: ComparisonReport | None, least: int, margin: float) -> tuple[list[str], list[str]]:
    """Slices that fell beyond luck, and those too small to tell."""
    regressed, unjudged = [], []
    for one in report.differences if report else ():
        if one.metric != "mAP50-95" or one.kind == "all":
            continue
        if one.objects < least:
            unjudged.append(f"{one.name} ({one.objects} objects, {one.difference:+.3f})")
        elif one.difference < -margin and one.p_fall <= ALPHA:
            regressed.append(_told(one))
    return regressed, unjudged


def _told(one: Difference) -> str:
    return (
        f"{one.name} fell by {-one.difference:.3f} ({one.a:.3f} → {one.b:.3f}, 95% [{one.low:+.3f}, {one.high:+.3f}], "
        f"p {one.p_fall:.3f} of all slices together, {one.objects} objects)"
    )


def _evidence(report: ComparisonReport, images: int, objects: int) -> Gate:
    count = report.of().objects
    enough = report.samples >= images and count >= objects
    text = f"{report.samples} images with {count} objects"
    need = f": too few, {images} images and {objects} objects are needed"
    return Gate("evidence", enough, text if enough else text + need)


def _overall(report: ComparisonReport, margin: float) -> Gate:
    one = report.of()
    text = f"mAP50-95 {one.a:.3f} → {one.b:.3f} ({one.difference:+.3f}, 95% [{one.low:+.3f}, {one.high:+.3f}])"
    passed = one.low >= -margin
    return Gate("overall", passed, text if passed else f"{text}: a fall beyond {margin} cannot be ruled out")


def _slice_gate(regressed: Sequence[str], unjudged: Sequence[str], strict: bool, least: int) -> Gate:
    small = f"too few objects (under {least}) to judge: {', '.join(unjudged)}" if unjudged else ""
    passed = not regressed and not (strict and unjudged)
    parts = [*regressed, *([small] if small else [])]
    return Gate("slices", passed, "; ".join(parts) or "no class, size or slice fell beyond its interval")


def _parity(version: ModelVersion) -> Gate:
    if version.digest and model_digest(_file(version)) != version.digest:
        return Gate("parity", False, "the file is not the one that was registered")
    if version.parity != "passed":
        return Gate("parity", False, "the export was never compared with its weights (osv export model --verify)")
    return Gate("parity", True, "the export answers as its weights do")


def _latency(report: ComparisonReport, ratio: float, most_ms: float | None) -> Gate:
    cost = report.cost
    if cost is None:
        return Gate("latency", False, "not measured")
    text = f"{cost.median_ms[0]:.1f} → {cost.median_ms[1]:.1f} ms per image, ratio {cost.ratio:.2f}"
    over = [f"ratio above {ratio}"] if cost.ratio > ratio else []
    if most_ms is not None and cost.median_ms[1] > most_ms:
        over.append(f"above {most_ms} ms")
    return Gate("latency", not over, ": ".join([text, *([" and ".join(over)] if over else [])]))


def _store(verdict: Verdict, version: ModelVersion) -> str:
    """Keep the verdict with the candidate; returns the artifact's address."""
    when = verdict.at.replace(":", "").replace("+0000", "Z")
    file = f"verdicts/{version.name}-v{version.version}-{verdict.alias}-{when}.json"
    tracking.log_text(version.run_id, json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False), file)
    tags = {
        "osv.verdict": verdict.decision, "osv.verdict.over": verdict.champion or "", "osv.verdict.at": verdict.at,
        "osv.verdict.artifact": f"runs:/{version.run_id}/{file}", "osv.verdict.reason": verdict.reason,
        "osv.verdict.why": "; ".join(one.found for one in verdict.gates if not one.passed)[:2000],
    }  # fmt: skip
    store = tracking.client()
    for key, value in tags.items():
        store.set_model_version_tag(version.name, str(version.version), key, value)
    return f"runs:/{version.run_id}/{file}"
