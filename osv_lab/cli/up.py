"""``osv up``, ``lab`` and ``down``: the whole lab on one machine, or its notebooks, without Docker."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
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
    verb = add_verb(stages, "lab", lab, "start JupyterLab with the notebooks; Ctrl-C stops it")
    verb.add_argument(
        "folder", nargs="?", help="the notebooks' folder (default: ./notebooks, else a copy of the lab's)"
    )
    verb.add_argument("--port", type=int, help="another port than 8888")
    add_verb(stages, "down", down, "stop what osv up started, from another terminal")


def up(args: argparse.Namespace) -> Any:
    _run(args, args.model, args.services, _ports(args.port), args.notebooks)


def lab(args: argparse.Namespace) -> Any:
    from osv_lab.up.services import notebooks_folder

    ports = {"jupyter": args.port} if args.port is not None else {}
    _run(args, None, ["jupyter"], ports, notebooks_folder(args.folder))


def _run(
    args: argparse.Namespace, model: str | None, only: Sequence[str], ports: Mapping[str, int], folder: Any
) -> None:
    from osv_lab import console
    from osv_lab.up import Running, up

    def ready(running: Running) -> None:
        console.show(running, args.json)
        sys.stdout.flush()

    console.log_to_terminal()
    # Only osv up has a server that could capture.
    capture = getattr(args, "capture", None)
    up(model, only=only, ports=ports, notebooks=folder, capture=capture, ready=ready)


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
