"""``osv captures`` and ``osv drift``: what a server kept, and whether what it sees has changed."""

from __future__ import annotations

import argparse
from typing import Any

from osv_lab.cli.common import add_verb, add_view_arguments, progress_of, view_of


def add_commands(stages: Any) -> None:
    """The way back from the server into the store."""
    captures = stages.add_parser("captures", help="list what a server captured, and bring it into a dataset")
    verbs = captures.add_subparsers(title="what", metavar="WHAT", required=True)
    verb = add_verb(verbs, "list", list_, "list what waits in a spool")
    verb.add_argument(
        "spool", nargs="?", help="the folder of osv serve --capture-to (captures, in the lab's folder)"
    )
    verb = add_verb(verbs, "import", import_, "bring what waits in a spool into a dataset, and empty the spool")
    verb.add_argument("spool", help="the folder of osv serve --capture-to")
    verb.add_argument("dataset", help="the dataset to add to; made if it is not there")
    verb.add_argument("--field", default="served_predictions", help="the field for what the server answered")
    verb.add_argument("--tag", action="append", default=[], help="a further tag for the samples; may be repeated")

    drift = stages.add_parser("drift", help="has what the model sees changed since it was trained?")
    verbs = drift.add_subparsers(title="what", metavar="WHAT", required=True)
    verb = add_verb(
        verbs, "reference", reference, "profile a model's answers on held-out images of its training data"
    )
    verb.add_argument("model", help="a path or models:/name@alias")
    add_view_arguments(verb)
    verb.set_defaults(split="val")
    verb.add_argument("--out", help="a file for it; default: the model's sidecar")
    verb = add_verb(verbs, "report", report, "compare captured samples with a model's reference")
    add_view_arguments(verb)
    verb.add_argument("--reference", required=True, help="a model file with a reference, or a file of one")
    verb.add_argument("--field", default="served_predictions", help="the field with predictions")


def list_(args: argparse.Namespace) -> Any:
    from osv_lab.store.captures import list_captures

    return list_captures(args.spool)


def import_(args: argparse.Namespace) -> Any:
    from osv_lab.store.captures import import_captures

    with progress_of(args) as progress:
        return import_captures(args.spool, args.dataset, field=args.field, tags=tuple(args.tag), progress=progress)


def reference(args: argparse.Namespace) -> Any:
    from osv_lab.store.drift import make_reference

    with progress_of(args) as progress:
        return make_reference(args.model, view_of(args), split=args.split or "", out=args.out, progress=progress)


def report(args: argparse.Namespace) -> Any:
    from osv_lab.store.drift import drift

    whole = args.view is None and args.split is None
    return drift(view_of(args), args.reference, field=args.field, captured_only=whole)
