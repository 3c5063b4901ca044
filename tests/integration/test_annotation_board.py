"""The annotation board against the server double: what was sent, what is done, what came back."""

from __future__ import annotations

import json
from typing import Any

from annotation_people import Annotator

from osv_lab.annotate import AnnotationLoop
from osv_lab.widgets import AnnotationBoard


def ask(board: AnnotationBoard, do: str, **values: Any) -> Any:
    sent: list[Any] = []
    board.send = lambda content, buffers=None: sent.append(content)
    board._received(board, {"do": do, "id": "q", **values}, [])
    json.dumps(sent[-1], allow_nan=False)
    return sent[-1]["error"] if "error" in sent[-1] else sent[-1]["answer"]


def test_jobs_are_watched_and_pulled(loop: AnnotationLoop, pets: Any) -> None:
    board = AnnotationBoard(loop)
    board.load()
    assert board.state == "empty"
    task = loop.send(pets, "key", "pred", segment_size=2)
    ask(board, "again")
    assert board.state == "ready" and [job["state"] for job in board.data["jobs"]] == ["new"] * 3
    assert sum(job["frames"] for job in board.data["jobs"]) == 6
    Annotator(loop.connection, task.task).finish()
    ask(board, "look")
    assert {job["state"] for job in board.data["jobs"]} == {"completed"}
    said = ask(board, "pull", run="key")
    assert "18" in said["note"]
    ask(board, "open_run", run="key")
    assert len(board.view) == 6 and "3 of 3 jobs" in board.static_html()
    assert "'other'" in ask(board, "pull", run="other")


def test_a_server_that_is_gone_is_said(loop: AnnotationLoop, pets: Any) -> None:
    loop.send(pets, "key", "pred")
    gone = AnnotationLoop(pets, "http://127.0.0.1:9", ("ann", "secret"), deadline_s=1)
    board = AnnotationBoard(gone, "key")
    board.load()
    assert board.state == "error" and board.told["what"] and board.told["fix"]
