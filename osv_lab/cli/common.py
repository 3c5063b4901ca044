"""What the commands share: their arguments, and how those become what functions take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from osv_lab.core.errors import UsageError

Command = Callable[[argparse.Namespace], Any]


def add_verb(stages: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """A command: its name, what it runs, and what it does in a few words."""
    verb: argparse.ArgumentParser = stages.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.set_defaults(command=command)
    verb.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    verb.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    verb.add_argument("--quiet", action="store_true", help="no progress")
    return verb


def dataset_verb(stages: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """A command about one dataset."""
    verb = add_verb(stages, name, command, text)
    verb.add_argument("dataset", help="a dataset")
    return verb


def add_view_arguments(verb: argparse.ArgumentParser) -> None:
    """A dataset, or a part of it."""
    verb.add_argument("dataset", help="a dataset, or a version of one (NAME@v1)")
    add_narrowing(verb)


def add_narrowing(verb: argparse.ArgumentParser) -> None:
    """Which part of the dataset."""
    verb.add_argument("--split", help="only this split")
    verb.add_argument("--view", help="a saved view of the dataset")
    verb.add_argument("--query", help="only samples that match, as in 'class:RBC>=10 conf<0.4 -tag:reviewed'")


def add_confidence(verb: argparse.ArgumentParser, text: str, default: float | None = None) -> None:
    """``--confidence``: a number, or ``model`` for the model's own thresholds."""
    verb.add_argument(
        "--confidence",
        type=lambda given: given if given == "model" else float(given),
        default=default,
        metavar="SCORE",
        help=f"{text}; 'model' for the model's own thresholds, by class",
    )


def progress_of(args: argparse.Namespace) -> Any:
    """Progress on the terminal, unless ``--quiet``."""
    from osv_lab.console import progress_on_terminal

    return progress_on_terminal(quiet=args.quiet)


def view_of(args: argparse.Namespace) -> Any:
    """The dataset or view that the arguments name."""
    from osv_lab.store.catalogue import open_dataset, open_view
    from osv_lab.store.versions import is_version, load_version

    name = getattr(args, "view", None)
    if name:
        view = open_view(args.dataset, name)
    elif "@" in args.dataset and is_version(args.dataset):
        view = load_version(args.dataset)
    else:
        view = open_dataset(args.dataset).view()
    view = view.match_tags(args.split) if args.split else view
    if text := getattr(args, "query", None):
        from osv_lab.curate.query import query

        view = query(view, text)
    return view


def assignments(items: Sequence[str]) -> dict[str, Any]:
    """``["lr0=0.01", "name=x"]`` as typed values, by YAML's rules."""
    import yaml

    settings = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError("--set takes KEY=VALUE", repr(item), "for example --set lr0=0.005")
        settings[key.strip()] = yaml.safe_load(value)
    return settings


def whole(text: str) -> int:
    """A whole number, as in an identity or a frame.

    Raises:
        UsageError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        raise UsageError("not a whole number", repr(text)) from None
