"""What panels look at again and again is made once, and none waits for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from osv_lab.app import kept as module
from osv_lab.app.kept import NotYetError, kept, kept_soon


@pytest.fixture
def dataset(fo: Any, dataset_name: str) -> Any:
    dataset = fo.Dataset(dataset_name)
    dataset.add_sample(fo.Sample("a.png"))
    return dataset


class Making:
    """What is made counts how often it was."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> int:
        self.times += 1
        return self.times


def test_it_is_made_anew_when_the_dataset_has_changed(dataset: Any) -> None:
    make = Making()
    assert [kept(dataset, make, "a"), kept(dataset, make, "a"), kept(dataset, make, "b")] == [1, 1, 2]
    sample = dataset.first()
    sample.tags = ["changed"]
    sample.save()
    assert kept(dataset, make, "a") == 3


def test_a_panel_does_not_wait_for_what_takes_long(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    go, times = threading.Event(), Making()

    def make() -> int:
        go.wait(60)
        return times()

    for _ in range(2):
        with pytest.raises(NotYetError):
            kept_soon(dataset, make, "slow")
    go.set()
    monkeypatch.setattr(module, "PATIENCE_S", 60)
    assert [kept_soon(dataset, make, "slow"), kept(dataset, make, "slow"), times.times] == [1, 1, 1]


def test_a_dataset_that_goes_on_changing_is_shown_and_what_nobody_came_for_is_made_anew(
    dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = Making()

    def changed_meanwhile() -> None:
        """It is asked for, becomes ready, and the dataset changes before anybody looks again."""
        go = threading.Event()
        monkeypatch.setattr(module, "PATIENCE_S", 0.01)
        with pytest.raises(NotYetError):
            kept_soon(dataset, lambda: go.wait(60) and times(), "changing")
        making = module._making[dataset.name, "changing"]
        go.set()
        making.future.result(60)
        dataset.add_sample(dataset.first().copy())
        monkeypatch.setattr(module, "PATIENCE_S", 60)

    changed_meanwhile()
    assert [kept_soon(dataset, times, "changing"), kept_soon(dataset, times, "changing")] == [1, 2]
    monkeypatch.setattr(module, "FRESH_S", -1)
    dataset.add_sample(dataset.first().copy())
    changed_meanwhile()
    assert kept_soon(dataset, times, "changing") == 4


def test_what_fails_meanwhile_is_told_and_may_be_tried_again(
    dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    go, made = threading.Event(), Making()

    def make() -> int:
        go.wait(60)
        if made() == 1:
            raise ValueError("no such moon")
        return 7

    with pytest.raises(NotYetError):
        kept_soon(dataset, make, "failing")
    go.set()
    monkeypatch.setattr(module, "PATIENCE_S", 60)
    with pytest.raises(ValueError, match="no such moon"):
        kept_soon(dataset, make, "failing")
    assert kept_soon(dataset, make, "failing") == 7
