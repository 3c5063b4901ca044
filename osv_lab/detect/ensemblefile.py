"""What the file of an ensemble says; see :mod:`osv_lab.detect.ensemble`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from osv_lab.core.errors import InvalidDataError, UsageError, nearest
from osv_lab.detect.fusion import FUSIONS, checked_weights

SUFFIXES = (".yaml", ".yml", ".json")
"""What an ensemble's file may be called. An untrained architecture is a ``.yaml`` too, without ``models``."""

MOST_MEMBERS = 16

LEAST_SCORE = 0.05
"""What a member finds below this is not fused. Higher than what is asked for would hide what members agree on."""

_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Member:
    """One detector of an ensemble.

    Attributes:
        model: Its reference.
        weight: How much it counts.
        imgsz: Its input size, where it takes any.
        flip: Whether it sees the image mirrored left to right.
        rename: The ensemble's name for a class that it calls otherwise.
    """

    model: str
    weight: float = 1.0
    imgsz: int | tuple[int, int] | None = None
    flip: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EnsembleSpec:
    """What an ensemble's file says.

    Attributes:
        members: The detectors.
        fuse: One of :data:`osv_lab.detect.fusion.FUSIONS`.
        iou: Overlap above which boxes of different members are one object; that of each prediction when ``None``,
            which leaves apart what each member leaves apart.
        least_score: What a member finds below this is not fused.
    """

    members: tuple[Member, ...]
    fuse: str = "wbf"
    iou: float | None = None
    least_score: float = LEAST_SCORE

    @classmethod
    def from_file(cls, path: str | Path) -> EnsembleSpec:
        """Read one.

        Raises:
            InvalidDataError: it is no description of an ensemble.
        """
        path = Path(path)
        content = _content(path)
        if content is None:
            raise InvalidDataError("not an ensemble", path.name, "write models: [a.onnx, b.onnx]")
        try:
            return cls.from_dict(content, path.resolve().parent)
        except (UsageError, TypeError, ValueError) as error:
            raise InvalidDataError("the ensemble cannot be used", f"{path.name}: {error}") from None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], folder: Path | None = None) -> EnsembleSpec:
        """From plain values.

        Args:
            folder: Where relative paths begin.

        Raises:
            UsageError: a key there is not, or a value that cannot be used.
        """
        allowed = ("models", "weights", "fuse", "iou", "least_score")
        _check_keys(content, allowed, "an ensemble")
        models = content.get("models")
        if not isinstance(models, list) or not 1 <= len(models) <= MOST_MEMBERS:
            raise UsageError("models must be a list", repr(models)[:80], f"give 1 to {MOST_MEMBERS} models")
        members = [_member(one, folder) for one in models]
        if (weights := content.get("weights")) is not None:
            share = checked_weights(weights, len(members)).tolist()
            members = [Member(**{**vars(one), "weight": w}) for one, w in zip(members, share, strict=True)]
        checked_weights([one.weight for one in members], len(members))
        how, iou = content.get("fuse", "wbf"), None if content.get("iou") is None else float(content["iou"])
        least = float(content.get("least_score", LEAST_SCORE))
        if how not in FUSIONS:
            raise UsageError("no such way to fuse", repr(how), nearest(str(how), FUSIONS))
        for name, value in (("iou", iou), ("least_score", least)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name} must lie between 0 and 1", value)
        return cls(tuple(members), how, iou, least)


def is_ensemble(path: Path) -> bool:
    """Whether a file describes an ensemble, and not an architecture or something else."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    return _content(path) is not None


def _content(path: Path) -> dict[str, Any] | None:
    """What a file holds, where it is an ensemble's."""
    import yaml

    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        content = yaml.safe_load(path.read_text("utf-8"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return None
    return content if isinstance(content, dict) and "models" in content else None


def _member(one: object, folder: Path | None) -> Member:
    said = {"model": one} if isinstance(one, str) else one
    if not isinstance(said, Mapping) or not isinstance(said.get("model"), str):
        raise UsageError("a model of an ensemble is a reference", repr(one)[:80], "name one, as best.onnx")
    _check_keys(said, Member.__dataclass_fields__, "a model of an ensemble")
    given: dict[str, Any] = dict(said)
    path = Path(given["model"]).expanduser()
    if folder is not None and ":/" not in given["model"] and (folder / path).exists():
        given["model"] = str(folder / path)
    if isinstance(given.get("imgsz"), list):
        given["imgsz"] = tuple(given["imgsz"])
    given["weight"] = float(given.get("weight", 1.0))
    for name, kind in (("flip", bool), ("rename", Mapping)):
        if name in given and not isinstance(given[name], kind):
            raise UsageError(f"{name} cannot be used", repr(given[name])[:80], "see osv_lab.detect.ensemble")
    given["rename"] = {str(old): str(new) for old, new in given.get("rename", {}).items()}
    return Member(**given)


def _check_keys(content: Mapping[str, Any], allowed: Sequence[str] | Mapping[str, Any], what: str) -> None:
    for key in content:
        if key not in allowed:
            raise UsageError(f"{what} has no", repr(key), nearest(str(key), list(allowed)))
