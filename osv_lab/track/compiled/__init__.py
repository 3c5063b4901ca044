"""ByteTrack and BoT-SORT with a compiled update (``pip install osv-lab[fast]``): the same identities, much faster.

>>> from osv_lab.track import ObjectTracker
>>> tracker = ObjectTracker("bytetrack", compiled="auto")  # compiled where that has been done once
>>> tracker.update_arrays([[10, 10, 50, 90]], [0.8]).tolist()
[1]

What the compiled update does not know (embeddings, a box model of one's own) runs in NumPy, on the same tracks.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import UsageError
from osv_lab.track import association, kalman, motion, table, thresholds
from osv_lab.track.botsort import BotSort
from osv_lab.track.bytetrack import _SHAKEN, ByteTrack
from osv_lab.track.motion import check_warp
from osv_lab.track.settings import ByteTrackSettings
from osv_lab.track.tracks import Floats, Ints

_log = logging.getLogger("osv_lab.track")

_NO_WARP: Floats = np.empty((0, 0))
_NO_CLASS: Ints = np.empty(0, np.int64)
_ROOM = 64


def available() -> bool:
    """Whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None


def was_compiled() -> bool:
    """Whether an earlier run has compiled the update. Looking does not import Numba."""
    return any((Path(__file__).parent / "__pycache__").glob("kernel.*step-*.nbi"))


def compiled_kind(kind: type[Any], *, needed: bool = False) -> type[Any]:
    """The compiled twin of a tracker's class: itself where there is none.

    Args:
        kind: The class.
        needed: Compile where that was not done yet, which takes some ten seconds; else the class itself is given then:
            nobody should wait for a faster tracker in a job whose time goes into detection.

    Raises:
        UsageError: ``needed``, and Numba is not installed.
    """
    if needed and not available():
        raise UsageError("a compiled tracker needs Numba", "not installed", "pip install osv-lab[fast]")
    if not needed and not (was_compiled() and available()):
        return kind
    return {ByteTrack: CompiledByteTrack, BotSort: CompiledBotSort}.get(kind, kind)


def options(settings: ByteTrackSettings, model: kalman.BoxModel, buffer: float) -> Floats:
    """What the kernel needs to know, in its order."""
    from osv_lab.track.compiled import layout

    values = {
        layout.HIGH: settings.high, layout.NEW: settings.new, layout.LOW: settings.low, layout.MATCH: settings.match,
        layout.MATCH_LOW: settings.match_low, layout.MATCH_TENTATIVE: settings.match_tentative,
        layout.FUSE: settings.fuse_confidence, layout.DUPLICATE_IOU: settings.duplicate_iou,
        layout.NEW_IOU: settings.new_iou, layout.LOST_DISCOUNT: settings.lost_discount,
        layout.FOLLOW: settings.follow_camera, layout.PER_CLASS: settings.per_class, layout.BUFFER: buffer,
        layout.ASPECT: isinstance(model, kalman.AspectModel), layout.SHAKEN: _SHAKEN,
        layout.LEAST_PAIRS: motion.LEAST_PAIRS, layout.SIGNIFICANT: motion.SIGNIFICANT,
        layout.ERROR_PER_MAD: motion._ERROR_PER_MAD, layout.FARTHEST: table._FARTHEST,
        layout.SPARSE_PAYS: association.SPARSE_PAYS, layout.NOISE_P: kalman.STD_POSITION**2,
        layout.NOISE_V: kalman.STD_VELOCITY**2, layout.START_P: (2 * kalman.STD_POSITION) ** 2,
        layout.START_V: (10 * kalman.STD_VELOCITY) ** 2, layout.HIGH_AT_ONE: thresholds._HIGH_AT_ONE,
        layout.HIGH_LEAST: thresholds._HIGH_RANGE[0], layout.HIGH_MOST: thresholds._HIGH_RANGE[1],
        layout.NEW_AT_ONE: thresholds._NEW_AT_ONE, layout.NEW_LEAST: thresholds._NEW_RANGE[0],
        layout.NEW_MOST: thresholds._NEW_RANGE[1], layout.USUAL_SPAN: thresholds._USUAL_SPAN,
        layout.FORGET: thresholds._FORGET, layout.HEIGHT_POWER: settings.height_power,
        layout.WEAK_NOISE: settings.weak_noise, layout.LOW_LEAST: thresholds.LOW_RANGE[0],
        layout.LOW_MOST: thresholds.LOW_RANGE[1],
    }  # fmt: skip
    vector = np.empty(layout.OPTIONS)
    for at, value in values.items():
        vector[at] = np.nan if value is None else float(value)
    return vector


@functools.cache
def _step() -> Any:
    """The compiled update: loaded from Numba's cache, or compiled, which takes some seconds once."""
    from osv_lab.track.compiled import kernel, layout

    if not layout.COMPILES:
        return kernel.step
    compiled: Any = kernel.step
    folder = Path(compiled.stats.cache_path)
    if not any(folder.glob("kernel.*step-*.nbi")):
        _log.warning("compiling the tracker, once: it takes some ten seconds, and is kept in %s", folder)
    begin = time.perf_counter()
    tracker = CompiledByteTrack(step=compiled)
    tracker.update(np.empty((0, 4)), np.empty(0))
    _log.debug("compiled tracker ready after %.1f s", time.perf_counter() - begin)
    return compiled


