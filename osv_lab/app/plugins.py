"""The lab's plugins for the FiftyOne App: where they are, putting them in place, and the switches they need."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.privacy import silence
from osv_lab.core.report import Report
from osv_lab.core.settings import Settings, load_settings

PLUGINS_DIR = "FIFTYONE_PLUGINS_DIR"
SWITCHES: Mapping[str, str] = {
    # Without it every call of an operator runs every plugin's code anew.
    "FIFTYONE_PLUGINS_CACHE_ENABLED": "true",
    # The App offers to schedule an operator only with it; the worker of osv app takes what is scheduled.
    "FIFTYONE_ALLOW_LEGACY_ORCHESTRATORS": "true",
}
_FILE = "fiftyone.yml"


@dataclass(frozen=True)
class Plugins(Report):
    """The lab's plugins and where they are.

    Attributes:
        folder: The plugin folder of the user's FiftyOne.
        plugins: One mapping per plugin: ``plugin``, ``about``, ``operators``, ``panels`` and ``installed``.
    """

    folder: Path
    plugins: tuple[Mapping[str, Any], ...]

    def rows(self) -> tuple[Mapping[str, Any], ...]:
        return self.plugins

    def summary(self) -> str:
        installed = sum(one["installed"] != "no" for one in self.plugins)
        return f"{len(self.plugins)} plugins, {installed} installed in {self.folder}; osv app has all of them"


def source() -> Path:
    """The folder with the lab's plugins, one folder each: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "fiftyone_plugins", package.parent / "fiftyone_plugins"):
        if folder.is_dir():
            return folder
    raise NotFoundError("the plugins are not there", package / "fiftyone_plugins", "install osv-lab again")


def list_plugins() -> Plugins:
    """The lab's plugins, and which are in the user's FiftyOne."""
    folder = user_folder()
    rows = []
    for plugin in _folders():
        stated = _stated(plugin)
        place = folder / _place(plugin.name)
        installed = "link" if place.is_symlink() else "copy" if place.is_dir() else "no"
        rows.append(
            {
                "plugin": stated["name"],
                "about": stated.get("description", ""),
                "operators": len(stated.get("operators", ())),
                "panels": len(stated.get("panels", ())),
                "installed": installed,
            }
        )
    return Plugins(folder, tuple(rows))


def install(names: tuple[str, ...] | list[str] = (), *, copy: bool = False) -> Plugins:
    """Put plugins into the user's FiftyOne, as links to the package or as copies.

    Args:
        names: Such as ``curate`` or ``@osv/curate``; by default all.
        copy: Copy, where FiftyOne's folder is to stand alone; a copy stays as it is when osv-lab is upgraded.

    Raises:
        NotFoundError: no such plugin.
        UsageError: something of the user's is in its place.
    """
    folder = user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for plugin in _named(names):
        place = folder / _place(plugin.name)
        _clear(place)
        if copy or not _link(plugin, place):
            with tempfile.TemporaryDirectory(dir=folder, prefix=".osv-") as temporary:
                whole = Path(temporary) / plugin.name
                shutil.copytree(plugin, whole, ignore=shutil.ignore_patterns("__pycache__"))
                whole.rename(place)
    return list_plugins()


def remove(names: tuple[str, ...] | list[str] = ()) -> Plugins:
    """Take plugins (by default all of the lab's) out of the user's FiftyOne.

    Raises:
        NotFoundError: no such plugin.
        UsageError: something of the user's is in its place.
    """
    for plugin in _named(names):
        _clear(user_folder() / _place(plugin.name))
    return list_plugins()


def use_plugins(settings: Settings | None = None) -> Path:
    """Have this process and those that it starts use the lab's plugins beside the user's own.

    A folder of the lab links to both; ``FIFTYONE_PLUGINS_DIR`` is pointed there, and the switches are set that plugins
    and jobs need (:data:`SWITCHES`). Call it before the App's server starts.

    Returns:
        That folder.
    """
    settings = settings or load_settings()
    silence()
    both = settings.home / "app" / "plugins"
    both.mkdir(parents=True, exist_ok=True)
    theirs = user_folder()
    if theirs != both:
        _link_anew(theirs, both / "yours")
    _link_anew(source(), both / "osv")
    os.environ[PLUGINS_DIR] = str(both)
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if (fo := sys.modules.get("fiftyone")) is not None:
        # FiftyOne read its configuration when it was imported.
        fo.config.plugins_dir = str(both)
        fo.config.plugins_cache_enabled = True
        fo.config.allow_legacy_orchestrators = True
    return both


def user_folder() -> Path:
    """The user's own plugin folder, as FiftyOne finds it."""
    from osv_lab.store.database import _import_fiftyone

    silence()
    configured = Path(_import_fiftyone().config.plugins_dir).expanduser()
    ours = configured / "yours"
    return ours.readlink() if ours.is_symlink() and (configured / "osv").is_symlink() else configured


def _folders() -> list[Path]:
    return sorted(path.parent for path in source().glob(f"*/{_FILE}"))


def _named(names: tuple[str, ...] | list[str]) -> Iterator[Path]:
    folders = {plugin.name: plugin for plugin in _folders()}
    for name in names or folders:
        short = name.removeprefix("@osv/")
        if short not in folders:
            raise NotFoundError("no such plugin", repr(name), nearest(short, folders))
        yield folders[short]


def _place(name: str) -> str:
    return f"osv-{name}"


def _stated(plugin: Path) -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load((plugin / _FILE).read_text("utf-8")))


def _clear(place: Path) -> None:
    """Remove a plugin of ours; nothing else is touched."""
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        if not (place / _FILE).is_file() or not str(_stated(place).get("name", "")).startswith("@osv/"):
            raise UsageError("something else is in the plugin's place", place, "move it away")
        shutil.rmtree(place)


def _link(target: Path, place: Path) -> bool:
    """Whether a link could be made; some systems allow none."""
    try:
        place.symlink_to(target, target_is_directory=True)
    except OSError:
        return False
    return True


def _link_anew(target: Path, place: Path) -> None:
    if place.is_symlink() and place.readlink() == target:
        return
    temporary = place.with_name(f".{place.name}-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(target, target_is_directory=True)
    temporary.replace(place)
