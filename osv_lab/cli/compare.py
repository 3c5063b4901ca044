"""``osv compare``, ``promote``, ``rollback``, ``lineage`` and ``reproduce``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from osv_lab.cli.common import add_verb, add_view_arguments, progress_of, view_of

_SLICE: dict[str, Any] = {"action": "append", "default": [], "metavar": "FIELD"}


def add_commands(stages: Any) -> None:
    """The commands that pick a model, and say where it came from."""
    verb = add_verb(
        stages, "compare", compare, "compare two evaluations: objects fixed and broken, and what is luck"
    )
    add_view_arguments(verb)
    verb.add_argument("a", help="an evaluation's key or a predictions field: the model that is there now")
    verb.add_argument("b", help="the same of the model that may take its place")
    verb.add_argument("--slice", **_SLICE, help="look at each value of a field (or 'tags') apart; repeatable")
    verb.add_argument("--n-boot", type=int, default=1000, help="resamples of the images (1000)")
    verb.add_argument("--seed", type=int, default=51)

    verb = add_verb(
        stages, "promote", promote, "point an alias at a model if the evidence allows it (exit 6 if not)"
    )
    verb.add_argument("model", help="a registered version, such as models:/cells/4")
    add_view_arguments(verb)
    verb.add_argument("--over", default="champion", metavar="ALIAS", help="the alias (champion)")
    verb.add_argument("--slice", **_SLICE, help="also judge each value of a field (or 'tags') apart; repeatable")
    verb.add_argument("--margin", type=float, default=0.01, help="largest fall of mAP50-95 overall (0.01)")
    verb.add_argument("--slice-margin", type=float, default=0.0, help="largest fall of one class or slice (0)")
    verb.add_argument(
        "--max-latency-ratio", type=float, default=1.25, help="candidate's time over the other's (1.25)"
    )
    verb.add_argument("--max-latency-ms", type=float, help="candidate's median time per image")
    verb.add_argument("--strict", action="store_true", help="slices with too few objects to judge refuse")
    verb.add_argument("--force", action="store_true", help="move the alias whatever is found; needs --reason")
    verb.add_argument("--reason", default="", help="why it is forced; kept with the verdict")

    verb = add_verb(stages, "rollback", rollback, "point an alias back at the version before")
    verb.add_argument("name", help="the registered model")
    verb.add_argument("--alias", default="champion")
    verb.add_argument("--reason", default="")

    verb = add_verb(stages, "lineage", lineage, "where a model came from, and what was made with it")
    verb.add_argument("ref", help="models:/name@alias, a run, DATASET@VERSION, a file, or a digest")
    verb.add_argument("--mermaid", action="store_true", help="print a Mermaid drawing")

    verb = add_verb(stages, "reproduce", reproduce, "do a training run again, and compare (exit 6 if it differs)")
    verb.add_argument("run", help="a run's name or MLflow id")
    verb.add_argument("--tolerance", type=float, default=0.01, help="largest difference of the metric (0.01)")
    verb.add_argument("--metric", default="mAP50-95")


def compare(args: argparse.Namespace) -> Any:
    from osv_lab.evaluate.comparison import compare

    with progress_of(args) as progress:
        return compare(view_of(args), args.a, args.b, args.n_boot, args.seed, slices=args.slice, progress=progress)


def promote(args: argparse.Namespace) -> Any:
    from osv_lab.core.errors import UsageError
    from osv_lab.evaluate.promotion import promote

    if args.force and not args.reason.strip():
        raise UsageError("--force needs a reason", "no --reason", "say why: --reason '...'")
    with progress_of(args) as progress:
        return promote(
            args.model,
            args.over,
            view=view_of(args),
            slices=args.slice,
            margin=args.margin,
            slice_margin=args.slice_margin,
            max_latency_ratio=args.max_latency_ratio,
            max_latency_ms=args.max_latency_ms,
            strict=args.strict,
            force=args.force,
            reason=args.reason,
            progress=progress,
        )


def rollback(args: argparse.Namespace) -> Any:
    from osv_lab.train.aliases import rollback

    return rollback(args.name, args.alias, reason=args.reason)


def lineage(args: argparse.Namespace) -> Any:
    import re

    from osv_lab.train.lineage import lineage

    found = lineage(digest=args.ref) if re.fullmatch(r"[0-9a-f]{12,64}", args.ref) else lineage(args.ref)
    if args.json:
        return found
    sys.stdout.write((found.mermaid() if args.mermaid else found.tree()) + "\n")
    return None


def reproduce(args: argparse.Namespace) -> Any:
    from osv_lab.train.reproduce import reproduce

    with progress_of(args) as progress:
        return reproduce(args.run, args.tolerance, metric=args.metric, progress=progress)
