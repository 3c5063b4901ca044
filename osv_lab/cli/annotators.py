"""``osv annotate``: conflicts, stages, what annotators made of proposals, how far they agree, and webhooks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from osv_lab.cli.common import dataset_verb
from osv_lab.core.errors import UsageError


def add_commands(verbs: Any) -> None:
    """The verbs."""
    verb = dataset_verb(verbs, "conflicts", conflicts, "what both sides changed differently; asks no server")
    _key(verb)

    verb = dataset_verb(verbs, "resolve", resolve, "settle conflicts; asks no server")
    _key(verb)
    verb.add_argument("objects", nargs="*", metavar="OBJECT", help="ids of labels, as 'conflicts' shows them")
    verb.add_argument("--all", action="store_true", help="all that are open")
    verb.add_argument(
        "--keep", required=True, metavar="WHICH", help="ours, theirs, or the number of one of several of theirs"
    )

    verb = dataset_verb(verbs, "reassign", reassign, "give jobs to others, in turn; without a user to nobody")
    _key(verb)
    verb.add_argument("users", nargs="*", metavar="USER", help="user names")
    _jobs(verb, "default: all")

    verb = dataset_verb(
        verbs, "advance", advance, "move completed jobs to review, and reviewed ones to acceptance"
    )
    _key(verb)
    _jobs(verb, "default: those that are completed")
    verb.add_argument("--to", choices=("annotation", "validation", "acceptance"), help="default: the next stage")
    verb.add_argument("--reviewer", action="append", default=[], metavar="USER", help="default: as they were sent")

    verb = dataset_verb(verbs, "send-back", send_back, "give jobs back, rejected, to those who annotated them")
    _key(verb)
    verb.add_argument("jobs", nargs="+", type=int, metavar="JOB", help="CVAT's ids")

    text = "what annotators made of what was sent: accepted, moved, relabelled, removed, added; asks no server"
    verb = dataset_verb(verbs, "yield", yield_, text)
    _key(verb)
    verb.add_argument("--plot", metavar="FILE.html", help="also write the plot")

    verb = dataset_verb(
        verbs, "agreement", agreement, "how far annotators of the same images agree; asks no server"
    )
    verb.add_argument("keys", nargs="*", metavar="KEY", help="runs; default: all")
    verb.add_argument("--iou", type=float, default=0.5, help="overlap from which two objects are matched (0.5)")
    verb.add_argument("--plot", metavar="FILE.html", help="also write the plot")

    verb = dataset_verb(verbs, "listen", listen, "pull whenever CVAT says that something changed, until Ctrl-C")
    verb.add_argument("keys", nargs="*", metavar="KEY", help="runs; default: all")
    verb.add_argument("--status", action="store_true", help="show the status instead of pulling")
    verb.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    verb.add_argument("--port", type=int, default=0, help="default: a free one")
    verb.add_argument("--target", metavar="URL", help="our address as the CVAT server reaches it")


def _key(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("key", help="the name of the run")


def _jobs(verb: argparse.ArgumentParser, default: str) -> None:
    verb.add_argument("--job", type=int, action="append", metavar="N", help=f"only this job; {default}")


def conflicts(args: argparse.Namespace) -> Any:
    return _loop(args).conflicts(args.key)


def resolve(args: argparse.Namespace) -> Any:
    if bool(args.objects) == args.all:
        raise UsageError(
            "which conflicts?", "objects and --all" if args.all else "none named", "name them, or --all"
        )
    keep = int(args.keep) if args.keep.isdigit() else args.keep
    return _loop(args).resolve(args.key, None if args.all else args.objects, keep=keep)


def reassign(args: argparse.Namespace) -> Any:
    with _loop(args) as loop:
        return loop.reassign(args.key, args.users, args.job)


def advance(args: argparse.Namespace) -> Any:
    with _loop(args) as loop:
        return loop.advance(args.key, args.job, to=args.to, reviewers=args.reviewer)


def send_back(args: argparse.Namespace) -> Any:
    with _loop(args) as loop:
        return loop.send_back(args.key, args.jobs)


def yield_(args: argparse.Namespace) -> Any:
    return _plotted(_loop(args).yields(args.key), args.plot)


def agreement(args: argparse.Namespace) -> Any:
    return _plotted(_loop(args).agreement(*args.keys, iou=args.iou), args.plot)


def listen(args: argparse.Namespace) -> Any:
    import signal
    import sys
    import threading

    def told(key: str, report: Any) -> None:
        print(f"{key}: {report.summary()}", flush=True)

    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # The webhook must be taken off the server also where a service manager ends us.
        signal.signal(number, lambda *_: end.set())
    options = {"host": args.host, "port": args.port, "target": args.target, "pull": not args.status}
    with _loop(args) as loop, loop.listen(*args.keys, told=told, **options) as listening:
        print(f"listening on {listening.listener.address}; Ctrl-C ends it", file=sys.stderr, flush=True)
        end.wait()
        return loop.list()


def _loop(args: argparse.Namespace) -> Any:
    from osv_lab.annotate import AnnotationLoop

    return AnnotationLoop(args.dataset)


def _plotted(report: Any, path: str | None) -> Any:
    if path is not None:
        report.plot().write_html(Path(path), include_plotlyjs=True)
    return report
