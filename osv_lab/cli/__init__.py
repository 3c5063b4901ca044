"""``osv``: the stages of the loop as commands. Each is a few lines over one function of the library."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import osv_lab
from osv_lab.cli import (
    annotate,
    captures,
    compare,
    curate,
    data,
    evaluate,
    jobs,
    models,
    plugins,
    tracks,
    tune,
    up,
    versions,
)
from osv_lab.cli.common import add_verb, progress_of
from osv_lab.core.errors import InterruptedJobError, OsvError

EXIT_CODES = """\
exit codes: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 invalid data; 5 something outside is missing;
6 a check said no; 130 interrupted (resumable)."""


def build_parser() -> argparse.ArgumentParser:
    """The ``osv`` argument parser. Imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="osv",
        description="Curate, train, look, serve: the OpenSupervision Lab on the command line.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"osv {osv_lab.__version__}")
    stages = parser.add_subparsers(title="stages", metavar="STAGE", required=True)

    verb = add_verb(stages, "demo", demo, "the whole loop on one data set, ending with a served prediction")
    verb.add_argument("--source", help="your images and labels; default: a rendered set with known truth")
    verb.add_argument("--weights", help="a .pt to start from; default: train from scratch")
    verb.add_argument("--epochs", type=int, help="training epochs")
    verb.add_argument("--name", help="name of the dataset and the registered model (default: from the source)")
    verb.add_argument("--download", action="store_true", help="with no --source: fetch a small open data set")

    verb = add_verb(stages, "doctor", doctor, "check this machine, and say what to do about each finding")
    data.add_commands(stages)
    curate.add_commands(stages)
    annotate.add_commands(stages)
    versions.add_commands(stages)
    models.add_commands(stages)
    tune.add_commands(stages)
    evaluate.add_commands(stages)
    compare.add_commands(stages)
    tracks.add_commands(stages)
    export = stages.add_parser("export", help="export a model for serving, or a dataset in another format")
    kinds = export.add_subparsers(title="what", metavar="WHAT", required=True)
    models.add_export(kinds)
    data.add_export(kinds)
    models.add_serving(stages)
    captures.add_commands(stages)
    plugins.add_commands(stages)
    jobs.add_commands(stages)
    up.add_commands(stages)
    return parser


def demo(args: argparse.Namespace) -> Any:
    from osv_lab.demo import demo

    with progress_of(args) as progress:
        return demo(
            source=args.source,
            weights=args.weights,
            epochs=args.epochs,
            name=args.name,
            download=args.download,
            progress=progress,
        )


def doctor(args: argparse.Namespace) -> Any:
    from osv_lab.doctor import doctor

    return doctor()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = build_parser().parse_args(tracks.with_verb(sys.argv[1:] if argv is None else argv))
    from osv_lab import console

    try:
        result = args.command(args)
    except OsvError as error:
        if args.debug:
            raise
        console.show_error(error, args.json)
        return error.exit_code
    except KeyboardInterrupt:
        if args.debug:
            raise
        stopped = InterruptedJobError("interrupted", fix="run the same command again to go on")
        console.show_error(stopped, args.json)
        return stopped.exit_code
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; there is nobody left to tell.
        sys.stderr.close()
        return 1
    if result is not None:
        console.show(result, args.json)
    return int(getattr(result, "exit_code", 0))
