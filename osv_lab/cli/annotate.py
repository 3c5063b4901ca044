"""``osv annotate``: samples to CVAT, and labels back."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from osv_lab.cli import annotators, autolabel
from osv_lab.cli.common import add_narrowing, dataset_verb, progress_of, view_of

DONE = ("completed", "annotated", "validated", "accepted", "any")

_EXAMPLES = """\
The server and who we are: OSV_CVAT_URL with OSV_CVAT_TOKEN, or OSV_CVAT_USER and OSV_CVAT_PASSWORD; or the
file cvat.toml in the lab's folder, readable by you only. No command takes a secret as an argument.

examples:
  osv annotate send cells first_batch --field predictions --split train --segment-size 100 --assignee ann
  osv annotate status cells
  osv annotate pull cells first_batch
  osv annotate cancel cells first_batch

  osv annotate autolabel cells best.onnx --map erythrocyte=RBC --map dirt= --threshold 0.3 --trust RBC=0.7
  osv annotate send cells to_check --view ground_truth_uncertain
  osv annotate yield cells to_check --plot yield.html
  osv annotate conflicts cells to_check
  osv annotate resolve cells to_check --all --keep theirs
"""


def add_commands(stages: Any) -> None:
    """The loop's verbs."""
    annotate = stages.add_parser(
        "annotate",
        help="send samples to CVAT, look how far the annotators are, pull their labels",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = annotate.add_subparsers(title="what", metavar="WHAT", required=True)

    verb = dataset_verb(verbs, "send", send, "send images or videos with their labels; all of it or nothing")
    verb.add_argument("key", help="the name of this run")
    add_narrowing(verb)
    verb.add_argument("--field", default="ground_truth", help="the label field (ground_truth)")
    verb.add_argument("--classes", metavar="A,B", help="only these classes")
    verb.add_argument("--project", help="the CVAT project; default: the dataset's name")
    verb.add_argument(
        "--assignee",
        action="append",
        default=[],
        metavar="USER",
        help="who gets the jobs, in turn; may be repeated",
    )
    verb.add_argument(
        "--reviewer", action="append", default=[], metavar="USER", help="who reviews them; may be repeated"
    )
    verb.add_argument("--segment-size", type=int, metavar="N", help="images or frames per job; default: one job")
    verb.add_argument("--overlap", type=int, default=0, metavar="N", help="images that two jobs share (0)")
    verb.add_argument("--done", choices=DONE, default="completed", help="which jobs a pull takes (completed)")
    verb.add_argument(
        "--window",
        type=_window,
        action="append",
        metavar="SAMPLE:FIRST-LAST",
        help="of a video (its sample id) or a sequence (its name) only these frames, from 1; may be repeated",
    )
    verb.add_argument("--frame-step", type=int, default=1, metavar="N", help="of videos every N-th frame (1)")
    verb.add_argument(
        "--tolerance",
        type=float,
        default=0.5,
        metavar="PIXELS",
        help="how far a tracked box may be off between keyframes in CVAT (0.5)",
    )

    verb = dataset_verb(verbs, "status", status, "jobs: stage, state, assignee, what changed")
    verb.add_argument("key", nargs="?", help="one run; default: all")

    verb = dataset_verb(verbs, "pull", pull, "merge what annotators did into the dataset")
    verb.add_argument("key", help="the name of the run")
    verb.add_argument(
        "--conflict",
        choices=("review", "ours", "theirs"),
        default="review",
        help="what both sides changed: keep ours and leave it open (review), or settle it",
    )
    verb.add_argument("--done", choices=DONE, help="which jobs are taken (as they were sent)")

    verb = dataset_verb(verbs, "cancel", cancel, "delete the task on the server and forget the run")
    verb.add_argument("key", help="the name of the run")
    dataset_verb(verbs, "list", list_, "the runs of a dataset; asks no server")
    autolabel.add_commands(verbs)
    annotators.add_commands(verbs)


def _window(text: str) -> tuple[str, tuple[int, int]]:
    """``SAMPLE:FIRST-LAST``; argparse tells of a ``ValueError``."""
    name, _, frames = text.rpartition(":")
    first, last = map(int, frames.split("-"))
    if not name or not 1 <= first <= last:
        raise ValueError(text)
    return name, (first, last)


def _windows(found: Sequence[tuple[str, tuple[int, int]]] | None) -> dict[str, list[tuple[int, int]]] | None:
    windows: dict[str, list[tuple[int, int]]] = {}
    for name, window in found or ():
        windows.setdefault(name, []).append(window)
    return windows or None


def send(args: argparse.Namespace) -> Any:
    from osv_lab.annotate import AnnotationLoop

    view = view_of(args)
    with progress_of(args) as progress, AnnotationLoop(args.dataset, progress=progress) as loop:
        return loop.send(
            view,
            args.key,
            args.field,
            args.classes.split(",") if args.classes else None,
            project=args.project,
            assignees=args.assignee,
            reviewers=args.reviewer,
            segment_size=args.segment_size,
            overlap=args.overlap,
            done=args.done,
            windows=_windows(args.window),
            frame_step=args.frame_step,
            tolerance=args.tolerance,
        )


def status(args: argparse.Namespace) -> Any:
    from osv_lab.annotate import AnnotationLoop

    with AnnotationLoop(args.dataset) as loop:
        return loop.status(args.key)


def pull(args: argparse.Namespace) -> Any:
    from osv_lab.annotate import AnnotationLoop

    with AnnotationLoop(args.dataset) as loop:
        return loop.pull(args.key, args.conflict, done=args.done)


def cancel(args: argparse.Namespace) -> Any:
    from osv_lab.annotate import AnnotationLoop

    with AnnotationLoop(args.dataset) as loop:
        loop.cancel(args.key)
        return loop.list()


def list_(args: argparse.Namespace) -> Any:
    from osv_lab.annotate import AnnotationLoop

    return AnnotationLoop(args.dataset).list()
