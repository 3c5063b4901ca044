"""Which services a lab has, and the command that starts each."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from osv_lab.core.errors import OsvError, UsageError, nearest
from osv_lab.core.files import write_atomic
from osv_lab.core.settings import Settings, load_settings

PORTS = {"mlflow": 5000, "app": 5151, "api": 8000, "jupyter": 8888}
"""The services, in the order in which they are started, and their usual ports."""


# Defaults for JupyterLab, which a user's own settings outdo: nobody is asked whether to fetch news.
_JUPYTER_DEFAULTS = Path(__file__).parent / "jupyter"


@dataclass(frozen=True)
class Service:
    """One service.

    Attributes:
        name: One word, as commands take it.
        title: As people know it.
        command: What starts it.
        port: Where it listens, on loopback.
        health: Path that answers with success when it is up.
        secret: What is added to the address so that a browser is let in; never written to a file.
        environment: What its process has beyond this one's environment.
    """

    name: str
    title: str
    command: tuple[str, ...]
    port: int
    health: str
    secret: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def page(self) -> str:
        """Where a browser is sent."""
        return f"{self.address}/{self.secret}" if self.secret else self.address


def planned(
    settings: Settings,
    model: str | None,
    only: Sequence[str],
    ports: Mapping[str, int],
    notebooks: Path,
    capture: str | None = None,
) -> tuple[list[Service], dict[str, str]]:
    """The services to start, and those left out with the reason.

    Raises:
        UsageError: no such service, port or folder; a model was asked for and its server was not.
    """
    for name in (*only, *ports):
        if name not in PORTS:
            raise UsageError("there is no such service", repr(name), nearest(name, PORTS))
    for name, port in ports.items():
        if not 1 <= port <= 65535:
            raise UsageError(f"no such port for {name}", port, "use 1 to 65535")
    wanted = [name for name in PORTS if not only or name in only]
    if model is not None and "api" not in wanted:
        raise UsageError("a model was named, and no server is started for it", model, "add api to the services")
    at = {**PORTS, **ports}
    services: list[Service] = []
    left_out: dict[str, str] = {}
    for name in wanted:
        if name == "api":
            ref = model or champion()
            if ref is None:
                left_out["api"] = (
                    "no champion is registered; give a model, or: osv register FILE NAME --alias champion"
                )
                continue
            services.append(_api(ref, at["api"], capture))
        elif name == "mlflow":
            if not settings.tracking_uri.startswith("sqlite:"):
                left_out["mlflow"] = f"MLFLOW_TRACKING_URI names another: {settings.tracking_uri}"
                continue
            services.append(_mlflow(settings, at["mlflow"]))
        elif name == "app":
            command = _python("-m", "osv_lab", "app", "--port", str(at["app"]))
            services.append(Service("app", "FiftyOne App", command, at["app"], "/fiftyone"))
        else:
            services.append(jupyter_service(notebooks, at["jupyter"]))
    return services, left_out


def champion() -> str | None:
    """The champion that was registered last, as a reference."""
    try:
        from osv_lab.train.registry import list_models

        champions = [one for one in list_models() if "champion" in one.aliases]
    except OsvError:
        return None
    newest = max(champions, key=lambda one: one.created, default=None)
    return None if newest is None else f"models:/{newest.name}@champion"


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _api(ref: str, port: int, capture: str | None) -> Service:
    options = ["--also", ref.partition("@")[0]] if ref.startswith("models:/") else []
    options += ["--capture", capture] if capture else []
    command = _python("-m", "osv_lab", "serve", ref, "--port", str(port), *options)
    return Service("api", "server", command, port, "/ready")


def _mlflow(settings: Settings, port: int) -> Service:
    from osv_lab.train.tracking import client

    client(settings)  # makes the database, in a way that survives a kill
    command = _python("-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    command += ("--backend-store-uri", settings.tracking_uri)
    command += ("--artifacts-destination", str(settings.artifacts_dir))
    return Service("mlflow", "MLflow", command, port, "/health")


def notebooks_folder(given: str | Path | None = None, settings: Settings | None = None) -> Path:
    """Where notebooks are: as given, else ``./notebooks``, else a copy of the lab's own under its home.

    A notebook that is in the copy already stays as its user left it.
    """
    if given is not None:
        return Path(given)
    here = Path("notebooks")
    if here.is_dir():
        return here
    package = Path(__file__).resolve().parent.parent
    copy = (settings or load_settings()).home / "notebooks"
    copy.mkdir(parents=True, exist_ok=True)
    for source in (package / "notebooks", package.parent / "notebooks"):
        for notebook in sorted(source.glob("*.ipynb")):
            if not (copy / notebook.name).exists():
                write_atomic(copy / notebook.name, notebook.read_bytes())
    return copy


def jupyter_service(notebooks: Path, port: int, options: Sequence[str] = ()) -> Service:
    """JupyterLab on a folder.

    Args:
        notebooks: The folder it opens.
        port: Where it listens, on loopback.
        options: Further options of its command line.

    Raises:
        UsageError: no such folder.
    """
    folder = notebooks.expanduser().resolve()
    if not folder.is_dir():
        raise UsageError("no such folder for notebooks", folder, "make it, or give another")
    token = secrets.token_urlsafe(24)
    command = _python("-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}")
    # Root is what a container has; and nothing here asks other hosts for updates, news or extensions.
    command += ("--allow-root", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}")
    command += ("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=")
    command += ("--LabApp.extension_manager=readonly", *options)
    # In the environment, since every user of the machine can read a command line.
    settings = os.pathsep.join(filter(None, [str(_JUPYTER_DEFAULTS), os.environ.get("JUPYTER_CONFIG_PATH")]))
    environment = {"JUPYTER_TOKEN": token, "JUPYTER_CONFIG_PATH": settings}
    return Service("jupyter", "JupyterLab", command, port, "/api", f"lab?token={token}", environment)
