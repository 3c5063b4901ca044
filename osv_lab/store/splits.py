"""Train, val and test: seeded, stratified by class content, and never moving a sample that has a split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.settings import SEED, SPLITS

DEFAULT_RATIOS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}


def check_ratios(ratios: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
    """Ratios by split name, summing to one.

    Args:
        ratios: By name, or two or three numbers for train, val and test. Any positive scale: ``(80, 10, 10)`` will do.

    Raises:
        UsageError: an unknown name, a negative number, or nothing above zero.

    Example:
        >>> check_ratios((80, 20))
        {'train': 0.8, 'val': 0.2}
    """
    if not isinstance(ratios, Mapping):
        if not 1 <= len(ratios) <= len(SPLITS):
            raise UsageError("split ratios are one to three numbers", tuple(ratios), "for example (0.8, 0.1, 0.1)")
        ratios = dict(zip(SPLITS, ratios, strict=False))
    for name in ratios:
        if name not in SPLITS:
            raise UsageError("unknown split", repr(name), nearest(str(name), SPLITS))
    total = sum(ratios.values())
    if any(not ratio >= 0 for ratio in ratios.values()) or not 0 < total < float("inf"):
        raise UsageError("split ratios must be zero or more, with one above zero", dict(ratios))
    return {name: ratios[name] / total for name in SPLITS if ratios.get(name)}


def parse_split(text: str | None) -> str | dict[str, float] | None:
    """A split, or shares by split, as they are typed in a form or on the command line.

    Raises:
        UsageError: it is neither, or as for :func:`check_ratios`.

    Example:
        >>> parse_split("train"), parse_split("train=80,val=20")
        ('train', {'train': 0.8, 'val': 0.2})
    """
    if text is None or "=" not in text:
        return text
    try:
        shares = {name.strip(): float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise UsageError(
            "a split is a name or shares", repr(text), "write train, or train=0.8,val=0.1,test=0.1"
        ) from None
    return check_ratios(shares)


def stratified(
    content: Mapping[str, Iterable[str]],
    ratios: Mapping[str, float] | Sequence[float] = DEFAULT_RATIOS,
    *,
    existing: Mapping[str, Mapping[str, int]] | None = None,
    groups: Mapping[str, str] | None = None,
    seed: int = SEED,
) -> dict[str, str]:
    """Give each sample a split so that every class is spread over the splits by the ratios.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
    2011): the class with the fewest samples left is placed first, each sample going where that class is most
    wanted, then where samples are most wanted. Ties and order follow a hash of the sample's key and the seed, so the
    result does not depend on the order of ``content``.

    Args:
        content: Class names in each sample, by a key of the sample (its content digest).
        ratios: See :func:`check_ratios`.
        existing: Samples that have a split already, as counts by split and class, with ``""`` counting all samples
            of the split. They are not moved; new samples fill what they leave to be wanted.
        groups: The group of a key (a patient, a scene). The samples of a group get one split, the largest groups
            first; a key without a group stands for itself.
        seed: Another seed gives another, equally good division.

    Returns:
        The split of each key.

    Example:
        >>> splits = stratified({str(i): ["cat"] for i in range(10)})
        >>> sorted(splits.values())
        ['test', 'train', 'train', 'train', 'train', 'train', 'train', 'train', 'train', 'val']
    """
    shares = check_ratios(ratios)
    existing = existing or {}
    units: dict[tuple[bool, str], Counter[str]] = {}
    unit_of = {}
    for key, names in content.items():
        # Whether it is a group keeps a group from being mixed up with a key of the same name.
        unit_of[key] = unit = (True, groups[key]) if groups and key in groups else (False, key)
        units.setdefault(unit, Counter()).update({"", *names})
    placed = _place(units, shares, existing, seed)
    return {key: placed[unit] for key, unit in unit_of.items()}


Unit: TypeAlias = tuple[bool, str]


def _place(
    units: Mapping[Unit, Counter[str]],
    shares: Mapping[str, float],
    existing: Mapping[str, Mapping[str, int]],
    seed: int,
) -> dict[Unit, str]:
    """The split of each unit: a sample, or a group, with how many of its samples show each class."""
    order = {
        unit: hashlib.sha256(f"{seed} {unit[1]}".encode("utf-8", "surrogateescape")).digest() for unit in units
    }
    left: Counter[str] = Counter()
    members: dict[str, list[Unit]] = {}
    for unit in sorted(units, key=lambda unit: (-units[unit][""], order[unit], unit)):
        left.update(units[unit])
        for name in units[unit]:
            members.setdefault(name, []).append(unit)
    wanted = {
        split: {
            name: share * (count + sum(counts.get(name, 0) for counts in existing.values()))
            - existing.get(split, {}).get(name, 0)
            for name, count in left.items()
        }
        for split, share in shares.items()
    }
    placed: dict[Unit, str] = {}
    while left:
        # All samples count under "", which therefore comes last, and then holds those without any class.
        rarest = min(left, key=lambda name: (left[name], name == "", name))
        for unit in members[rarest]:
            if unit in placed:
                continue
            split = max(shares, key=lambda split: (wanted[split][rarest], wanted[split][""], shares[split]))
            placed[unit] = split
            for name, count in units[unit].items():
                wanted[split][name] -= count
                left[name] -= count
        left = Counter({name: count for name, count in left.items() if count > 0})
    return placed
