"""``osv plugins``: the lab's operators and panels in the user's own FiftyOne."""

from __future__ import annotations

import argparse
from typing import Any

from osv_lab.cli.common import add_verb


def add_commands(stages: Any) -> None:
    """``osv plugins list``, ``install`` and ``remove``."""
    stage = stages.add_parser(
        "plugins", help="the lab's plugins for the FiftyOne App; osv app needs no installing"
    )
    verbs = stage.add_subparsers(title="what", metavar="WHAT", required=True)

    add_verb(verbs, "list", list_all, "list the plugins, and which are in your FiftyOne")

    verb = add_verb(verbs, "install", install, "put plugins into your FiftyOne's plugin folder")
    verb.add_argument("names", nargs="*", metavar="NAME", help="such as curate; default: all")
    verb.add_argument("--copy", action="store_true", help="copy instead of linking to the package")

    verb = add_verb(verbs, "remove", remove, "take plugins out of your FiftyOne")
    verb.add_argument("names", nargs="*", metavar="NAME", help="default: all of the lab's")


def list_all(args: argparse.Namespace) -> Any:
    from osv_lab.app.plugins import list_plugins

    return list_plugins()


def install(args: argparse.Namespace) -> Any:
    from osv_lab.app.plugins import install

    return install(args.names, copy=args.copy)


def remove(args: argparse.Namespace) -> Any:
    from osv_lab.app.plugins import remove

    return remove(args.names)
