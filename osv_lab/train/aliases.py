"""Moving an alias so that every move is remembered and can be taken back.

The history is a tag of the registered model, written before the alias moves. MLflow has no transaction over both, so
reading believes the alias: a move that was written and then killed before it happened is not in the history.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from osv_lab.core.errors import CheckFailedError, NotFoundError, UsageError
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.train import tracking
from osv_lab.train.locks import exclusive
from osv_lab.train.registry import ModelVersion, get_version, has_alias, list_models, set_alias

ANY = -1
"""For ``expected``: wherever it points."""

_KEPT = 200


@dataclass(frozen=True)
class Move:
    """One move of an alias.

    Attributes:
        to: The version that it points at afterwards.
        before: Where it pointed; ``None`` where there was no such alias.
        at: When, as ISO 8601 in UTC.
        kind: ``register``, ``promote``, ``forced``, ``rollback``, or ``elsewhere`` for one that was not made by these
            functions.
        reason: Why, where someone said so.
    """

    to: int
    before: int | None
    at: str
    kind: str
    reason: str = ""


@dataclass(frozen=True)
class AliasHistory(Report):
    """Where an alias has pointed, oldest first."""

    name: str
    alias: str
    moves: tuple[Move, ...]

    def rows(self) -> list[Mapping[str, Any]]:
        return [asdict(move) for move in self.moves]

    def summary(self) -> str:
        now = f"version {self.moves[-1].to}" if self.moves else "nothing"
        return f"{self.name}@{self.alias} is {now} after {len(self.moves)} moves"

    def previous(self) -> int | None:
        """The version that a rollback goes to: each rollback takes one earlier move back."""
        path: list[int] = []
        for move in self.moves:
            if move.kind == "rollback":
                if path:
                    path.pop()
                continue
            if not path and move.before is not None:
                path.append(move.before)
            path.append(move.to)
        return path[-2] if len(path) > 1 else None


def alias_history(name: str, alias: str = "champion") -> AliasHistory:
    """Every move of an alias that happened.

    Raises:
        NotFoundError: no such registered model.
    """
    get_version(name)
    now = get_version(name, alias).version if has_alias(name, alias) else None
    said = tracking.client().get_registered_model(name).tags.get(_tag(alias), "[]")
    moves = [Move(**move) for move in json.loads(said)]
    if moves and moves[-1].to != now and moves[-1].before == now:
        moves.pop()
    if now is not None and (not moves or moves[-1].to != now):
        before = moves[-1].to if moves else None
        moves.append(Move(now, before, "", "elsewhere"))
    return AliasHistory(name, alias, tuple(moves))


def move_alias(
    name: str, alias: str, to: int, *, expected: int | None, kind: str = "promote", reason: str = ""
) -> ModelVersion:
    """Point an alias at a version, if it still points where it is expected to (:data:`ANY`: wherever it does).

    Raises:
        CheckFailedError: it has been moved meanwhile.
        NotFoundError: no such version.
    """
    found = get_version(name, version=to)
    with exclusive(load_settings().home / ".aliases.lock"):
        now = get_version(name, alias).version if has_alias(name, alias) else None
        if expected not in (ANY, now):
            raise CheckFailedError(
                f"the alias '{alias}' has been moved meanwhile",
                f"it points at version {now}, not {expected}",
                "compare with that version",
            )
        if now == found.version:
            return found
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        moves = [*alias_history(name, alias).moves, Move(to, now, at, kind, reason)][-_KEPT:]
        moves = [replace(move, at=move.at or at) for move in moves]
        tracking.client().set_registered_model_tag(name, _tag(alias), json.dumps([asdict(move) for move in moves]))
        return set_alias(name, alias, to)


def rollback(name: str, alias: str = "champion", *, reason: str = "") -> ModelVersion:
    """Point an alias back at the version before; again goes back further.

    Raises:
        NotFoundError: there is no such alias, or nothing to go back to.

    Example:
        >>> from osv_lab.train.registry import register
        >>> register("candidate.onnx", "cells", alias="champion").version
        2
        >>> rollback("cells").version
        1
    """
    now = get_version(name, alias).version
    to = alias_history(name, alias).previous()
    if to is None:
        raise NotFoundError("there is no earlier version to go back to", f"models:/{name}@{alias}")
    return move_alias(name, alias, to, expected=now, kind="rollback", reason=reason)


def parse_version(ref: str) -> ModelVersion:
    """The version that ``models:/name@alias``, ``models:/name/3`` or ``models:/name`` (the newest) names.

    Raises:
        UsageError: not such a reference.
        NotFoundError: no such model or version.
    """
    inside = ref.removeprefix("models:/")
    if "@" in inside:
        name, _, alias = inside.partition("@")
        return get_version(name, alias)
    name, _, number = inside.partition("/")
    if not name or (number and not number.isdigit()):
        known = ", ".join(one.ref for one in list_models()) or "(none)"
        raise UsageError("not a registered model", repr(ref), f"write models:/NAME/3; there are {known}")
    return get_version(name, version=int(number) if number else None)


def _tag(alias: str) -> str:
    return f"osv.alias_history.{alias}"
