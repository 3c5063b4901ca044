"""``osv track``: videos, datasets, scores."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from osv_lab.cli.common import (
    add_confidence,
    add_verb,
    add_view_arguments,
    assignments,
    progress_of,
    view_of,
    whole,
)
from osv_lab.core.errors import UsageError

_TRACK_EXAMPLES = """\
examples:
  osv track cars.mp4 --model yolo11n.onnx --out tracked.mp4 --format mot
  osv track cars.mp4 --model yolo11n.onnx --tracker bytetrack --line gate=0,216,768,216 --anchor center
  osv track rtsp://camera/live --model models:/cars@champion --out today.mp4 --zone lot=0,0,300,0,300,400,0,400
  osv track MOT17-09/ --model yolo11n.onnx --classes person --out results/MOT17-09.txt
  osv track eval MOT17/train results --benchmark mot17
  osv track dataset traffic --model yolo11n.onnx          # frames.tracks, with identities, to play in the App
  osv track eval traffic                                  # against frames.ground_truth, into the dataset
  osv track suspicious traffic                            # without truth: where identities look wrong
  osv track edit traffic swap 3 7 120 --clip gate         # 3 and 7 change places at frame 120; 'undo' takes it back
"""
_TRACK_VERBS = ("video", "dataset", "eval", "suspicious", "edit")
_EDIT_EXAMPLES = """\
actions:
  merge A B           B becomes part of A
  split A FRAME       from FRAME on, A is a new identity
  swap A B FRAME      from FRAME on, A and B change places
  relabel A CLASS     all boxes of A get another class; with --frames some
  delete A            all boxes of A go; with --frames some
  undo, redo, list    the journal of this clip
