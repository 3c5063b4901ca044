"""Training in a process of its own, and the board that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from osv_lab.core.errors import UsageError
from osv_lab.train import background
from osv_lab.train.recipe import Recipe
from osv_lab.train.run import find_run
from osv_lab.widgets import TrainingBoard

TIMEOUT_S = 300


def until(condition: Callable[[], Any], process: background.TrainingProcess) -> Any:
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, process.log.read_text()
        time.sleep(0.2)
    return found


def test_a_run_is_started_watched_stopped_and_resumed(shapes: Callable[..., Any], recipe: Recipe) -> None:
    dataset = shapes(train=8, val=4)
    dataset.persistent = True
    many = Recipe.from_dict({**recipe.to_dict(), "epochs": 300})
    board = TrainingBoard(dataset, many, experiment="board")
    board.load()
    assert board.state == "ready" and not board.data["runs"]
    board.start()
    process = background.current("board")
    assert process is not None and process.running and board.data["running"]
    with pytest.raises(UsageError, match="training already"):
        board.start()

    def epochs() -> int:
        board.look()
        assert process.running, process.log.read_text()
        return int(board.data["runs"][0]["epochs"]) if board.data["runs"] else 0

    until(lambda: epochs() >= 2, process)
    run = board.data["runs"][0]
    assert board.run == run["name"] and run["status"] == "training" and run["total"] == 300
    assert len(run["history"]["mAP50"]) == len(run["history"]["epoch"]) >= 1
    board.stop()
    until(lambda: not process.running, process)
    board.look()
    assert process.code == 130 and not board.data["problem"] and not board.data["running"]
    assert find_run(run["name"])[1].status == "interrupted" and "polyline" in board.static_html()
    board.use(run["name"])
    assert board.recipe == many
    board.resume(run["name"])
    again = background.current("board")
    assert again is not None and again is not process and again.running
    again.stop(wait=True)


def test_what_went_wrong_is_said(shapes: Callable[..., Any], recipe: Recipe) -> None:
    dataset = shapes(test=2)
    dataset.persistent = True
    board = TrainingBoard(dataset, recipe, experiment="nothing to learn")
    board.start()
    process = background.current("nothing to learn")
    assert process is not None
    until(lambda: not process.running, process)
    board.look()
    assert process.code not in (0, None) and board.data["problem"].startswith("osv:")
    with pytest.raises(UsageError, match="neither a recipe nor a run"):
        background.start(dataset.name, None)
