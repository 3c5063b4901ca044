"""Thresholds kept with a model: in the sidecar of its file, which a registered version takes along."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osv_lab.core.digests import value_digest
from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.files import write_atomic
from osv_lab.core.sidecars import read_sidecar, sidecar_path, update_sidecar
from osv_lab.detect.confidence import OTHERS

SIDECAR_TAG = "osv.sidecar"
"""The tag of a registered version that says which sidecar it has by now: copies on other machines are made anew."""


def save_thresholds(
    model: str | Path, confidences: Mapping[str, float], about: Mapping[str, Any], needed: Sequence[str] = ()
) -> Path | str:
    """Keep confidence thresholds with a model, in place of those it had.

    Args:
        model: A model file, or ``models:/name@alias`` or ``models:/name/3``.
        confidences: By class name; ``"*"`` for the others. Of classes that the model does not have nothing is kept.
        about: What else to write beside them: what they were chosen for, and on what.
        needed: Classes that the model must have, since they were predicted.

    Returns:
        The sidecar's path, or the registered version's reference.

    Raises:
        NotFoundError: no such model.
        UsageError: a needed class is none of the model's, or a reference that is neither a file nor registered.
    """
    from osv_lab.detect import load_detector
    from osv_lab.detect.reference import resolve_model

    text = str(model)
    if text.startswith("runs:/"):
        raise UsageError("thresholds are kept with a file or a registered version", text, "register it first")
    path = resolve_model(model)
    names = load_detector(model).class_names
    if missing := [name for name in needed if name not in names]:
        raise UsageError("the model has no class that was predicted", repr(missing[0]), nearest(missing[0], names))
    kept = {name: value for name, value in confidences.items() if name in (*names, OTHERS)}
    stored = read_sidecar(path).get("thresholds")
    thresholds = {**(stored if isinstance(stored, Mapping) else {}), "confidence": kept, **about}
    if not text.startswith("models:/"):
        return update_sidecar(path, {"thresholds": thresholds})
    return _save_registered(text, path, thresholds)


def _save_registered(ref: str, path: Path, thresholds: Mapping[str, Any]) -> str:
    """Replace the sidecar among the version's artifacts; its tag has every copy on a machine made anew.

    Raises:
        UsageError: the version's files are no artifacts of a run.
    """
    from osv_lab.detect.reference import registered_version
    from osv_lab.train import tracking

    version = registered_version(ref)
    content = {**read_sidecar(path), "thresholds": dict(thresholds)}
    store = tracking.client()
    if not str(version.source).startswith("runs:/"):
        raise UsageError(
            "thresholds are kept only with files that a run holds",
            f"{ref} lies at {version.source}",
            "register the file with osv_lab.train.registry.register(), or keep them with the file itself",
        )
    run_id, _, folder = str(version.source).removeprefix("runs:/").partition("/")
    with tempfile.TemporaryDirectory() as temporary:
        copy = sidecar_path(Path(temporary) / path.name)
        write_atomic(copy, _text(content))
        tracking.log_files(run_id, {copy: folder})
    store.set_model_version_tag(version.name, version.version, SIDECAR_TAG, value_digest(content)[:16])
    return f"models:/{version.name}/{version.version}"


def _text(content: Mapping[str, Any]) -> str:
    import json

    from osv_lab.core.report import plain

    return json.dumps(plain(content), indent=2, ensure_ascii=False)
