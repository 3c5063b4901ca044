"""Runs one package's trackers, in that package's environment. Needs nothing but NumPy and the package.

Reads one request per line from standard input, ``{"tracker", "scenes", "out", "looks"}``, and answers with one line:
``{"seconds": CPU time of all updates, "frames": their number}``. Results are written to ``out`` as frame, identity, x1,
y1, x2, y2 rows per scene.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Update = Callable[[np.ndarray, Any, Any], np.ndarray]
"""Takes (n, 5) boxes with confidence, embeddings and the (2, 3) camera motion (or ``None``).

The trackers named ``...+motion`` are given the motion; a package that can only estimate it is handed it where it would
have called its estimator, so that no side pays for the estimate.
"""


def compiled(name: str, frame_rate: float) -> Update:
    """The trackers of ``ours`` with their compiled update."""
    from osv_lab.track.compiled import CompiledBotSort, CompiledByteTrack

    return ours(name, frame_rate, CompiledByteTrack, CompiledBotSort)


def ours(name: str, frame_rate: float, byte_track: Any = None, bot_sort: Any = None) -> Update:
    from osv_lab.track.botsort import BotSort
    from osv_lab.track.bytetrack import ByteTrack
    from osv_lab.track.deepsort import DeepSort
    from osv_lab.track.settings import BotSortSettings, ByteTrackSettings, DeepSortSettings

    tracker: Any
    if name == "deepsort":
        tracker = DeepSort(DeepSortSettings(least=0.1), frame_rate=frame_rate)
    else:
        kind, settings = {
            "bytetrack": (byte_track or ByteTrack, ByteTrackSettings.published()),
            "botsort": (bot_sort or BotSort, BotSortSettings.published()),
            "default": (bot_sort or BotSort, BotSortSettings()),
        }[name.removesuffix("+motion")]
        tracker = kind(settings, frame_rate=frame_rate)

    def prepare(rows: np.ndarray) -> Any:
        return np.ascontiguousarray(rows[:, :4]), np.ascontiguousarray(rows[:, 4])

    def update(seen: Any, looks: Any, warp: Any) -> Any:
        if name == "deepsort":
            tracker.update(*seen, embeddings=looks)
        else:
            tracker.update(*seen, warp=warp)

    def result() -> np.ndarray:
        ids, boxes = tracker.current()
        return np.column_stack((ids, boxes))

    update.prepare, update.result = prepare, result  # type: ignore[attr-defined]
    return update


def ultralytics(name: str, frame_rate: float) -> Update:
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.bot_sort import BOTSORT
    from ultralytics.trackers.byte_tracker import BYTETracker

    args = SimpleNamespace(
        track_high_thresh=0.6, track_low_thresh=0.1, new_track_thresh=0.7, track_buffer=min(round(frame_rate), 30),
        match_thresh=0.9 if name == "bytetrack" else 0.8, fuse_score=True, gmc_method="none", proximity_thresh=0.5,
        appearance_thresh=0.8, with_reid=False, model="auto",
    )  # fmt: skip
    tracker = (BYTETracker if name == "bytetrack" else BOTSORT)(args)
    state: dict[str, Any] = {}
    image = None
    if name.endswith("+motion"):
        tracker.gmc = SimpleNamespace(method="given", apply=lambda *_: state["warp"])
        image = np.zeros((8, 8, 3), np.uint8)

    def prepare(rows: np.ndarray) -> Any:
        return Boxes(np.column_stack((rows, np.zeros(len(rows)))).astype(np.float32), (1080, 1920))

    def update(boxes: Any, looks: Any, warp: Any) -> Any:
        state["warp"] = warp
        state["last"] = tracker.update(boxes, image)

    def result() -> np.ndarray:
        last = state["last"]
        return last[:, [4, 0, 1, 2, 3]] if len(last) else np.empty((0, 5))

    update.prepare, update.result = prepare, result  # type: ignore[attr-defined]
    return update


def _supervision(rows: np.ndarray) -> Any:
    import supervision as sv

    return sv.Detections(
        xyxy=rows[:, :4].astype(np.float32), confidence=rows[:, 4], class_id=np.zeros(len(rows), int)
    )


def _from_supervision(update: Any, state: dict[str, Any]) -> Update:
    def result() -> np.ndarray:
        last = state["last"]
        known = last.tracker_id >= 0
        return np.column_stack((last.tracker_id[known], last.xyxy[known]))

    update.prepare, update.result = _supervision, result
    return update  # type: ignore[no-any-return]


def supervision(name: str, frame_rate: float) -> Update:
    import supervision as sv

    tracker = sv.ByteTrack(
        track_activation_threshold=0.6, lost_track_buffer=30, minimum_matching_threshold=0.9, frame_rate=frame_rate
    )
    state: dict[str, Any] = {}

    def update(seen: Any, looks: Any, warp: Any) -> Any:
        state["last"] = tracker.update_with_detections(seen)

    return _from_supervision(update, state)


def roboflow(name: str, frame_rate: float) -> Update:
    from trackers import BoTSORTTracker, ByteTrackTracker

    moving = name.endswith("+motion")
    kind, more = (ByteTrackTracker, {}) if name == "bytetrack" else (BoTSORTTracker, {"enable_cmc": moving})
    tracker = kind(frame_rate=frame_rate, **more)
    state: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    if moving:
        tracker.cmc.estimate = lambda *_: state["warp"]
        arguments["frame"] = np.zeros((8, 8, 3), np.uint8)

    def update(seen: Any, looks: Any, warp: Any) -> Any:
        state["warp"] = warp
        state["last"] = tracker.update(seen, **arguments)

    return _from_supervision(update, state)


def boxmot(name: str, frame_rate: float) -> Update:
    from boxmot import BotSort, ByteTrack

    tracker: Any
    if name == "bytetrack":
        tracker = ByteTrack(
            min_conf=0.1, track_thresh=0.6, match_thresh=0.9, track_buffer=30, frame_rate=frame_rate
        )
    else:
        tracker = BotSort(
            track_high_thresh=0.6, track_low_thresh=0.1, new_track_thresh=0.7, track_buffer=30, match_thresh=0.8,
            use_cmc=False, frame_rate=frame_rate, fuse_first_associate=True, use_embeddings=False,
        )  # fmt: skip
    image = np.zeros((8, 8, 3), np.uint8)
    state: dict[str, Any] = {}
    if name.endswith("+motion"):
        tracker.cmc = SimpleNamespace(apply=lambda *_: state["warp"])

    def update(rows: np.ndarray, looks: Any, warp: Any) -> Any:
        state["warp"] = warp
        state["last"] = tracker.update(np.column_stack((rows, np.zeros(len(rows)))), image)

    def result() -> np.ndarray:
        last = np.asarray(state["last"], dtype=float).reshape(len(state["last"]), -1)
        return last[:, [4, 0, 1, 2, 3]] if len(last) else np.empty((0, 5))

    update.result = result  # type: ignore[attr-defined]
    return update


def deep_sort_realtime(name: str, frame_rate: float) -> Update:
    from deep_sort_realtime.deepsort_tracker import DeepSort

    tracker = DeepSort(max_age=round(frame_rate), embedder=None, nn_budget=100)
    state: dict[str, Any] = {}

    def prepare(rows: np.ndarray) -> Any:
        return [([x1, y1, x2 - x1, y2 - y1], score, 0) for x1, y1, x2, y2, score in rows.tolist()]

    def update(seen: Any, looks: Any, warp: Any) -> Any:
        state["last"] = tracker.update_tracks(seen, embeds=looks)

    def result() -> np.ndarray:
        shown = [t for t in state["last"] if t.is_confirmed() and t.time_since_update == 0]
        return np.array([[int(t.track_id), *t.to_ltrb()] for t in shown]).reshape(-1, 5)

    update.prepare, update.result = prepare, result  # type: ignore[attr-defined]
    return update


PACKAGES = {
    "ours": ours, "compiled": compiled, "ultralytics": ultralytics, "supervision": supervision, "roboflow": roboflow,
    "boxmot": boxmot,
    "deep-sort-realtime": deep_sort_realtime,
}  # fmt: skip


def run(
    make: Callable[[], Update], frames: list[np.ndarray], looks: list[Any], warps: list[Any]
) -> tuple[float, list[np.ndarray]]:
    """CPU seconds of all updates of a scene, and frame, identity, box rows."""
    update = make()
    prepare = getattr(update, "prepare", None)
    seconds, rows = 0.0, []
    for number, (seen, look, warp) in enumerate(zip(frames, looks, warps, strict=True), start=1):
        prepared = seen if prepare is None else prepare(seen)
        begin = time.process_time()
        update(prepared, look, warp)
        seconds += time.process_time() - begin
        found = update.result()  # type: ignore[attr-defined]
        rows.append(np.column_stack((np.full(len(found), number), found)))
    return seconds, rows


def main() -> None:
    warnings.filterwarnings("ignore")
    package = PACKAGES[sys.argv[1]]
    answer, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        seconds, frames, results = 0.0, 0, {}
        with np.load(request["scenes"]) as scenes:
            for scene in scenes["names"].tolist():
                rows, spans, rate = (
                    scenes[f"{scene}/rows"],
                    scenes[f"{scene}/spans"],
                    float(scenes[f"{scene}/rate"]),
                )
                seen = [rows[a:b] for a, b in itertools.pairwise(spans)]
                looks = [None] * len(seen)
                if request["looks"]:
                    vectors = scenes[f"{scene}/looks"]
                    looks = [vectors[a:b] for a, b in itertools.pairwise(spans)]
                motion = list(scenes[f"{scene}/motion"])
                warps = motion if request["tracker"].endswith("+motion") else [None] * len(seen)
                spent, found = run(functools.partial(package, request["tracker"], rate), seen, looks, warps)
                seconds, frames = seconds + spent, frames + len(seen)
                results[scene] = np.concatenate(found)
        if request["out"]:
            np.savez(request["out"], **results)
        print(json.dumps({"seconds": seconds, "frames": frames}), file=answer, flush=True)


if __name__ == "__main__":
    main()
