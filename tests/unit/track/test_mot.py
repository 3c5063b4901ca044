"""MOTChallenge files: read what tools write, write what tools read, refuse what is neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from track_scenes import disturb, walk

from osv_lab.core.errors import InvalidDataError, NotFoundError
from osv_lab.track.mot import read_detections, read_info, read_motion, read_tracks, write_tracks


def test_written_tracks_are_read_back(tmp_path: Path) -> None:
    tracks = disturb(walk())
    write_tracks(tmp_path / "result.txt", tracks)
    back = read_tracks(tmp_path / "result.txt")
    assert np.array_equal(back.frame, tracks.frame)
    assert np.array_equal(back.track_id, tracks.track_id)
    assert np.abs(back.xyxy - tracks.xyxy).max() <= 0.0011
    first = (tmp_path / "result.txt").read_text().splitlines()[0].split(",")
    assert len(first) == 10 and first[-3:] == ["-1", "-1", "-1"]


def test_rows_may_be_unsorted_spaced_and_short(tmp_path: Path) -> None:
    file = tmp_path / "gt.txt"
    file.write_text("\ufeff3, 1, 10, 20, 30, 40, 1, 7, 0.5\n\n1 2 0 0 5 5 0 1 1\n", encoding="utf-8")
    tracks = read_tracks(file)
    assert tracks.frame.tolist() == [1, 3] and tracks.class_id.tolist() == [1, 7]
    assert tracks.confidence.tolist() == [0, 1] and tracks.xyxy[1].tolist() == [10, 20, 40, 60]
    file.write_text("1,-1,0,0,5,5\n1,-1,9,9,5,5\n")
    assert len(read_detections(file)) == 2
    file.write_text("")
    assert len(read_tracks(file)) == 0


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3\n",
        "a,b,c,d,e,f\n",
        "1,1,0,0,nan,5,1\n",
        "1,1,0,0,5,5\n1,1,0,0,5,5\n",
        "0,1,0,0,5,5\n",
        "nan,1,0,0,5,5\n",
    ],
)
def test_what_is_no_mot_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(InvalidDataError, match=r"bad\.txt"):
        read_tracks(tmp_path / "bad.txt")


def test_absent_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_tracks(tmp_path / "none.txt")
    (tmp_path / "image.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InvalidDataError, match="not a MOT text file"):
        read_tracks(tmp_path / "image.txt")


def test_sequence_info_and_motion(tmp_path: Path) -> None:
    (tmp_path / "seqinfo.ini").write_text(
        "[Sequence]\nname=S\nframeRate=14\nseqLength=5\nimWidth=640\nimHeight=480\n"
    )
    info = read_info(tmp_path)
    assert (info.name, info.frame_rate, info.length, info.width, info.height) == ("S", 14, 5, 640, 480)
    (tmp_path / "gmc.txt").write_text("1\t1 0 5 0 1 6\n0\t1 0 0 0 1 0\n")
    assert read_motion(tmp_path / "gmc.txt")[1].tolist() == [[1, 0, 5], [0, 1, 6]]
    (tmp_path / "seqinfo.ini").write_text("[Other]\n")
    with pytest.raises(InvalidDataError, match=r"seqinfo\.ini"):
        read_info(tmp_path / "seqinfo.ini")
