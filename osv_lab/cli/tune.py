"""``osv tune``."""

from __future__ import annotations

import argparse
from typing import Any

from osv_lab.cli.common import add_verb, add_view_arguments, assignments, progress_of, view_of


def add_commands(stages: Any) -> None:
    """The command that searches recipe settings."""
    verb = add_verb(
        stages, "tune", tune, "search recipe settings for accuracy and latency; the same command again goes on"
    )
    add_view_arguments(verb)
    verb.add_argument("--recipe", help="a YAML file with the settings that every trial starts from")
    verb.add_argument("--model", help="a .pt, a .yaml architecture, or an architecture's name (default yolo11n)")
    verb.add_argument("--epochs", type=int)
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one further recipe setting")
    verb.add_argument(
        "--vary",
        action="append",
        required=True,
        default=[],
        metavar="KEY=SPACE",
        help="what varies: imgsz=[320, 640] is a choice, lr0={low: 0.0001, high: 0.01, log: true} a range (repeatable)",
    )
    verb.add_argument("--trials", type=int, default=20, help="trials in all, those of earlier sittings included")
    verb.add_argument(
        "--objective",
        action="append",
        choices=("accuracy", "latency"),
        help="what to tune for (both); repeatable",
    )
    verb.add_argument("--name", help="the tuning's name (default: made from data, recipe and space)")
    verb.add_argument("--gt", default="ground_truth", help="field with ground truth")


def tune(args: argparse.Namespace) -> Any:
    from osv_lab.train.recipe import Recipe
    from osv_lab.train.tune import tune

    settings: dict[str, Any] = Recipe.from_yaml(args.recipe).to_dict() if args.recipe else {"model": "yolo11n"}
    for name in ("model", "epochs"):
        if (value := getattr(args, name)) is not None:
            settings[name] = value
    settings.update(assignments(args.set))
    with progress_of(args) as progress:
        return tune(
            view_of(args),
            Recipe.from_dict(settings),
            assignments(args.vary),
            args.trials,
            args.objective or ("accuracy", "latency"),
            name=args.name,
            gt_field=args.gt,
            progress=progress,
        )
