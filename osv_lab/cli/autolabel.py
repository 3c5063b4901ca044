"""``osv annotate autolabel`` and ``predict``: a detector proposes labels, here or on the CVAT server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from osv_lab.cli.common import add_narrowing, dataset_verb, progress_of, view_of
from osv_lab.core.errors import UsageError


def add_commands(verbs: Any) -> None:
    """The verbs."""
    text = "a detector proposes labels; what people made stays as it is"
    verb = dataset_verb(verbs, "autolabel", autolabel, text)
    verb.add_argument("model", help="a model: a path, or models:/NAME@ALIAS")
    add_narrowing(verb)
    verb.add_argument("--field", default="ground_truth", help="the label field (ground_truth)")
    _add_rules(verb)
    verb.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="[LABEL=]0.6",
        help="proposals below are for people; may be repeated (0.6)",
    )
    verb.add_argument(
        "--tracker", metavar="NAME", help="of videos, make tracks of the proposals: botsort, bytetrack, deepsort"
    )

    verb = dataset_verb(verbs, "predict", predict, "a detector labels a CVAT task, only where no person's work is")
    verb.add_argument("model", help="a model: a path, or models:/NAME@ALIAS")
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument("--key", help="the task of this run")
    which.add_argument("--task", type=int, help="any task, by CVAT's id")
    _add_rules(verb)


def _add_rules(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="CLASS=LABEL",
        help="what a class of the model (or a pattern, as in 't*') becomes; CLASS= drops it; may be repeated",
    )
    verb.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="[LABEL=]0.25",
        help="less confident detections are left out; may be repeated (0.25)",
    )


def autolabel(args: argparse.Namespace) -> Any:
    from osv_lab.annotate.autolabel import autolabel
    from osv_lab.annotate.cvat_function import ontology_of
    from osv_lab.annotate.proposals import THRESHOLD, TRUST

    view = view_of(args)
    with progress_of(args) as progress:
        return autolabel(
            view,
            args.model,
            args.field,
            ontology_of(args.map),
            levels(args.threshold, THRESHOLD),
            trust=levels(args.trust, TRUST),
            tracker=args.tracker,
            progress=progress,
        )


def predict(args: argparse.Namespace) -> Any:
    from osv_lab.annotate import AnnotationLoop
    from osv_lab.annotate.cvat_function import ontology_of
    from osv_lab.annotate.proposals import THRESHOLD

    rules = ontology_of(args.map), levels(args.threshold, THRESHOLD)
    with progress_of(args) as progress, AnnotationLoop(args.dataset, progress=progress) as loop:
        if args.key is not None:
            return loop.predict(args.key, args.model, *rules)
        return loop.annotate_task(args.task, args.model, *rules)


def levels(words: Sequence[str], default: float) -> float | dict[str, float]:
    """``["0.3", "WBC=0.5"]``: one confidence for all, and others by label.

    Raises:
        UsageError: no number.

    Example:
        >>> levels(["0.3"], 0.25), levels(["WBC=0.5"], 0.25), levels([], 0.25)
        (0.3, {'WBC': 0.5}, 0.25)
    """
    every, found = default, {}
    for word in words:
        name, equals, value = word.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise UsageError("a confidence is a number, or LABEL=number", repr(word)) from None
        if equals:
            found[name] = number
        else:
            every = number
    if found and every != default:
        raise UsageError("one confidence for all, or one for each label", " ".join(words), "name every label")
    return found or every
