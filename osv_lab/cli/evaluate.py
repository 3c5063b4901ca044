"""``osv errors``, ``slices``, ``thresholds``, ``calibration`` and ``robustness``."""

from __future__ import annotations

import argparse
from typing import Any

from osv_lab.cli.common import add_verb, add_view_arguments, progress_of, view_of


def add_commands(stages: Any) -> None:
    """The commands that look into an evaluation."""
    verb = add_verb(stages, "errors", errors, "type each error, and say what mending each type would bring in mAP")
    _add_what(verb)
    verb.add_argument("--confidence", type=float, default=0.0, help="leave out predictions below (0)")
    verb.add_argument(
        "--by", action="append", default=[], metavar="WHAT", help="also by tags, density, any field; repeatable"
    )
    verb.add_argument("--save", action="store_true", help="write each error's type to its label, and save views")

    verb = add_verb(stages, "thresholds", thresholds, "choose the confidence thresholds to run a model at")
    add_view_arguments(verb)
    verb.add_argument("--key", default="eval", help="the evaluation to choose on (eval)")
    verb.add_argument(
        "--objective", default="f1", help="f1, f2, f0.5, ..., recall (with --min-precision) or cost (f1)"
    )
    verb.add_argument(
        "--min-precision", type=float, metavar="P", help="only thresholds with at least this precision"
    )
    verb.add_argument("--one", action="store_true", help="one threshold for all classes")
    verb.add_argument("--cost-false", type=float, default=1.0, help="cost of a false prediction, for cost (1)")
    verb.add_argument("--cost-missed", type=float, default=1.0, help="cost of a missed object, for cost (1)")
    verb.add_argument("--measure", metavar="KEY", help="say what they give on another evaluation of the dataset")
    verb.add_argument("--save", metavar="MODEL", help="keep them with this file or models:/name@alias")
    verb.add_argument("--n-boot", type=int, default=500, help="resamples for the intervals; 0 for none (500)")
    verb.add_argument("--seed", type=int, default=51)

    verb = add_verb(stages, "slices", slices, "score parts of the images, and say which are worse beyond chance")
    _add_what(verb)
    verb.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="WHAT",
        help="tags, brightness, sharpness, density, size, class, cluster or a field; repeatable "
        "(tags, brightness, density, size, cluster)",
    )
    verb.add_argument("--metric", default="mAP", help="mAP, F1 or recall (mAP)")
    verb.add_argument("--correction", default="holm", help="for many slices: holm, bh or none (holm)")
    verb.add_argument("--confidence", type=float, help="operating point of F1 and recall (where mean F1 is best)")
    verb.add_argument("--embeddings", metavar="FIELD", help="vectors to cluster by (colours and edges)")
    verb.add_argument("--n-boot", type=int, default=1000, help="resamples, and permutations (1000)")
    verb.add_argument("--seed", type=int, default=51)

    verb = add_verb(stages, "calibration", calibration, "say whether scores mean what they say")
    add_view_arguments(verb)
    verb.add_argument("--key", default="eval", help="the evaluation (eval)")
    verb.add_argument("--confidence", type=float, default=0.0, help="only detections that score above (0)")
    verb.add_argument("--bins", type=int, default=10, help="bins from 0 to 1 (10)")
    verb.add_argument("--n-boot", type=int, default=500, help="resamples for the intervals (500)")
    verb.add_argument("--seed", type=int, default=51)

    verb = add_verb(stages, "robustness", robustness, "score a model on images made worse step by step")
    add_view_arguments(verb)
    verb.add_argument("--model", required=True, help="a path or models:/name@alias")
    verb.add_argument("--gt", default="ground_truth", help="field with ground truth")
    verb.add_argument(
        "--corruption",
        action="append",
        default=[],
        metavar="WHAT",
        help="blur, noise, brightness, darkness, jpeg or scale; repeatable (all)",
    )
    verb.add_argument("--severity", action="append", type=int, default=[], help="1 to 5; repeatable (1, 3, 5)")
    verb.add_argument("--max-images", type=int, default=200, help="most images (200)")
    verb.add_argument("--seed", type=int, default=51)


def _add_what(verb: argparse.ArgumentParser) -> None:
    add_view_arguments(verb)
    verb.add_argument("--key", help="an evaluation, whose fields and IoU are taken")
    verb.add_argument("--pred", default="predictions", help="field with predictions, without --key")
    verb.add_argument("--gt", default="ground_truth", help="field with ground truth, without --key")
    verb.add_argument("--iou", type=float, default=0.5, help="least overlap of a match, without --key (0.5)")


def _what(args: argparse.Namespace) -> dict[str, Any]:
    return {"eval_key": args.key, "pred_field": args.pred, "gt_field": args.gt, "iou": args.iou}


def errors(args: argparse.Namespace) -> Any:
    from osv_lab.evaluate.error_budget import error_budget

    budget = error_budget(view_of(args), **_what(args), confidence=args.confidence, by=args.by)
    if args.save:
        budget.save_views()
    return budget


def thresholds(args: argparse.Namespace) -> Any:
    from osv_lab.evaluate.thresholds import choose_thresholds

    view = view_of(args)
    chosen = choose_thresholds(
        view,
        args.objective,
        args.min_precision,
        not args.one,
        key=args.key,
        cost_false=args.cost_false,
        cost_missed=args.cost_missed,
        n_boot=args.n_boot,
        seed=args.seed,
    )
    if args.save:
        chosen.save(args.save)
    return chosen.measured_on(view._dataset, args.measure, args.n_boot) if args.measure else chosen


def slices(args: argparse.Namespace) -> Any:
    from osv_lab.evaluate.slices import BY, slices

    with progress_of(args) as progress:
        return slices(
            view_of(args),
            **_what(args),
            by=args.by or BY,
            metric=args.metric,
            confidence=args.confidence,
            correction=args.correction,
            embeddings=args.embeddings,
            n_boot=args.n_boot,
            seed=args.seed,
            progress=progress,
        )


def calibration(args: argparse.Namespace) -> Any:
    from osv_lab.evaluate.calibration import calibration

    return calibration(
        view_of(args), key=args.key, confidence=args.confidence, bins=args.bins, n_boot=args.n_boot, seed=args.seed
    )


def robustness(args: argparse.Namespace) -> Any:
    from osv_lab.detect import load_detector
    from osv_lab.evaluate.corruptions import CORRUPTIONS
    from osv_lab.evaluate.robustness import robustness

    with progress_of(args) as progress:
        return robustness(
            view_of(args),
            load_detector(args.model),
            args.gt,
            corruptions=args.corruption or tuple(CORRUPTIONS),
            severities=args.severity or (1, 3, 5),
            max_images=args.max_images,
            seed=args.seed,
            progress=progress,
        )
