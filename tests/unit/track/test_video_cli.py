"""``osv track``: both forms, its files, its numbers, its errors; and scoring of MOT files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import shared_data
from tiny_model import write_tiny_model
from track_scenes import disturb, walk
from video_scenes import write_video

from osv_lab.cli import main
from osv_lab.core.errors import InvalidDataError, NotFoundError
from osv_lab.track import Tracks, evaluate_sequence
from osv_lab.track.mot import read_tracks, write_tracks
from osv_lab.track.scores import score_files


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A video and a real ONNX model."""
    folder = tmp_path_factory.mktemp("cli")
    data = shared_data()
    model = data / "models" / "yolox_nano_coco.onnx" if data else write_tiny_model(folder / "tiny.onnx")
    return write_video(folder / "scene.mp4", 12), model


@pytest.mark.parametrize("verb", [[], ["video"]])
def test_both_forms_track_a_video(
    verb: list[str], scene: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, model = map(str, scene)
    words = ["track", *verb, video, "--model", model, "--tracker", "bytetrack", "--set", "lost_s=2", "--json"]
    words += ["--out", str(tmp_path / "a.mp4"), "--format", "mot", "--line", "gate=0,60,160,60", "--quiet"]
    words += ["--zone", "0,0,80,0,80,120", "--anchor", "center", "--every", "2", "--frames", "5"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["frames"] == 5 and set(said["counts"]) == {"gate", "0,0,80,0,80,120"}
    assert said["files"] == {"video": str(tmp_path / "a.mp4"), "mot": str(tmp_path / "a.txt")}
    assert said["codec"] == "h264" and len(read_tracks(tmp_path / "a.txt")) == sum(
        item["length"] for item in said["identities"]
    )


def test_a_table_for_people(scene: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    video, model = map(str, scene)
    assert main(["track", "--model", model, video, "--line", "gate=0,60,160,60"]) == 0
    assert f"tracks in 12 frames of {video}" in (out := capsys.readouterr().out)
    assert "gate: 0 in, 0 out" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["none.mp4"], 3, "no such video or folder: 'none.mp4'"),
        (["VIDEO", "--tracker", "bytetrak"], 2, "did you mean 'bytetrack'"),
        (["VIDEO", "--set", "lost=2"], 2, "did you mean 'lost_s'"),
        (["VIDEO", "--line", "1,2,3"], 2, "not a list of corners"),
        (["VIDEO", "--out", "a.gif"], 2, "no format for this suffix"),
        (["VIDEO", "--classes", "lorry"], 2, "no such class"),
        (["eval", "none.txt", "none.txt"], 3, "no such file or folder"),
    ],
)
def test_errors_are_one_line(
    words: list[str], code: int, said: str, scene: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if words[0] == "eval" else ["--model", str(scene[1])]
    assert main(["track", *(str(scene[0]) if word == "VIDEO" else word for word in words), *model]) == code
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["track", "-h"], ["track", "video", "-h"], ["track", "eval", "-h"]):
        with pytest.raises(SystemExit):
            main(words)
        assert "osv track eval MOT17/train results --benchmark mot17" in capsys.readouterr().out


def sequences(folder: Path) -> tuple[Path, Path, dict[str, tuple[Tracks, Tracks]]]:
    truth, results = folder / "truth", folder / "results"
    pairs = {}
    for seed, name in enumerate(("A", "B")):
        true = walk(seed=seed)
        pairs[name] = (true, disturb(true, seed))
        (truth / name / "gt").mkdir(parents=True)
        write_tracks(truth / name / "gt" / "gt.txt", true, decimals=6)
        (truth / name / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\nframeRate=30\nseqLength=130\n")
        results.mkdir(exist_ok=True)
        write_tracks(results / f"{name}.txt", pairs[name][1], decimals=6)
    return truth, results, pairs


def test_files_are_scored_as_their_tracks_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, results, pairs = sequences(tmp_path)
    assert main(["track", "eval", str(truth), str(results), "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    for name, (true, found) in pairs.items():
        expected = evaluate_sequence(true, found, 130).values()
        for key in ("HOTA", "MOTA", "IDF1", "IDSW", "FP", "FN"):
            assert said["sequences"][name][key] == pytest.approx(expected[key], abs=1e-6)
    assert set(said["sequences"]) == {"A", "B"}
    assert main(["track", "eval", str(truth), str(results)]) == 0
    table = capsys.readouterr().out
    assert table.startswith("HOTA 0.") and "sequence" in table and "\nall" in table

    one = score_files(truth / "A", results / "A.txt")
    assert set(one.sequences) == {"A"}
    assert score_files(truth / "A" / "gt" / "gt.txt", results / "A.txt").rows() == one.rows()
    shutil.move(results, tmp_path / "data")
    results.mkdir()
    shutil.move(tmp_path / "data", results / "data")
    assert score_files(truth, results).summary() == score_files(truth, results / "data").summary()


def test_what_cannot_be_scored_is_named(tmp_path: Path) -> None:
    truth, results, _ = sequences(tmp_path)
    (results / "B.txt").rename(results / "C.txt")
    with pytest.raises(NotFoundError, match="no result for a sequence: B"):
        score_files(truth, results)
    with pytest.raises(NotFoundError, match="one result for several"):
        score_files(truth, results / "A.txt")
    with pytest.raises(NotFoundError, match="no sequence in the folder"):
        score_files(tmp_path, results)
    late = Tracks([200], [1], np.array([[0.0, 0, 9, 9]]))
    write_tracks(results / "B.txt", late)
    with pytest.raises(InvalidDataError, match="B: "):
        score_files(truth, results)