"""


def add_commands(stages: Any) -> None:
    """``osv track VIDEO``, which is short for ``osv track video VIDEO``, and its sisters."""
    track = stages.add_parser(
        "track",
        help="track the objects of a video or stream, count at lines, score tracks",
        description="Track the objects of a video. Without a verb, 'video' is meant.",
        epilog=_TRACK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = track.add_subparsers(
        title="what", metavar="[video] VIDEO | dataset | eval | suspicious | edit", required=True
    )
    verb = add_verb(
        verbs, "video", track_video, "track the objects of a video, an image folder, a camera or a stream"
    )
    verb.epilog, verb.formatter_class = _TRACK_EXAMPLES, argparse.RawDescriptionHelpFormatter
    verb.add_argument("video", help="a video file, a folder of images, a camera's index, or a stream's address")
    verb.add_argument("--model", required=True, help="a path or models:/name@alias")
    verb.add_argument("--tracker", default="botsort", help="botsort (default), bytetrack or deepsort")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the tracker")
    verb.add_argument(
        "--out",
        action="append",
        metavar="FILE",
        help=".mp4 for the annotated video, .txt for MOTChallenge, .coco.json, .json; or a folder; may be repeated",
    )
    verb.add_argument(
        "--format", action="append", help="video, mot, coco or json: a further file beside --out; may be repeated"
    )
    verb.add_argument("--line", action="append", default=[], metavar="[NAME=]X1,Y1,X2,Y2", help="count crossings")
    verb.add_argument("--zone", action="append", default=[], metavar="NAME=X1,Y1,X2,Y2,...", help="count visits")
    verb.add_argument(
        "--anchor", default="bottom_center", help="the point of a box that crosses (bottom_center, center, ...)"
    )
    verb.add_argument("--classes", metavar="A,B", help="track only these classes")
    add_confidence(verb, "lowest score the tracker is given (0.1)", 0.1)
    verb.add_argument(
        "--iou", type=float, default=0.7, help="overlap above which the weaker of two boxes goes (0.7)"
    )
    verb.add_argument("--agnostic", action="store_true", help="... also of two classes")
    verb.add_argument("--every", type=int, default=1, metavar="N", help="look at every N-th frame only")
    verb.add_argument("--frames", type=int, metavar="N", help="stop after N frames")
    verb.add_argument("--fps", type=float, help="frames per second, where the source does not say")
    verb.add_argument("--batch", type=int, default=8, help="frames per run of the network")
    verb.add_argument("--stall-s", type=float, default=30.0, help="seconds without a frame that end a stream (30)")
    verb.add_argument("--restart", action="store_true", help="begin anew where an earlier run was interrupted")

    verb = add_verb(
        verbs, "dataset", track_dataset, "track the videos or sequences of a dataset, into the dataset"
    )
    add_view_arguments(verb)
    source = verb.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="a path or models:/name@alias")
    source.add_argument(
        "--from-field", metavar="FIELD", help="detections that are there already; nothing is decoded"
    )
    verb.add_argument("--tracker", default="botsort", help="botsort (default), bytetrack or deepsort")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the tracker")
    verb.add_argument("--field", default="tracks", help="the field to write (tracks)")
    verb.add_argument("--classes", metavar="A,B", help="track only these classes")
    add_confidence(verb, "lowest score the tracker is given (0.1)", 0.1)
    verb.add_argument("--refine", action="store_true", help="fill gaps and smooth afterwards")
    verb.add_argument("--overwrite", action="store_true", help="replace what the field holds")

    verb = add_verb(verbs, "suspicious", track_suspicious, "without truth: where identities look wrong, and why")
    add_view_arguments(verb)
    verb.add_argument("--field", default="frames.tracks", help="the field with tracks")

    verb = add_verb(verbs, "edit", track_edit, "mend the tracks of a clip by hand, with undo and redo")
    verb.epilog, verb.formatter_class = _EDIT_EXAMPLES, argparse.RawDescriptionHelpFormatter
    verb.add_argument("dataset", help="a dataset")
    verb.add_argument("action", choices=(*_EDIT_TAKES, "undo", "redo", "list"), help="what to do")
    verb.add_argument("arguments", nargs="*", metavar="ARG", help="identities, then a frame or a class; see below")
    verb.add_argument(
        "--clip", help="the video's or sequence's name, or a sample's id; not needed if there is one"
    )
    verb.add_argument("--field", default="tracks", help="the field with tracks (tracks)")
    verb.add_argument("--frames", metavar="FIRST-LAST", help="relabel or delete in these frames only")
    verb.add_argument("--drop", action="store_true", help="merge: drop B's box where both have one in a frame")

    verb = add_verb(verbs, "eval", track_eval, "score tracks by HOTA, MOTA, IDF1 and their kin, per sequence")
    verb.epilog, verb.formatter_class = _TRACK_EXAMPLES, argparse.RawDescriptionHelpFormatter
    verb.add_argument("truth", help="a MOT truth file, a folder of sequences, or (without RESULT) a dataset")
    verb.add_argument("result", nargs="?", help="a MOT result file, or a folder with one per sequence")
    verb.add_argument(
        "--benchmark", choices=("mot17", "mot20"), help="MOTChallenge's preprocessing; default: none"
    )
    verb.add_argument("--pred", default="frames.tracks", help="of a dataset: the field with tracks")
    verb.add_argument("--gt", default="frames.ground_truth", help="of a dataset: the field with the truth")
    verb.add_argument("--iou", type=float, default=0.5, help="of a dataset: least overlap of a match")
    verb.add_argument("--split", help="of a dataset: only this split")
    verb.add_argument("--view", help="of a dataset: a saved view")


def with_verb(argv: Sequence[str]) -> list[str]:
    """``track VIDEO`` as ``track video VIDEO``. A file called ``eval`` is ``./eval``."""
    words = list(argv)
    if words[:1] == ["track"] and words[1:] and words[1] not in (*_TRACK_VERBS, "-h", "--help"):
        words.insert(1, "video")
    return words


def track_video(args: argparse.Namespace) -> Any:
    from osv_lab.track.video import track_video
    from osv_lab.track.zones import parse_line, parse_zone

    tracker = {"algorithm": args.tracker, **assignments(args.set)}
    lines = [parse_line(text, args.anchor) for text in args.line]
    zones = [parse_zone(text, args.anchor) for text in args.zone]
    with progress_of(args) as progress:
        return track_video(
            args.video,
            args.model,
            args.out or None,
            tracker=tracker,
            formats=args.format or None,
            confidence=args.confidence,
            iou=args.iou,
            classes=args.classes.split(",") if args.classes else None,
            agnostic=args.agnostic,
            areas=[*lines, *zones],
            every=args.every,
            batch_size=args.batch,
            max_frames=args.frames,
            frame_rate=args.fps,
            stall_s=args.stall_s,
            resume=not args.restart,
            progress=progress,
        )


def track_dataset(args: argparse.Namespace) -> Any:
    from osv_lab.store.tracks import track

    with progress_of(args) as progress:
        return track(
            view_of(args),
            args.model,
            {"algorithm": args.tracker, **assignments(args.set)},
            args.field,
            from_field=args.from_field,
            confidence=args.confidence,
            classes=args.classes.split(",") if args.classes else None,
            refine=args.refine,
            overwrite=args.overwrite,
            progress=progress,
        )


def track_suspicious(args: argparse.Namespace) -> Any:
    from osv_lab.evaluate.suspicious import suspicious

    with progress_of(args) as progress:
        return suspicious(view_of(args), args.field, progress=progress)


_EDIT_TAKES = {"merge": "A B", "split": "A FRAME", "swap": "A B FRAME", "relabel": "A CLASS", "delete": "A"}


def track_edit(args: argparse.Namespace) -> Any:
    from osv_lab.store.catalogue import open_dataset
    from osv_lab.store.clips import clip_view
    from osv_lab.store.track_edits import TrackEditor

    takes = _EDIT_TAKES.get(args.action, "").split()
    if len(args.arguments) != len(takes):
        raise UsageError(
            f"{args.action} takes {' '.join(takes) or 'nothing'}", " ".join(args.arguments) or "nothing"
        )
    given = [text if name == "CLASS" else whole(text) for name, text in zip(takes, args.arguments, strict=True)]
    options: dict[str, Any] = {}
    if args.frames:
        first, _, last = args.frames.partition("-")
        options["frames"] = whole(first), whole(last or first)
    if args.drop:
        options["overlapping"] = "drop"
    for name, actions in (("frames", ("relabel", "delete")), ("overlapping", ("merge",))):
        if name in options and args.action not in actions:
            raise UsageError(f"{args.action} takes no {'--frames' if name == 'frames' else '--drop'}")
    editor = TrackEditor(clip_view(open_dataset(args.dataset), args.clip), args.field)
    act = editor.edits if args.action == "list" else getattr(editor, args.action)
    return act(*given, **options)


def track_eval(args: argparse.Namespace) -> Any:
    with progress_of(args) as progress:
        if args.result is not None:
            from osv_lab.track.scores import score_files

            return score_files(args.truth, args.result, benchmark=args.benchmark, progress=progress)
        from osv_lab.evaluate.tracking import evaluate_tracks

        args.dataset = args.truth
        return evaluate_tracks(
            view_of(args), args.pred, args.gt, benchmark=args.benchmark, iou=args.iou, progress=progress
        )
