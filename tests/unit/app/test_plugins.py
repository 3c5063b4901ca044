"""The lab's plugins: they load, each says what it is, and they are put beside the user's own without touching these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from osv_lab.app import plugins
from osv_lab.app.plugins import install, list_plugins, remove, source, use_plugins, user_folder
from osv_lab.core.errors import NotFoundError, UsageError

PLUGINS = sorted(path.parent for path in source().glob("*/fiftyone.yml"))


@pytest.fixture(autouse=True)
def own_folder(fo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """FiftyOne with a plugin folder in which the user has one plugin."""
    theirs = tmp_path / "theirs" / "mine"
    theirs.mkdir(parents=True)
    (theirs / "fiftyone.yml").write_text('name: "@me/mine"\noperators:\n  - hello\n')
    (theirs / "__init__.py").write_text(_MINE)
    monkeypatch.setenv(plugins.PLUGINS_DIR, str(tmp_path / "theirs"))
    for name in plugins.SWITCHES:
        monkeypatch.setenv(name, "true")
    before = {name: getattr(fo.config, name) for name in _CONFIG}
    fo.config.plugins_dir = str(tmp_path / "theirs")
    monkeypatch.setenv("OSV_HOME", str(tmp_path / "home"))
    yield
    for name, value in before.items():
        setattr(fo.config, name, value)


_CONFIG = ("plugins_dir", "plugins_cache_enabled", "allow_legacy_orchestrators")
_MINE = """
import fiftyone.operators as foo

class Hello(foo.Operator):
    @property
    def config(self):
        return foo.OperatorConfig(name="hello", label="Hello")

    def execute(self, ctx):
        return "hello"

def register(plugin):
    plugin.register(Hello)
"""


def test_all_that_is_stated_is_registered_and_nothing_fails() -> None:
    use_plugins()
    from fiftyone.operators.registry import OperatorRegistry

    registry = OperatorRegistry()
    assert registry.list_errors() == []
    registered = {one.uri for one in registry.list_operators(builtin=False)}
    stated = {
        f"{about['name']}/{name}"
        for about in (yaml.safe_load((one / "fiftyone.yml").read_text()) for one in PLUGINS)
        for name in (*about.get("operators", ()), *about.get("panels", ()))
    }
    assert registered == stated | {"@me/mine/hello"}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_says_what_it_is(folder: Path) -> None:
    about = yaml.safe_load((folder / "fiftyone.yml").read_text())
    assert about["name"] == f"@osv/{folder.name}"
    assert about["description"] and about["license"] and about["version"]
    assert (folder / "icon.svg").read_text().startswith("<svg")
    assert (folder / "README.md").read_text().count("\n") > 5


def test_the_users_folder_is_found_again_and_not_linked_to_itself(tmp_path: Path) -> None:
    both = use_plugins()
    assert use_plugins() == both and user_folder() == tmp_path / "theirs"
    assert (both / "yours" / "mine" / "fiftyone.yml").is_file()
    assert sorted(one.name for one in both.iterdir()) == ["osv", "yours"]


@pytest.mark.parametrize("copy", [False, True])
def test_install_and_remove_leave_what_is_not_ours(tmp_path: Path, copy: bool) -> None:
    folder = tmp_path / "theirs"
    listed = install(["curate"], copy=copy)
    assert (folder / "osv-curate" / "fiftyone.yml").is_file()
    told = {one["plugin"]: one["installed"] for one in listed.rows()}
    assert told["@osv/curate"] == ("copy" if copy else "link")
    install(copy=copy)
    assert all(one["installed"] != "no" for one in list_plugins().rows())
    assert all(one["installed"] == "no" for one in remove().rows())
    assert [one.name for one in folder.iterdir()] == ["mine"]
    assert (source() / "curate" / "__init__.py").is_file()


def test_something_in_the_way_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "theirs" / "osv-curate").mkdir()
    (tmp_path / "theirs" / "osv-curate" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="move it away"):
        install(["curate"])
    with pytest.raises(NotFoundError, match="did you mean 'curate'"):
        install(["curat"])
    assert (tmp_path / "theirs" / "osv-curate" / "notes.txt").read_text() == "mine"
