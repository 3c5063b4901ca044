"""The work folder of a video being tracked: rows appended as they come, and checkpoints to go on from.

Everything after the last checkpoint is cut off when work goes on, so that a killed run and an undisturbed one
leave the same rows.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from osv_lab.core.files import atomic_path, write_atomic
from osv_lab.core.report import plain

BOX = np.dtype(
    [
        ("frame", "<i4"),
        ("track_id", "<i4"),
        ("class_id", "<i4"),
        ("confidence", "<f4"),
        ("xyxy", "<f4", (4,)),
    ]
)
"""One tracked box; ``class_id`` is what the detector said."""

MOMENT = np.dtype([("frame", "<i8"), ("timestamp_s", "<f8")])
"""One frame that was looked at."""

_CHUNK = 1 << 16
_VERSION = 1

Rows = npt.NDArray[Any]


class Spool:
    """A work folder.

    Args:
        folder: Made when it is not there.
        job: What is being done, JSON-able. A folder with another job in it is emptied.
        resume: Go on from the checkpoint in it.

    Attributes:
        checkpoint: What :meth:`save` was last given, empty in a fresh folder.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], *, resume: bool = True) -> None:
        self.folder = folder
        self.checkpoint: dict[str, Any] = {}
        wanted = plain({"version": _VERSION, **job})
        if not (resume and self._holds(wanted)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_atomic(folder / "job.json", json.dumps(wanted, indent=1))
        elif (folder / "checkpoint.npz").is_file():
            self.checkpoint = _load(folder / "checkpoint.npz")
        self._files = {name: self._open(name) for name in ("boxes.bin", "frames.bin", "events.jsonl")}

    def _holds(self, wanted: Any) -> bool:
        try:
            return bool(json.loads((self.folder / "job.json").read_text()) == wanted)
        except (OSError, ValueError):
            return False

    def _open(self, name: str) -> IO[bytes]:
        path = self.folder / name
        path.touch()
        file = open(path, "r+b")  # noqa: SIM115 - open as long as the spool is
        file.truncate(int(self.checkpoint.get("sizes", {}).get(name, 0)))
        file.seek(0, os.SEEK_END)
        return file

    def add_boxes(self, rows: Rows) -> None:
        """Append rows of :data:`BOX`."""
        self._files["boxes.bin"].write(rows.tobytes())

    def add_frame(self, number: int, timestamp_s: float) -> None:
        """Append a row of :data:`MOMENT`."""
        self._files["frames.bin"].write(np.array((number, timestamp_s), dtype=MOMENT).tobytes())

    def add_events(self, kind: str, events: Iterable[Any]) -> None:
        """Append dataclasses, to be read back by their ``kind``."""
        lines = (json.dumps({"of": kind, **plain(asdict(event))}) + "\n" for event in events)
        self._files["events.jsonl"].write("".join(lines).encode())

    def save(self, checkpoint: Mapping[str, Any]) -> None:
        """Make this the place to go on from. Values may be nested mappings, lists, arrays and plain values."""
        sizes = {}
        for name, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            sizes[name] = file.tell()
        arrays: dict[str, Rows] = {}
        tree = _pack({**checkpoint, "sizes": sizes}, arrays)
        with atomic_path(self.folder / "checkpoint.npz") as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **{"tree": np.array(json.dumps(tree)), **arrays})  # type: ignore[arg-type]

    def boxes(self) -> Rows:
        """All rows so far, on disk (they stay readable when the folder is removed)."""
        return self._mapped("boxes.bin", BOX)

    def moments(self) -> Rows:
        """All frames so far, on disk."""
        return self._mapped("frames.bin", MOMENT)

    def _mapped(self, name: str, dtype: np.dtype[Any]) -> Rows:
        self._files[name].flush()
        path = self.folder / name
        if path.stat().st_size < dtype.itemsize:
            return np.empty(0, dtype)
        return np.memmap(path, dtype=dtype, mode="r")

    def events(self, kind: str) -> Iterator[dict[str, Any]]:
        """The events of one kind as mappings, in the order they were added."""
        self._files["events.jsonl"].flush()
        with open(self.folder / "events.jsonl", encoding="utf-8") as lines:
            for line in lines:
                event = json.loads(line)
                if event.pop("of") == kind:
                    yield event

    def close(self) -> None:
        """Close the files; the folder stays."""
        for file in self._files.values():
            file.close()

    def remove(self) -> None:
        """Close, and delete the folder."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def chunks(rows: Rows, size: int = _CHUNK) -> Iterator[Rows]:
    """Parts of at most ``size`` rows, in memory one at a time."""
    for start in range(0, len(rows), size):
        yield np.array(rows[start : start + size])


def _pack(value: Any, arrays: dict[str, Rows]) -> Any:
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {"__array__": name}
    if isinstance(value, Mapping):
        return {str(key): _pack(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item, arrays) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _unpack(value: Any, arrays: Mapping[str, Rows]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__array__"}:
            return arrays[value["__array__"]]
        return {key: _unpack(item, arrays) for key, item in value.items()}
    return [_unpack(item, arrays) for item in value] if isinstance(value, list) else value


def _load(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    found = _unpack(json.loads(str(arrays.pop("tree"))), arrays)
    return dict(found)
