"""From a recipe's model to a file that Ultralytics can start from, saying where the start came from."""

from __future__ import annotations

from pathlib import Path

from osv_lab.core.errors import NotFoundError, UnavailableError, nearest
from osv_lab.train.rules import architectures
from osv_lab.train.run import Origin


def starting_point(model: str) -> tuple[str, Origin, str]:
    """Find what to start training from.

    Args:
        model: As in :class:`~osv_lab.train.recipe.Recipe`.

    Returns:
        A ``.pt`` path or a ``.yaml`` name, where it comes from, and a note for the user (``""`` for none).

    Raises:
        NotFoundError: a file or reference that does not exist.
        UnavailableError: published weights that were named as a file cannot be fetched; both ways out are given.
    """
    if model.startswith(("models:/", "runs:/")):
        return str(_registered(model)), "given weights", ""
    path = Path(model).expanduser()
    suffix = path.suffix.lower()
    if suffix in {".yaml", ".yml"}:
        if path.is_file():
            return str(path.resolve()), "scratch", ""
        if path.name == str(path) and path.stem.lower() in architectures():
            return f"{path.stem.lower()}.yaml", "scratch", ""
        raise NotFoundError("no such model file", repr(model), nearest(path.stem, architectures()))
    if suffix == ".pt":
        if path.is_file():
            return str(path.resolve()), "given weights", ""
        if path.name != str(path) or path.stem.lower() not in architectures():
            raise NotFoundError("no such weights file", repr(model))
        return _published_or_fail(path.name.lower()), "published weights", ""
    name = model.lower()
    try:
        return str(_published(f"{name}.pt")), "published weights", ""
    except UnavailableError as error:
        reason = error.found or error.what
        return (
            f"{name}.yaml",
            "scratch",
            f"started from scratch: {name}'s published weights cannot be had ({reason})",
        )


def _published(name: str) -> Path:
    from osv_lab.detect.reference import fetch_weights

    return Path(fetch_weights(name))


def _published_or_fail(name: str) -> str:
    try:
        return str(_published(name))
    except UnavailableError as error:
        stem = Path(name).stem
        raise UnavailableError(
            f"the published weights {name} cannot be fetched",
            error.found or error.what,
            f"give a .pt file that is on this machine, or train from scratch with model='{stem}.yaml'",
        ) from error


def _registered(reference: str) -> Path:
    """The ``.pt`` beside what a registry reference resolves to (serving prefers the ``.onnx``)."""
    from osv_lab.detect.reference import resolve_model

    found = Path(resolve_model(reference))
    if found.suffix == ".pt":
        return found
    weights = sorted(found.parent.glob("*.pt"))
    if len(weights) != 1:
        raise NotFoundError(
            "the registered model holds no weights to train from",
            f"{reference} holds {', '.join(sorted(file.name for file in found.parent.iterdir()))}",
            "start from a .pt file",
        )
    return weights[0]
