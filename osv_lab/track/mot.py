"""MOTChallenge files: ``frame, id, left, top, width, height, confidence, class, visibility`` per line.

Frames and identities count from 1, boxes are taken as stated with edges from 0. In truth files column 7 is the
"consider" mark (0: do not evaluate) and column 8 the class number; in result files they are confidence and -1, or an
unused x coordinate. https://arxiv.org/abs/1603.00831
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from osv_lab.core.errors import InvalidDataError, NotFoundError
from osv_lab.core.files import write_atomic
from osv_lab.track.tracks import Floats, Tracks

PEDESTRIAN = 1
_MAX_BYTES = 2**30


@dataclass(frozen=True)
class SequenceInfo:
    """What ``seqinfo.ini`` says: name, frames per second, number of frames, image size in pixels (0: not said)."""

    name: str
    frame_rate: float
    length: int
    width: int = 0
    height: int = 0


def read_tracks(path: str | Path) -> Tracks:
    """Read a truth or result file. A class that is not given or negative is read as 1 (pedestrian).

    Raises:
        NotFoundError: no such file.
        InvalidDataError: not MOT rows, an identity twice in a frame, or a box that is not finite.
    """
    rows = _read_rows(Path(path))
    confidence = rows[:, 6] if rows.shape[1] > 6 else np.ones(len(rows))
    class_id = rows[:, 7].astype(np.int64) if rows.shape[1] > 7 else np.ones(len(rows), np.int64)
    try:
        return Tracks(
            rows[:, 0], rows[:, 1], _corners(rows), confidence, np.where(class_id < 1, PEDESTRIAN, class_id)
        )
    except InvalidDataError as error:
        raise InvalidDataError(f"{Path(path).name}: {error.what}", error.found, error.fix) from error


def read_detections(path: str | Path) -> Tracks:
    """Read a detection file. Its second column is no identity, so boxes are numbered through."""
    rows = _read_rows(Path(path))
    confidence = rows[:, 6] if rows.shape[1] > 6 else np.ones(len(rows))
    try:
        return Tracks(rows[:, 0], np.arange(len(rows)), _corners(rows), confidence)
    except InvalidDataError as error:
        raise InvalidDataError(f"{Path(path).name}: {error.what}", error.found, error.fix) from error


def write_tracks(path: str | Path, tracks: Tracks, *, decimals: int = 3) -> None:
    """Write a result file that MOTChallenge tools read (whole or not at all)."""
    write_atomic(path, mot_lines(tracks, decimals=decimals))


def mot_lines(tracks: Tracks, *, decimals: int = 3) -> str:
    """The lines of a result file."""
    text = StringIO()
    size = tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]
    rows = np.column_stack((tracks.frame, tracks.track_id, tracks.xyxy[:, :2], size, tracks.confidence))
    pixel = f"%.{decimals}f"
    np.savetxt(text, rows, fmt=["%d", "%d", pixel, pixel, pixel, pixel, "%.6g"], delimiter=",")
    return text.getvalue().replace("\n", ",-1,-1,-1\n")


def read_motion(path: str | Path) -> Floats:
    """Read camera motion: one line per frame with its index and a 2x3 warp from the frame before, row by row.

    Returns:
        (frames, 2, 3).
    """
    rows = _read_rows(Path(path), columns=7)
    return rows[np.argsort(rows[:, 0], kind="stable"), 1:7].reshape(-1, 2, 3)


def read_info(path: str | Path) -> SequenceInfo:
    """Read ``seqinfo.ini`` (or the one in a sequence folder)."""
    file = Path(path) / "seqinfo.ini" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise NotFoundError("no such file", str(file), "a MOTChallenge sequence has a seqinfo.ini")
    parser = configparser.ConfigParser()
    try:
        parser.read(file, encoding="utf-8")
        section = parser["Sequence"]
        return SequenceInfo(
            section.get("name", file.parent.name),
            float(section["frameRate"]),
            int(section["seqLength"]),
            int(section.get("imWidth", "0")),
            int(section.get("imHeight", "0")),
        )
    except (configparser.Error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise InvalidDataError(
            "not a seqinfo.ini", f"{file}: {error}", "it needs frameRate and seqLength"
        ) from error


def _corners(rows: Floats) -> Floats:
    return np.concatenate((rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]), axis=1)


def _read_rows(path: Path, columns: int = 6) -> Floats:
    if not path.is_file():
        raise NotFoundError("no such file", str(path))
    if path.stat().st_size > _MAX_BYTES:
        raise InvalidDataError("file too large", f"{path.stat().st_size} bytes in {path}", "split it by sequence")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidDataError("not a MOT text file", f"{path}: {error.reason}") from error
    lines = text.replace(",", " ").splitlines()
    if not any(line.strip() for line in lines):
        return np.empty((0, max(columns, 9)))
    try:
        rows = np.loadtxt(lines, ndmin=2, comments=None)
    except ValueError as error:
        raise InvalidDataError(
            "not rows of numbers", f"{path}: {error}", "one box per line, comma separated"
        ) from error
    if rows.shape[1] < columns:
        raise InvalidDataError("too few columns", f"{rows.shape[1]} in {path}", f"at least {columns} are needed")
    if not np.isfinite(rows[:, :2]).all():
        raise InvalidDataError("a frame number or identity that is no number", str(path))
    return np.asarray(rows, dtype=np.float64)
