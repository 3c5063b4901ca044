"""What the examples in osv_lab's docstrings speak of: a small world, made as far as an example names it.

An example may use, as if it stood there, the names of :data:`NAMES` (``dataset``, ``image``, ``lab``, ...) and the
files of :data:`FILES` (``best.onnx``, ``cars.mp4``, ...). Each docstring runs in a folder of its own with a lab
(``OSV_HOME``) of its own, so nothing that one example does is seen by another. What is dear (weights, a registry) is
made once for a session and copied. The names live at the bottom of this file, one function each.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import doctest
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import example_scenes as scenes

NAMES: dict[str, Callable[[Stage], Any]] = {}
"""What makes the value of a name that no example binds."""
FILES: dict[str, Callable[[Path], Any]] = {}
"""What writes the file or folder of that name at the path given."""
SETUPS: dict[str, Callable[[Stage], Any]] = {}
"""What has to be there for a word: a name that an example uses, or the beginning of a text."""


class Stage:
    """What one docstring's examples run on.

    Args:
        folder: Where they run; empty.
        store: Where the session keeps what it copies from.
    """

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self._store = folder, store
        self.home = folder / ".osv"
        self.closing = contextlib.ExitStack()
        self._made: dict[str, Any] = {}

    def name(self, name: str) -> Any:
        """The value of a name, made when it is first asked for."""
        if name not in self._made:
            self._made[name] = NAMES[name](self)
        return self._made[name]

    def file(self, name: str) -> Path:
        """A file of the world, in the docstring's folder."""
        original, path = self.once(name, FILES[name]), self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if original.is_dir():
                shutil.copytree(original, path)
            else:
                shutil.copy2(original, path)
        return path

    def set(self, variable: str, value: str) -> None:
        """Set a variable of the environment until the docstring is done."""
        self.closing.callback(_restore, variable, os.environ.get(variable))
        os.environ[variable] = value

    def once(self, name: str, make: Callable[[Path], Any]) -> Path:
        """What a session makes once, under this name."""
        path = self._store / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
        return path


@contextlib.contextmanager
def staged(
    examples: Sequence[doctest.Example], known: Mapping[str, Any], folder: Path, store: Path
) -> Iterator[dict[str, Any]]:
    """The names that these examples need; while open, they run in a folder and a lab of their own.

    Args:
        examples: Of one docstring.
        known: What the docstring's module knows: those names stay what they are.
        folder: See :class:`Stage`; ``store``, too.
    """
    # What an example showed last is kept there; FiftyOne's pydash cannot be imported beside a tuple with a list in it.
    vars(builtins).pop("_", None)
    stage = Stage(folder, store)
    before = _datasets()
    with contextlib.chdir(folder), stage.closing:
        stage.set("OSV_HOME", str(stage.home))
        stage.closing.callback(lambda: _delete_datasets(before))
        with contextlib.redirect_stdout(io.StringIO()):
            free, attributes, texts = _mentioned(examples)
            words = free | attributes
            said = [word for word in SETUPS if word in words or any(text.startswith(word) for text in texts)]
            for prepare in dict.fromkeys(SETUPS[word] for word in said):
                prepare(stage)
            for path in FILES:
                if any(re.search(rf"(?<![\w.-]){re.escape(path)}(?![\w.-])", text) for text in texts):
                    stage.file(path)
            names = {name: stage.name(name) for name in NAMES if name in free and name not in known}
        yield names


def _mentioned(examples: Sequence[doctest.Example]) -> tuple[set[str], set[str], set[str]]:
    """Names that are used and not bound, attributes, and texts."""
    used, bound, attributes, texts = set[str](), set[str](), set[str](), set[str]()
    for example in examples:
        if doctest.SKIP in example.options:
            continue
        for node in ast.walk(ast.parse(example.source)):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            elif isinstance(node, ast.Attribute):
                attributes.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return used - bound, attributes, texts


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value


def _datasets() -> set[str]:
    """The datasets there are; none where this session has no database yet."""
    if not Path(os.environ["FIFTYONE_DATABASE_DIR"]).exists():
        return set()
    from osv_lab.store.database import connect

    return set(connect().list_datasets())


def _delete_datasets(keep: set[str]) -> None:
    made = _datasets() - keep
    if made:
        from osv_lab.store.database import connect

        for name in made:
            connect().delete_dataset(name)


def _named(function: Callable[[Stage], Any]) -> Callable[[Stage], Any]:
    NAMES[function.__name__] = function
    return function


# Files --------------------------------------------------------------------------------------------------------------

FILES.update(
    {
        "best.onnx": scenes.write_detector,
        "best.pt": scenes.write_weights,
        "photo.jpg": scenes.write_photo,
        "images": scenes.write_pictures,
        "candidate.onnx": scenes.write_candidate,
        "reid.onnx": scenes.write_embedder,
        "captures": scenes.write_captures,
        "cars.mp4": scenes.write_film,
        "truth": scenes.write_truth,
        "results": scenes.write_results,
    }
)


