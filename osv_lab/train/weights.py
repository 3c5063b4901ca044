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
    from osv_lab.detect.reference import fetch_weights, resolve_model

    if model.startswith(("models:/", "runs:/")):
        found = resolve_model(model, prefer=(".pt",))
        if found.suffix != ".pt":
            raise NotFoundError(
                "the registered model holds no weights to train from",
                f"{model} is {found.name}",
                "start from a .pt file",
            )
        return str(found), "given weights", ""
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
        return str(fetch_weights(path.name.lower())), "published weights", ""
    name = model.lower()
    try:
        return str(fetch_weights(name)), "published weights", ""
    except UnavailableError as error:
        reason = error.found or error.what
        return (
            f"{name}.yaml",
            "scratch",
            f"started from scratch: {name}'s published weights cannot be had ({reason})",
        )
