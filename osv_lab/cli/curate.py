"""``osv curate``: what is wrong with the images and the labels, and what to label next."""

from __future__ import annotations

import argparse
from typing import Any

from osv_lab.cli.common import add_verb, add_view_arguments, progress_of, view_of


def add_commands(stages: Any) -> None:
    """``osv curate health``, ``quality``, ``label-errors`` and ``select``."""
    curate = stages.add_parser("curate", help="find bad images, duplicates, leaks and wrong labels")
    verbs = curate.add_subparsers(title="what", metavar="WHAT", required=True)

    verb = add_verb(
        verbs, "health", health, "look at the labels as a whole: balance, splits, boxes that cannot be"
    )
    add_view_arguments(verb)
    verb.add_argument("--gt", default="ground_truth", help="field with the labels")

    verb = add_verb(verbs, "quality", quality, "find bad images, duplicates, and leaks between splits")
    add_view_arguments(verb)

    verb = add_verb(
        verbs, "label-errors", label_errors, "rank the labels that are probably wrong, as a saved view"
    )
    add_view_arguments(verb)
    verb.add_argument("--pred", default="predictions", help="field with predictions, best out of fold")
    verb.add_argument("--gt", default="ground_truth", help="field with the labels to judge")
    verb.add_argument("--key", default="label_errors", help="field and saved view to write")
    verb.add_argument("--limit", type=int, default=1000, help="the most suggestions (1000)")

    verb = add_verb(verbs, "select", select, "pick the images most worth labelling, and say why")
    add_view_arguments(verb)
    verb.add_argument("n", type=int, help="how many")
    verb.add_argument("--strategy", default="mix", help="uncertainty, diversity, class_need or mix")
    verb.add_argument("--pred", default="predictions", help="field with predictions")


def health(args: argparse.Namespace) -> Any:
    from osv_lab.curate.health import health

    return health(view_of(args), args.gt)


def quality(args: argparse.Namespace) -> Any:
    from osv_lab.curate.quality import quality

    with progress_of(args) as progress:
        return quality(view_of(args), progress=progress)


def label_errors(args: argparse.Namespace) -> Any:
    from osv_lab.curate.label_errors import find_label_errors

    with progress_of(args) as progress:
        return find_label_errors(
            view_of(args), args.pred, args.gt, key=args.key, limit=args.limit, progress=progress
        )


def select(args: argparse.Namespace) -> Any:
    from osv_lab.curate.select import select

    with progress_of(args) as progress:
        return select(view_of(args), args.n, args.strategy, pred_field=args.pred, progress=progress)
