"""Limits, the spool on disk, and observers that never hold an answer up."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.serve.capture import Capture
from osv_lab.serve.observe import Observation, Observers
from osv_lab.serve.spool import Captured, Spool

SEEN = Observation("m.onnx", 8, 6, 0.5, ((1, 1, 5, 4),), (0.3,), ("car",), (0,), 5, "ab", threshold=0.25)


def png(number: int, size: tuple[int, int] = (8, 6)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def show(capture: Capture, number: int, observation: Observation = SEEN) -> None:
    capture.see(observation, lambda: png(number))


def counts(capture: Capture) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in capture.metrics() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


# -- limits ---------------------------------------------------------------------------------------------------


def test_each_rule_has_an_hour_of_its_own(tmp_path: Path) -> None:
    now = [1e9]
    rules = {"rules": [{"random": 1, "per_hour": 2}, {"near": 0.1, "per_hour": 3}]}
    capture = Capture(rules, tmp_path, clock=lambda: now[0])
    for number in range(5):
        show(capture, number)
    assert len(capture.spool.names()) == 3
    reasons = [list(capture.spool.describe(one).reasons) for one in capture.spool.names()]
    assert sorted(reasons) == [["near"], ["random", "near"], ["random", "near"]]
    measured = counts(capture)
    assert measured['osv_captured_total{rule="near"}'] == 3
    assert measured['osv_capture_dropped_total{rule="random",reason="per_hour"}'] == 3
    assert measured['osv_capture_dropped_total{rule="near",reason="per_hour"}'] == 2
    now[0] += 3601
    show(capture, 10)
    assert len(capture.spool.names()) == 4


def test_a_restart_does_not_give_a_new_hour_nor_forget_what_is_known(tmp_path: Path) -> None:
    rules = {"rules": [{"novelty": 12, "per_hour": 2}]}
    show(Capture(rules, tmp_path), 1, replace(SEEN, hash=0))
    again = Capture(rules, tmp_path)
    show(again, 2, replace(SEEN, hash=1))
    assert len(again.spool.names()) == 1, "too much like the first"
    show(again, 3, replace(SEEN, hash=2**64 - 1))
    show(again, 4, replace(SEEN, hash=2**32 - 1))
    assert len(again.spool.names()) == 2, "the hour is full"
    assert counts(again)['osv_capture_dropped_total{rule="novelty",reason="per_hour"}'] == 1


def test_the_same_image_is_kept_once_and_never_again_by_this_process(tmp_path: Path) -> None:
    capture = Capture("random=1", tmp_path)
    show(capture, 1)
    show(capture, 1)
    show(Capture("random=1", tmp_path), 1)
    [digest] = capture.spool.names()
    assert digest == bytes_digest(png(1))
    capture.spool.remove(capture.spool.describe(digest))
    show(capture, 1)
    assert capture.spool.names() == []
    assert counts(capture)['osv_capture_dropped_total{rule="random",reason="duplicate"}'] == 2


@pytest.mark.parametrize("limits", [{"max_files": 3}, {"max_bytes": 3000}])
def test_a_full_spool_keeps_what_it_has(tmp_path: Path, limits: dict[str, int]) -> None:
    capture = Capture({"rules": [{"random": 1}], **limits}, tmp_path)
    for number in range(8):
        show(capture, number)
    kept = set(capture.spool.names())
    assert kept == {bytes_digest(png(number)) for number in range(len(kept))}
    assert 1 <= len(kept) <= limits.get("max_files", 7)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= limits.get("max_bytes", 10**6)
    assert counts(capture)['osv_capture_dropped_total{rule="random",reason="full"}'] == 8 - len(kept)
    for digest in kept:
        capture.spool.remove(capture.spool.describe(digest))
    show(capture, 20)
    assert len(capture.spool.names()) == 1, "emptied, it takes again"


# -- the spool ------------------------------------------------------------------------------------------------


def test_an_item_is_what_was_received_and_what_was_known(tmp_path: Path) -> None:
    capture = Capture("near=0.1", tmp_path / "spool")
    show(capture, 1)
    [digest] = capture.spool.names()
    item, image = capture.spool.read(digest)
    assert image == png(1)
    assert item.observation == SEEN
    assert item.reasons == {"near": "car scored 0.3, the threshold is 0.25"}
    written = json.loads((tmp_path / "spool" / f"{digest}.json").read_text())
    assert written["boxes"] == [[1 / 8, 1 / 6, 0.5, 0.5]]
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0, "for its owner only"
    names = sorted(path.name for path in (tmp_path / "spool").iterdir())
    assert names == [".lock", f"{digest}.json", f"{digest}.png"]


def test_what_somebody_put_into_a_spool_is_not_taken(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.make()
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(9))
    digests = [bytes_digest(png(number)) for number in range(6)]
    for number, digest in enumerate(digests):
        assert spool.put(Captured(digest, ".png", 1e9, {"near": "x"}, SEEN), png(number)) == ""
    sidecar = json.loads((spool.folder / f"{digests[0]}.json").read_text())

    def write(number: int, change: dict[str, object]) -> None:
        content = {**sidecar, "digest": digests[number], **change}
        (spool.folder / f"{digests[number]}.json").write_text(json.dumps(content))

    write(0, {"suffix": "/../../secret.png"})
    write(1, {"digest": "0" * 64})
    (spool.folder / f"{digests[2]}.png").unlink()
    (spool.folder / f"{digests[2]}.png").symlink_to(secret)
    (spool.folder / f"{digests[3]}.png").write_bytes(png(0))
    (spool.folder / f"{digests[4]}.json").write_text("[" * 100_000)
    (spool.folder / f"{digests[5]}.json").unlink()
    os.mkfifo(spool.folder / f"{digests[5]}.json")
    assert sorted(spool.names()) == sorted(digests)
    for digest in digests:
        with pytest.raises(InvalidDataError):
            spool.read(digest)
    with pytest.raises(InvalidDataError):
        spool.describe("../secret")


def test_a_folder_that_cannot_be_a_spool(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        Capture("random=1", tmp_path / "file" / "spool")
    with pytest.raises(NotFoundError):
        Spool(tmp_path / "none").names()


def _fill(folder: Path, first: int, begun: Callable[[], None], most: int) -> None:
    capture = Capture({"rules": [{"random": 1, "per_hour": 10**6}], "max_files": most}, folder)
    begun()
    for number in range(first, first + 200):
        show(capture, number)


def test_writers_that_are_killed_leave_whole_items_only(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for turn in range(4):
        begun = context.Event()
        writer = context.Process(target=_fill, args=(tmp_path, 1000 * turn, begun.set, 10**6))
        writer.start()
        assert begun.wait(30)
        time.sleep(0.02 + 0.03 * turn)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
    spool = Spool(tmp_path)
    assert spool.names()
    assert all(spool.read(digest)[1] for digest in spool.names())
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    Capture("random=1", tmp_path)
    left = {path.name for path in tmp_path.iterdir()} - {".lock"}
    assert left == {f"{digest}{suffix}" for digest in spool.names() for suffix in (".json", ".png")}


def test_processes_share_a_spool_and_its_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    # Half of what each has the other has too.
    writers = [context.Process(target=_fill, args=(tmp_path, start, int, 250)) for start in (0, 100)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    spool = Spool(tmp_path)
    assert len(spool.names()) == 250
    assert all(spool.read(digest)[0].digest == digest for digest in spool.names())


# -- observers ------------------------------------------------------------------------------------------------


class Slow:
    def __init__(self) -> None:
        self.gate, self.seen = threading.Event(), 0

    def see(self, observation: Observation, image: Callable[[], bytes]) -> None:
        self.gate.wait(30)
        self.seen += 1
        if image() == b"bad":
            raise RuntimeError("an observer's own fault")

    def metrics(self) -> list[str]:
        return []


def test_observers_drop_what_they_cannot_keep_up_with() -> None:
    slow = Slow()
    observers = Observers([slow], most=5, most_bytes=100)
    for _ in range(20):
        observers.offer(SEEN, lambda: b"bad", 10)
    observers.offer(SEEN, bytes, 1000)
    slow.gate.set()
    assert observers.settle()
    assert 5 <= slow.seen <= 6, "one was being looked at"
    text = observers.text()
    assert f'osv_observations_total{{outcome="observed"}} {slow.seen}' in text
    assert f'osv_observations_total{{outcome="dropped"}} {21 - slow.seen}' in text
    assert f'osv_observations_total{{outcome="failed"}} {slow.seen}' in text
    observers.offer(SEEN, bytes)
    observers.close()
    assert slow.seen == 7 or "dropped" in observers.text()
    before = slow.seen
    observers.offer(SEEN, bytes)
    assert slow.seen == before


def test_closing_looks_at_what_waits(tmp_path: Path) -> None:
    capture = Capture("random=1", tmp_path)
    observers = Observers([capture])
    for number in range(20):
        observers.offer(SEEN, lambda number=number: png(number))  # type: ignore[misc]
    observers.close()
    assert len(capture.spool.names()) == 20
