"""Find a Chromium for the browser tests, install one where that is possible, or say in one line what to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of a Chromium-like browser, or ``None``. ``OSV_CHROMIUM`` comes first."""
    given = os.environ.get("OSV_CHROMIUM")
    if given:
        return given
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def main() -> int:
    browser = find()
    if browser is None and shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        print("chromium: installing Debian's for the browser tests", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, **quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], env=environment, **quiet)
        browser = find()
    if browser is None:
        print(
            "chromium: the browser tests need it; install Debian's 'chromium' (or Chrome), or set OSV_CHROMIUM",
            file=sys.stderr,
        )
        return 1
    print(f"chromium: {browser}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
