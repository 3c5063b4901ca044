"""Make `.venv` from `requirements.lock`. Standard library only, so that a bare Python can run it.

Run by ``make install``. Finds uv or brings its own copy from the package registry, makes the environment, installs
the pinned packages and the project itself, and sees to a working MongoDB server. Safe to run again, and after being
interrupted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OWN_UV = ROOT / ".osv" / "uv"
BIN = "Scripts" if os.name == "nt" else "bin"
SUPPORTED = ((3, 11), (3, 12))


class CannotInstallError(Exception):
    """One line that says what to install."""


def run(*command: str | Path, **environment: str) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, env={**os.environ, **environment})


def find_uv() -> Path:
    """The uv on the path, or a private copy of our own."""
    found = shutil.which("uv")
    if found:
        return Path(found)
    own = OWN_UV / BIN / "uv"
    if own.exists():
        return own
    print("install: uv is not here, bringing a copy of our own", flush=True)
    try:
        run(sys.executable, "-m", "venv", OWN_UV)
        run(OWN_UV / BIN / "python", "-m", "pip", "install", "--quiet", "uv", PIP_DISABLE_PIP_VERSION_CHECK="1")
    except (OSError, subprocess.CalledProcessError):
        # Debian's python3 has no ensurepip; its pip can still unpack uv into a folder.
        shutil.rmtree(OWN_UV, ignore_errors=True)
        try:
            run(sys.executable, "-m", "pip", "install", "--quiet", "--target", OWN_UV, "uv")
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotInstallError(
                "uv could not be installed; install it (https://docs.astral.sh/uv) or python3-venv"
            ) from error
    return own


def find_python() -> str:
    """An interpreter of a supported version: this one, one on the path, else the version for uv to find."""
    if sys.version_info[:2] in SUPPORTED and sys.prefix == sys.base_prefix:
        return sys.executable
    for major, minor in SUPPORTED:
        found = shutil.which(f"python{major}.{minor}")
        if found:
            return found
    return "3.11"


def main() -> int:
    try:
        uv = find_uv()
        if not (VENV / BIN / "python").exists():
            try:
                run(uv, "venv", "--quiet", "--allow-existing", "--python", find_python(), VENV)
            except subprocess.CalledProcessError as error:
                raise CannotInstallError(
                    "Python 3.11 or 3.12 is needed and none was found; install one"
                ) from error
        python = VENV / BIN / "python"
        print("install: packages of requirements.lock (about 7 GB with CUDA libraries)", flush=True)
        pip = (uv, "pip", "install", "--quiet", "--python", python)
        run(*pip, "--requirement", "requirements.lock")
        # Two OpenCV packages write the same folder. The headless one goes last: it needs no libGL.
        lock = (ROOT / "requirements.lock").read_text()
        headless = re.search(r"^opencv-python-headless==\S+", lock, re.MULTILINE)
        if headless:
            run(*pip, "--no-deps", "--reinstall", headless.group())
        run(*pip, "--no-deps", "--editable", ".")
        # ensure_mongod calls uv by name.
        path = os.pathsep.join([str(uv.parent), os.environ.get("PATH", "")])
        run(python, "tools/ensure_mongod.py", PATH=path)
    except CannotInstallError as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"install: this step failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
