"""How large an installation of the server is, and what a server process imports.

Makes a fresh environment with uv, installs ``osv-lab[server]`` from this repository with the versions of
``requirements.lock``, measures it, and, in that environment, answers one prediction when a model is given. The
server needs neither torch nor FiftyOne nor Ultralytics: their presence is an error.

    python -m benchmarks.serving.size --model best.onnx
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("torch", "torchvision", "fiftyone", "ultralytics", "mlflow", "pandas")
PREDICT = """
import json, sys
if len(sys.argv) > 1:
    import numpy as np
    from osv_lab.serve.client import Client
    from osv_lab.serve.run import start_server
    with start_server(sys.argv[1]) as server, Client(server.url) as client:
        client.predict(np.zeros((480, 640, 3), np.uint8))
else:
    import osv_lab.serve.app, osv_lab.serve.run
tops = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(json.dumps(sorted(name for name in tops if not name.startswith("_"))))
"""
VERSIONS = """
import importlib.metadata as m, json
found = {}
for one in m.distributions():
    sizes = [file.locate() for file in one.files or ()]
    found[f"{one.name} {one.version}"] = sum(path.stat().st_size for path in sizes if path.is_file())
print(json.dumps(found))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an ONNX model to answer one prediction with")
    parser.add_argument("--extra", default="server", choices=("server", "server-gpu"))
    parser.add_argument("--top", type=int, default=12, help="how many packages to list")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="osv-size-") as folder:
        python = install(Path(folder), given.extra)
        sizes: dict[str, int] = json.loads(ask(python, VERSIONS))
        imported = json.loads(ask(python, PREDICT, *([str(given.model.resolve())] if given.model else [])))
        whole = sum(
            path.stat().st_size for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink()
        )
    print(f"osv-lab[{given.extra}]: {whole / 2**20:.0f} MB on disk, {len(sizes)} packages")
    for name, size in sorted(sizes.items(), key=lambda one: -one[1])[: given.top]:
        print(f"{size / 2**20:8.1f} MB  {name}")
    when = "after one prediction" if given.model else "of the application alone"
    print(f"\nimported, {when}: {', '.join(imported)}")
    installed = {name.split()[0].lower() for name in sizes}
    # supervision brings matplotlib along; the server leaves it alone.
    wrong = ["matplotlib imported"] * ("matplotlib" in imported)
    wrong += sorted(name for name in FOREIGN if name in installed or name in imported)
    print(f"of {', '.join(FOREIGN)}: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


def install(folder: Path, extra: str) -> Path:
    """A fresh environment with the server in it; gives its Python."""
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], check=True)
    wanted = ["--constraint", str(ROOT / "requirements.lock"), f"osv-lab[{extra}] @ {ROOT.as_uri()}"]
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", str(python), *wanted], check=True)
    return python


def ask(python: Path, code: str, *arguments: str) -> str:
    """What a program says in that environment, away from this repository."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "-c", code, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=python.parent,
    )
    return done.stdout.splitlines()[-1]


if __name__ == "__main__":
    raise SystemExit(main())
