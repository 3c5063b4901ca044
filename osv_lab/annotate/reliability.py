"""Agreement beyond chance between those who rate the same things.

Cohen's kappa: J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20,
1960. Krippendorff's alpha, nominal: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011,
https://repository.upenn.edu/asc_papers/43.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa of two raters' classes of the same things.

    Returns:
        1 for full agreement, 0 for what chance gives, below for less; ``None`` where chance would agree fully, since
        both use one class only, or where there is nothing.

    Example:
        >>> cohen_kappa(["a", "a", "b", "b"], ["a", "a", "b", "a"])
        0.5
    """
    count = len(first)
    if not count:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    ours, theirs = Counter(first), Counter(second)
    expected = sum(ours[name] * theirs[name] for name in ours) / count**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Krippendorff's alpha for nominal ratings.

    Args:
        units: The ratings of each thing, of as many raters as saw it; things with less than two are left out.

    Returns:
        1 for full agreement, 0 for what chance gives; ``None`` where only one class was given, or nothing rated twice.

    Example:
        >>> round(krippendorff_alpha([["a", "a"], ["b", "b"], ["a", "b"], ["b", "b"]]), 3)
        0.533
    """
    rated = [Counter(unit) for unit in units if len(unit) > 1]
    totals: Counter[str] = Counter()
    for unit in rated:
        totals.update(unit)
    count = sum(totals.values())
    observed = sum(
        sum(number * (unit.total() - number) for number in unit.values()) / (unit.total() - 1) for unit in rated
    )
    expected = sum(number * (count - number) for number in totals.values())
    return None if expected == 0 else 1 - (count - 1) * observed / expected
