"""A room imports only from rooms above it, and heavy packages load only when they are used."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "osv_lab"
ROOMS = (
    "core",
    "detect",
    "track",
    "serve",
    "store",
    "curate",
    "annotate",
    "train",
    "evaluate",
    "jobs",
    "lab",
    "cli",
    "widgets",
)
# Helpers of the faces: they may use every room, no room may use them.
FACES = {
    "app": "lab",
    "console": "lab",
    "demo": "lab",
    "doctor": "lab",
    "examples": "lab",
    "presets": "lab",
    "up": "lab",
    "__main__": "cli",
}

HEAVY = {
    "cv2", "fiftyone", "mlflow", "onnx", "onnxruntime", "pandas", "scipy", "sklearn", "supervision", "torch",
    "torchvision", "ultralytics", "fastapi", "uvicorn", "httpx", "PIL", "matplotlib", "plotly", "rich", "yaml",
    "anywidget", "ipywidgets",
}  # fmt: skip


def room_of(module: str) -> str:
    """``osv_lab.store.ingest`` belongs to ``store``."""
    parts = module.split(".")
    return FACES.get(parts[1], parts[1]) if len(parts) > 1 else ""


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every ``osv_lab`` module imported anywhere in a file, lazy imports and type checking included."""
    module = ".".join(("osv_lab", *path.relative_to(PACKAGE).with_suffix("").parts))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("osv_lab"):
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = module.split(".")[: -node.level]
                yield node.lineno, ".".join([*base, node.module or ""]).rstrip(".")
            elif node.module == "osv_lab":
                for alias in node.names:
                    yield node.lineno, f"osv_lab.{alias.name}"
            elif node.module and node.module.startswith("osv_lab."):
                yield node.lineno, node.module


def test_rooms_import_only_from_rooms_above_them() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 20
    wrong = []
    for path in files:
        module = ".".join(("osv_lab", *path.relative_to(PACKAGE).with_suffix("").parts))
        room = room_of(module)
        if room == "__init__":
            continue
        assert room in ROOMS, f"{path.name} is in no known room"
        for line, imported in imports_of(path):
            target = room_of(imported)
            if target in ROOMS and ROOMS.index(target) > ROOMS.index(room):
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {imported}")
    assert not wrong, "\n".join(wrong)


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running ``code``."""
    script = f"{code}\nimport sys; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(answer.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import osv_lab",
        "import osv_lab.cli; osv_lab.cli.build_parser().format_help()",
        "import osv_lab; osv_lab.Lab",
        "import osv_lab.store, osv_lab.detect, osv_lab.train, osv_lab.evaluate, osv_lab.serve, osv_lab.widgets",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str) -> None:
    assert loaded_after(code) & HEAVY == set()


@pytest.mark.parametrize("room", ["detect", "serve", "track"])
def test_rooms_without_fiftyone_never_import_it(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            assert not any(name.split(".")[0] == "fiftyone" for name in names), path


def test_the_server_imports_neither_torch_nor_fiftyone() -> None:
    loaded = loaded_after("import osv_lab.serve.app, osv_lab.detect.onnx, osv_lab.detect.images")
    assert loaded & {"torch", "torchvision", "fiftyone", "ultralytics", "mlflow"} == set()


def test_examples_run() -> None:
    """An example is skipped only where it waits for a person or trains for minutes; the lines around it run."""
    skipped, silent = set(), set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                examples = doctest.DocTestParser().get_examples(ast.get_docstring(node) or "")
                left_out = [doctest.SKIP in example.options for example in examples]
                name = f"{path.relative_to(PACKAGE)}:{getattr(node, 'name', '')}"
                skipped |= {name} if any(left_out) else set()
                silent |= {name} if examples and all(left_out) else set()
    assert skipped == {
        "__init__.py:",
        "lab/__init__.py:Lab",
        "serve/app.py:",
        "serve/run.py:run_server",
        "train/tune.py:tune",
        "up/__init__.py:",
    }
    assert silent == {"up/__init__.py:"}