class _CompiledUpdate(ByteTrack):
    """The update of ByteTrack by :func:`osv_lab.track.compiled.kernel.step`, on a table with room to grow."""

    def __init__(
        self,
        settings: Any = None,
        *,
        frame_rate: float = 30.0,
        model: kalman.BoxModel | None = None,
        step: Any = None,
    ) -> None:
        self._step = step or _step()
        super().__init__(settings, frame_rate=frame_rate, model=model)
        self._covered = isinstance(self.model, kalman.AspectModel | kalman.SizeModel)
        self._options = options(self.settings, self.model, self.buffer) if self._covered else np.empty(0)

    def reset(self) -> None:
        super().reset()
        self._table: Floats = np.empty((table.ROWS, 0))
        self._all_votes: Floats = np.empty((0, 0))
        self._all_classes: Ints = np.empty(0, np.int64)

    def explain(self) -> str:
        path = "compiled" if self._compiled_now() else "in NumPy: appearance and other box models are not compiled"
        return f"{super().explain()} ({path})"

    def _compiled_now(self) -> bool:
        return self._covered

    def update(
        self,
        xyxy: npt.ArrayLike,
        confidence: npt.ArrayLike,
        class_id: npt.ArrayLike | None = None,
        *,
        timestamp: float | None = None,
        warp: npt.ArrayLike | None = None,
    ) -> Ints:
        boxes = np.ascontiguousarray(xyxy, dtype=np.float64)
        scores = np.ascontiguousarray(confidence, dtype=np.float64)
        count = scores.size
        class_of = _NO_CLASS if class_id is None else np.ascontiguousarray(class_id, dtype=np.int64)
        fitting = (
            boxes.shape == (count, 4) and scores.ndim == 1 and (class_id is None or class_of.shape == (count,))
        )
        if not (fitting and self._covered):
            return super().update(xyxy, confidence, class_id, timestamp=timestamp, warp=warp)
        matrix = _NO_WARP if warp is None else np.ascontiguousarray(check_warp(warp))
        time_before = self.updates, self.now, self._timestamp
        elapsed = self._advance(timestamp)
        tracks = self.tracks.shape[1]
        known = len(self._classes)
        elsewhere = self.tracks.base is not self._table or (known and self._votes.base is not self._all_votes)
        if elsewhere or tracks + count > self._table.shape[1]:
            self._make_room(tracks + count)
        ids = np.empty(count, np.int64)
        outcome = self._step(
            self._options, self._table, self._all_votes, self._all_classes, matrix, boxes, scores, class_of, ids,
            tracks, self.confirmed, self.issued, known, self.scale.level, self.now, elapsed, self.updates == 1,
        )  # fmt: skip
        if outcome[0] < 0:
            self.updates, self.now, self._timestamp = time_before
            if outcome[0] == -2:
                self._make_room(tracks + count, outcome[3])
                return self.update(boxes, scores, class_of, timestamp=timestamp, warp=warp)
            return super().update(xyxy, confidence, class_id, timestamp=timestamp, warp=warp)
        tracks, self.confirmed, self.issued, voted, self.scale.level = outcome
        self.tracks = self._table[:, :tracks]
        if voted:
            self._votes = self._all_votes[:voted, :tracks]
            if voted > known:
                self._classes = self._all_classes[:voted].tolist()
        return ids

    def _make_room(self, tracks: int, classes: int = 0) -> None:
        """Move the tracks to a larger table; also after they were changed elsewhere."""
        room, known = 2 * max(tracks, _ROOM // 2), len(self._classes)
        grown, votes = np.zeros((table.ROWS, room)), np.zeros((max(classes, known), room))
        grown[:, : self.tracks.shape[1]] = self.tracks
        votes[:known, : self._votes.shape[1]] = self._votes[:known]
        self._table, self._all_votes = grown, votes
        self._all_classes = np.zeros(len(votes), np.int64)
        self._all_classes[:known] = self._classes
        self.tracks = grown[:, : self.tracks.shape[1]]
        if known:
            self._votes = votes[:known, : self.tracks.shape[1]]


class CompiledByteTrack(_CompiledUpdate):
    """:class:`osv_lab.track.bytetrack.ByteTrack`, compiled."""


class CompiledBotSort(_CompiledUpdate, BotSort):
    """:class:`osv_lab.track.botsort.BotSort`, compiled as long as it is given no embeddings."""

    def update(
        self,
        xyxy: npt.ArrayLike,
        confidence: npt.ArrayLike,
        class_id: npt.ArrayLike | None = None,
        *,
        timestamp: float | None = None,
        warp: npt.ArrayLike | None = None,
        embeddings: npt.ArrayLike | None = None,
    ) -> Ints:
        if embeddings is None and self.gallery.vectors is None:
            return _CompiledUpdate.update(self, xyxy, confidence, class_id, timestamp=timestamp, warp=warp)
        return BotSort.update(
            self, xyxy, confidence, class_id, timestamp=timestamp, warp=warp, embeddings=embeddings
        )

    def _compiled_now(self) -> bool:
        return super()._compiled_now() and self.gallery.vectors is None
