"""``osv up`` and ``down``: the whole lab on one machine, without Docker."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from osv_lab.cli.common import add_verb
from osv_lab.core.errors import UsageError


def add_commands(stages: Any) -> None:
    """The commands that start and stop all services together."""
    verb = add_verb(stages, "up", up, "start the server, MLflow, the App and JupyterLab; Ctrl-C stops them all")
    verb.add_argument("services", nargs="*", metavar="SERVICE", help="only these: api, mlflow, app, jupyter")
    verb.add_argument("--model", help="what the server serves (default: the champion that was registered last)")
    verb.add_argument("--capture", metavar="RULES", help="which images the server keeps, as for osv serve")
    verb.add_argument("--notebooks", default=".", metavar="FOLDER", help="what JupyterLab opens (default: here)")
    verb.add_argument(
        "--port",
        action="append",
        default=[],
        metavar="SERVICE=PORT",
        help="another port, as app=5152 (repeatable)",
    )
    add_verb(stages, "down", down, "stop what osv up started, from another terminal")


def up(args: argparse.Namespace) -> Any:
    from osv_lab import console
    from osv_lab.up import Running, up

    def ready(running: Running) -> None:
        console.show(running, args.json)
        sys.stdout.flush()

    console.log_to_terminal()
    options = {"notebooks": args.notebooks, "capture": args.capture, "ready": ready}
    up(args.model, only=args.services, ports=_ports(args.port), **options)


def down(args: argparse.Namespace) -> Any:
    from osv_lab.up import down

    return down()


def _ports(items: Sequence[str]) -> dict[str, int]:
    ports = {}
    for item in items:
        name, _, port = item.partition("=")
        if not port.isdecimal():
            raise UsageError("--port takes SERVICE=PORT", repr(item), "for example --port app=5152")
        ports[name.strip()] = int(port)
    return ports
