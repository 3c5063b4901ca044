"""The timeline of tracks: what it says of a clip, and after an edit; the same from the lab and the command line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from track_scenes import walk
from tracks_store_scenes import blank_video, clip_of

from osv_lab import Lab
from osv_lab.cli import main
from osv_lab.core.errors import NotFoundError
from osv_lab.evaluate.suspicious import suspicious
from osv_lab.evaluate.track_again import look_again
from osv_lab.evaluate.track_mends import mends
from osv_lab.evaluate.track_timeline import TimelineEvent, TrackLine, TrackTimeline, track_timeline
from osv_lab.evaluate.tracking import evaluate_tracks
from osv_lab.store.tracks import labelled_tracks, write_tracks
from osv_lab.track.tracks import Tracks

SWITCH = 40


@pytest.fixture
def switched(fo: Any, dataset_name: str) -> Any:
    """Six true tracks; as tracks, 1 and 2 have changed places from frame 40 on and 3 is not seen in 30 to 34."""
    truth = walk(6, 60, seed=3)
    rows = [(k, n) for k in range(1, 7) for n in range(1, 61)]
    boxes = np.array([[100 * k + n, 80 * k, 100 * k + n + 60, 80 * k + 60] for k, n in rows], float)
    truth = Tracks([n for _, n in rows], [k for k, _ in rows], boxes)
    late, ids = truth.frame >= SWITCH, truth.track_id.copy()
    ids[late] = np.select([ids[late] == 1, ids[late] == 2], [2, 1], ids[late])
    lost = (truth.track_id == 3) & (truth.frame >= 30) & (truth.frame <= 34)
    found = Tracks(truth.frame, ids, truth.xyxy)[~lost]
    return blank_video(fo, dataset_name, 60, {"ground_truth": truth, "tracks": found})


def test_lines_are_the_runs_of_every_identity(fo: Any, dataset_name: str) -> None:
    rng = np.random.default_rng(0)
    some = walk(30, 200)
    some = some[rng.random(len(some)) > 0.2]
    dataset = blank_video(fo, dataset_name, 200, {"tracks": some})
    timeline = track_timeline(dataset.first())
    assert [line.first_frame for line in timeline.lines] == sorted(line.first_frame for line in timeline.lines)
    assert {line.identity for line in timeline.lines} == set(some.track_id.tolist())
    for line in timeline.lines:
        seen = some.frame[some.track_id == line.identity]
        assert np.concatenate([np.arange(a, b + 1) for a, b in line.runs]).tolist() == seen.tolist()
        assert np.all(line.runs[1:, 0] > line.runs[:-1, 1] + 1) and line.boxes == len(seen)
        gaps = [e for e in timeline.of_kind("gap") if e.tracks == (line.identity,)]
        assert [e.last_frame + 1 for e in gaps] == line.runs[1:, 0].tolist()
    assert timeline.frames == 200 and timeline.frame_rate == 25.0 and not timeline.keys


def test_events_are_those_of_the_evaluations_of_the_field(switched: Any) -> None:
    report = evaluate_tracks(switched)
    suspicious(switched)
    timeline = track_timeline(switched.first(), "frames.tracks")
    assert set(timeline.keys) == {"track_eval", "suspicious"} and not timeline.stale
    switches = timeline.of_kind("switch")
    assert [(e.first_frame, e.last_frame, e.tracks, e.truth) for e in switches] == [
        (SWITCH - 1, SWITCH, (1, 2), 1),
        (SWITCH - 1, SWITCH, (2, 1), 2),
    ]
    clips = report.clips("switch")
    assert {e.id for e in switches} == set(clips.values("id")), "a click opens the clip of the event's id"
    teleports = timeline.of_kind("teleport")
    assert teleports and all(e.score and "px" in e.reason and e.key == "suspicious" for e in teleports)
    assert [e.tracks for e in timeline.of_kind("gap")] == [(3,)]
    assert track_timeline(switched.first(), key="suspicious").kinds().keys().isdisjoint({"switch", "gap"})
    true = track_timeline(switched.first(), "ground_truth")
    assert true.keys == ("track_eval",) and [e.tracks for e in true.of_kind("switch")] == [(1,), (2,)]
    with pytest.raises(NotFoundError, match="did you mean 'suspicious'"):
        track_timeline(switched.first(), key="suspicous")


def test_windows_are_the_frames_around_events(switched: Any) -> None:
    evaluate_tracks(switched)
    timeline = track_timeline(switched.first())
    sample = switched.first().id
    assert timeline.windows(["switch"], 5) == {sample: [(SWITCH - 6, SWITCH + 5)]}
    assert timeline.windows(["gap"], 40) == {sample: [(1, 60)]}
    assert timeline.windows(["gap", "switch"], 1) == {sample: [(29, 35), (SWITCH - 2, SWITCH + 1)]}
    with pytest.raises(NotFoundError, match=r"no such events.*2 switch"):
        timeline.windows(["teleport"])


def test_what_mends_a_switch_changes_tracks_and_metrics(switched: Any) -> None:
    before = evaluate_tracks(switched)
    lab = Lab(switched.name)
    timeline = lab.track_timeline()
    assert timeline.scores["track_eval"]["IDSW"] == 2
    mend = mends(timeline, timeline.of_kind("switch")[0])[0]
    assert mend.words() == f"swap 1 and 2 from frame {SWITCH}"
    # By hand: 39 boxes of 1 agree as 39/81 and 21 as 21/99, over 60; 55 of 60 boxes of 3 as 55/60.
    assert {one.track: round(one.hota, 2) for one in before.tracks if one.track in (1, 3)} == {1: 0.62, 3: 0.92}
    editor = lab.edit_tracks()
    assert editor.preview(mend.kind, *mend.args).state == "preview" and not editor.edits().edits
    mend.do(editor)
    timeline = lab.track_timeline()
    assert timeline.stale == ("track_eval",) and "older than the last edit" in timeline.summary()
    after = look_again(switched, "track_eval")
    assert before.scores.combined.clear.switches == 2 and after.scores.combined.clear.switches == 0
    assert after.scores.combined.values()["IDF1"] > before.scores.combined.values()["IDF1"] + 0.1
    assert [one.hota for one in after.tracks if one.track == 1] == [pytest.approx(1)]
    assert not track_timeline(switched.first()).stale and not track_timeline(switched.first()).of_kind("switch")
    found = labelled_tracks(switched, clip_of(switched), "tracks").tracks
    true = labelled_tracks(switched, clip_of(switched), "ground_truth").tracks
    assert np.array_equal(found.xyxy[found.track_id == 1], true.xyxy[true.track_id == 1])


@pytest.mark.parametrize(
    ("kind", "tracks", "frames", "words"),
    [
        ("switch", (1, 2), (9, 10), ["swap 1 and 2 from frame 10", "split 1 at frame 10", "split 2 at frame 10"]),
        ("switch", (1, 3), (29, 31), ["merge 3 into 1"]),
        ("fragmentation", (3, 1), (29, 31), ["merge 3 into 1"]),
        ("gap", (1,), (12, 14), []),
        ("teleport", (2,), (9, 10), ["split 2 at frame 10"]),
        ("short", (3,), (31, 40), ["delete 3"]),
        ("false_track", (2,), (1, 40), ["delete 2"]),
        ("missed", (), (5, 9), []),
    ],
)
def test_the_likeliest_mend(kind: str, tracks: tuple[int, ...], frames: tuple[int, int], words: list[str]) -> None:
    lives = {1: (1, 30), 2: (1, 40), 3: (31, 40)}
    lines = tuple(TrackLine(k, "car", np.array([life]), life[1] - life[0]) for k, life in lives.items())
    event = TimelineEvent("", "track_eval", kind, *frames, tracks)
    timeline = TrackTimeline("d", "s", "c", "frames.tracks", 40, 25.0, lines, (event,))
    assert [mend.words() for mend in mends(timeline, event)] == words


def test_the_figure_has_a_lane_per_identity_and_a_point_per_event(switched: Any) -> None:
    evaluate_tracks(switched)
    timeline = track_timeline(switched.first())
    figure = timeline.plot()
    lanes = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [trace.name for trace in lanes[:3]] == ["object 1", "object 2", "object 3"], "most events first"
    clicked = [point for trace in figure.data for point in trace.ids if point.startswith("event:")]
    assert sorted(clicked) == sorted(f"event:{k}" for k in range(len(timeline.events)))
    only = timeline.plot(["switch"])
    assert [trace.name for trace in only.data if trace.mode == "markers"] == ["switch"]
    assert "track:3:29" in [one for trace in only.data for one in trace.ids]


def test_events_of_images(fo: Any, dataset_name: str) -> None:
    dataset = fo.Dataset(dataset_name)
    metadata = fo.ImageMetadata(width=400, height=100)
    dataset.add_samples(
        [
            fo.Sample(filepath=f"/nowhere/{n}.jpg", metadata=metadata, sequence="s", frame_number=n)
            for n in range(1, 9)
        ]
    )
    boxes = [[k, 0, k + 10, 20] for k in (0, 1, 2, 3, 60, 61, 62, 63)]
    write_tracks(dataset, Tracks(range(1, 9), [1] * 8, boxes))
    suspicious(dataset, "tracks")
    (event,) = track_timeline(dataset, "tracks").events
    assert (event.kind, event.first_frame, event.last_frame, event.tracks) == ("teleport", 4, 5, (1,))
    assert event.words().startswith("teleport of 1, frames 4 to 5: moved ")


def test_edits_from_the_command_line(switched: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def osv(*words: str) -> tuple[int, dict[str, Any]]:
        code = main(["track", "edit", switched.name, *words, "--json"])
        answer = capsys.readouterr()
        return code, json.loads(answer.out or answer.err)

    assert osv("swap", "1", "2", str(SWITCH))[1]["labels"] == 42
    assert osv("delete", "4", "--frames", "10-12")[1]["labels"] == 3
    assert osv("relabel", "5", "person")[1]["words"] == "5 is person"
    assert osv("undo")[1]["state"] == "undone"
    code, told = osv("list", "--clip", "scene")
    assert code == 0 and [one["state"] for one in told["edits"]] == ["done", "done", "undone"]
    assert osv("swap", "1", "2")[0] == 2 and "swap takes A B FRAME" in osv("swap", "1", "2")[1]["what"]
    assert osv("swap", "1", "2", "x")[1]["what"] == "not a whole number"
    assert osv("split", "1", "20", "--drop")[1]["what"] == "split takes no --drop"
    assert osv("undo", "--clip", "scen")[1]["fix"].startswith("did you mean 'scene'")