# Setups -------------------------------------------------------------------------------------------------------------


def registry(stage: Stage) -> None:
    """MLflow with best.onnx registered as ``models:/cells@champion``."""

    def make(home: Path) -> None:
        from osv_lab.train.registry import register

        model = stage.once("best.onnx", scenes.write_detector)
        lab = os.environ["OSV_HOME"]
        os.environ["OSV_HOME"] = str(home)
        try:
            register(model, "cells", alias="champion")
        finally:
            os.environ["OSV_HOME"] = lab

    shutil.copytree(stage.once("registry", make), stage.home)


for _word in ("models:/", "Lab", "lab", "train", "tune", "register", "reproduce", "rollback", "promote"):
    SETUPS[_word] = registry


# Names --------------------------------------------------------------------------------------------------------------


@_named
def image(stage: Stage) -> Any:
    """A picture of two cells, ``(64, 64, 3)`` uint8 BGR."""
    return scenes.picture(0)


@_named
def images(stage: Stage) -> Any:
    """Four pictures as ``image``."""
    return [scenes.picture(number) for number in range(4)]


@_named
def detector(stage: Stage) -> Any:
    """best.onnx, loaded."""
    from osv_lab.detect import load_detector

    return load_detector(stage.file("best.onnx"))


@_named
def detections(stage: Stage) -> Any:
    """What ``detector`` finds in ``image``: an RBC and a WBC."""
    return stage.name("detector").predict([stage.name("image")])[0]


@_named
def dataset(stage: Stage) -> Any:
    """The dataset ``cells``: twenty images with splits, a truth and what two models predicted."""
    from osv_lab.store.database import connect

    return scenes.fill(connect().Dataset("cells", persistent=True), stage.file("images"))


SETUPS["cells"] = lambda stage: stage.name("dataset")


@_named
def view(stage: Stage) -> Any:
    """The test split of ``dataset``."""
    return stage.name("dataset").match_tags("test")


@_named
def videos(stage: Stage) -> Any:
    """The dataset ``cars``: one film with true tracks (``frames.ground_truth``) and faulty ones (``frames.tracks``)."""
    from osv_lab.store.database import connect

    return scenes.fill_videos(connect().Dataset("cars", persistent=True), stage.file("cars.mp4"))


@_named
def lab(stage: Stage) -> Any:
    """A lab about ``dataset``."""
    from osv_lab.lab import Lab

    stage.name("dataset")
    return Lab("cells")


@_named
def server(stage: Stage) -> Any:
    """A server of best.onnx."""
    from osv_lab.serve.run import start_server

    return stage.closing.enter_context(start_server(stage.file("best.onnx")))


@_named
def cvat(stage: Stage) -> Any:
    """A CVAT server that is empty but for its administrator."""
    from cvat_double.server import CvatDouble

    double = CvatDouble()
    stage.closing.callback(double.close)
    return double


def _plugins(stage: Stage) -> None:
    """After plugins were used or jobs scheduled, FiftyOne is as it was."""
    from osv_lab.app import plugins
    from osv_lab.jobs.queue import operations
    from osv_lab.store.database import connect

    fo = connect()
    theirs = stage.folder / "theirs"
    theirs.mkdir()
    for name in ("plugins_dir", "plugins_cache_enabled", "allow_legacy_orchestrators"):
        stage.closing.callback(setattr, fo.config, name, getattr(fo.config, name))
    for name in plugins.SWITCHES:
        stage.set(name, "true")
    stage.set(plugins.PLUGINS_DIR, str(theirs))
    fo.config.plugins_dir = str(theirs)
    there = [job["_id"] for job in operations().find({}, {"_id": 1})]
    stage.closing.callback(lambda: operations().delete_many({"_id": {"$nin": there}}))


SETUPS["use_plugins"] = _plugins


def _cvat_settings(stage: Stage) -> None:
    """The server of ``cvat`` is the one of the environment."""
    there = stage.name("cvat")
    for what in ("url", "user", "password", "token", "organization"):
        stage.set(f"OSV_CVAT_{what.upper()}", getattr(there, what, ""))


for _word in ("AnnotationLoop", "annotate", "cvat_settings"):
    SETUPS[_word] = _cvat_settings


@_named
def loop(stage: Stage) -> Any:
    """The annotation loop of ``dataset`` with ``cvat``."""
    from osv_lab.annotate import AnnotationLoop

    there = stage.name("cvat")
    made = AnnotationLoop(stage.name("dataset"), there.url, (there.user, there.password))
    return stage.closing.enter_context(made)
