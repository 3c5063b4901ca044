"""Splits: stratified, seeded, stable."""

from __future__ import annotations

from collections import Counter

import pytest

from osv_lab.core.errors import UsageError
from osv_lab.store.splits import check_ratios, stratified


def test_ratios_hold_for_all_samples_and_for_each_class() -> None:
    content = {f"{k}": ["common"] * (k % 2) + ["rare"] * (k % 10 == 0) for k in range(1000)}
    placed = stratified(content)

    assert Counter(placed.values()) == pytest.approx({"train": 800, "val": 100, "test": 100}, abs=8)
    for name, total in (("common", 500), ("rare", 100)):
        found = Counter(placed[key] for key, names in content.items() if name in names)
        assert found == pytest.approx({"train": 0.8 * total, "val": 0.1 * total, "test": 0.1 * total}, abs=2)


def test_the_order_of_the_samples_does_not_matter_and_the_seed_does() -> None:
    content = {f"{k}": ["a" if k % 3 else "b"] for k in range(100)}
    backwards = dict(reversed(content.items()))

    assert stratified(content) == stratified(backwards)
    assert stratified(content) != stratified(content, seed=52)


def test_new_samples_fill_what_existing_ones_leave_to_be_wanted() -> None:
    existing = {"train": {"": 80, "a": 80}, "val": {"": 0}, "test": {"": 20, "a": 20}}
    placed = stratified({f"{k}": ["a"] for k in range(100)}, existing=existing)

    assert Counter(placed.values()) == {"train": 80, "val": 20}


def test_a_class_with_one_sample_goes_to_train_and_backgrounds_are_spread() -> None:
    placed = stratified({"only": ["unique"], **{f"{k}": [] for k in range(99)}})

    assert placed["only"] == "train"
    assert Counter(placed.values()) == {"train": 80, "val": 10, "test": 10}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_samples_all_get_a_split(count: int) -> None:
    placed = stratified({f"{k}": ["a"] for k in range(count)})

    assert len(placed) == count
    assert Counter(placed.values())["train"] >= count - 2


def test_ratios_are_checked() -> None:
    assert check_ratios((7, 3)) == {"train": 0.7, "val": 0.3}
    assert check_ratios({"train": 1, "test": 0}) == {"train": 1.0}
    for wrong in ((), (1, 2, 3, 4), (0, 0), (-1, 2), {"train": float("nan")}, {"training": 1}, (float("inf"), 1)):
        with pytest.raises(UsageError):
            check_ratios(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="did you mean 'val'"):
        check_ratios({"vall": 1})
