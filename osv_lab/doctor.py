"""``osv doctor``: what this machine has, what is missing, and what to do about each."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from osv_lab.core.errors import OsvError
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings

Status = Literal["ok", "note", "fail"]

MIN_FREE_GIB = 2.0
PORTS = {8000: "osv serve", 5151: "osv app"}
PACKAGES = ("fiftyone", "supervision", "ultralytics", "torch", "torchvision", "mlflow", "opencv-python-headless")
EXTRAS = {
    "fiftyone": "store",
    "ultralytics": "train",
    "torch": "train",
    "torchvision": "train",
    "mlflow": "train",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What was looked at.
        status: ``ok``; ``note``: works, with something to know; ``fail``: a part of the lab will not work.
        found: What was found.
        todo: What to do about it, or ``""``.
    """

    check: str
    status: Status
    found: str
    todo: str = ""


@dataclass(frozen=True)
class DoctorReport(Report):
    """All findings of one examination, in the order of the loop."""

    findings: tuple[Finding, ...]

    def rows(self) -> list[Mapping[str, Any]]:
        return [{"check": f.check, "": f.status, "found": f.found, "what to do": f.todo} for f in self.findings]

    def summary(self) -> str:
        failed = [f.check for f in self.findings if f.status == "fail"]
        if failed:
            return f"{len(failed)} of {len(self.findings)} checks failed: {', '.join(failed)}"
        notes = sum(f.status == "note" for f in self.findings)
        return f"all {len(self.findings)} checks passed" + (f", {notes} with a note" if notes else "")

    @property
    def exit_code(self) -> int:
        """6 when a check failed, else 0."""
        return 6 if any(f.status == "fail" for f in self.findings) else 0


def doctor() -> DoctorReport:
    """Examine database, tracking, accelerators, codecs, disk, versions and ports. Changes nothing.

    A check that breaks is itself a finding; the others go on.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _opencv,
        _database,
        _tracking,
        _providers,
        _codecs,
        _disk,
        _ports,
        _telemetry,
    )
    findings: list[Finding] = []
    for check in checks:
        name = check.__name__.lstrip("_")
        try:
            findings += check()
        except OsvError as error:
            found = f"{error.what}: {error.found}" if error.found else error.what
            findings.append(Finding(name, "fail", found, error.fix))
        except Exception as error:  # noqa: BLE001 - whatever breaks here is what the user came to learn
            findings.append(Finding(name, "fail", f"{type(error).__name__}: {error}", "see above, or report this"))
    return DoctorReport(tuple(findings))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Iterator[Finding]:
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Finding("python", "ok" if good else "fail", found, "" if good else "use Python 3.11 or 3.12")


def _packages() -> Iterator[Finding]:
    for package in PACKAGES:
        version = _version(package)
        if version:
            yield Finding(package, "ok", version)
        else:
            todo = f'pip install "osv-lab[{EXTRAS.get(package, "all")}]"'
            yield Finding(package, "note", "not installed", todo)


def _opencv() -> Iterator[Finding]:
    full, headless = _version("opencv-python"), _version("opencv-python-headless")
    if full and headless and full != headless:
        yield Finding(
            "opencv",
            "fail",
            f"opencv-python {full} and opencv-python-headless {headless} write the same cv2 folder",
            f"pip install --force-reinstall --no-deps opencv-python-headless=={full}",
        )
        return
    import cv2

    yield Finding("opencv", "ok", f"cv2 {cv2.__version__} imports")


def _database() -> Iterator[Finding]:
    if _version("fiftyone") is None:
        yield Finding("database", "note", "FiftyOne is not installed", 'pip install "osv-lab[store]"')
        return
    from osv_lab.store.database import connect

    fo = connect()
    info = fo.core.odm.database.get_db_conn().client.server_info()
    where = fo.config.database_uri or f"FiftyOne's own, in {fo.config.database_dir}"
    yield Finding("database", "ok", f"MongoDB {info['version']}, {where}; {len(fo.list_datasets())} datasets")


def _tracking() -> Iterator[Finding]:
    settings = load_settings()
    if not settings.tracking_uri.startswith("sqlite:///"):
        yield Finding("mlflow store", "ok", settings.tracking_uri)
        return
    folder = settings.home
    writable = os.access(next(p for p in (folder, *folder.parents) if p.exists()), os.W_OK)
    yield Finding(
        "mlflow store",
        "ok" if writable else "fail",
        settings.tracking_uri,
        "" if writable else f"make {folder} writable, or set OSV_HOME to a folder of yours",
    )


def _providers() -> Iterator[Finding]:
    try:
        from osv_lab.detect.providers import usable_providers
    except ImportError:
        yield Finding("onnxruntime", "fail", "not installed", 'pip install "osv-lab[server]"')
        return
    usable = usable_providers()
    gpu = [name for name in usable if name != "CPUExecutionProvider"]
    has_card = shutil.which("nvidia-smi") is not None
    todo = (
        "" if gpu or not has_card else "a GPU is here but unused: install CUDA 13 and cuDNN 9, or nvidia's wheels"
    )
    yield Finding("onnxruntime", "note" if todo else "ok", f"{_onnxruntime()}; runs on {', '.join(usable)}", todo)
    if _version("torch"):
        import torch

        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU only"
        yield Finding("training device", "ok" if torch.cuda.is_available() else "note", device)


def _onnxruntime() -> str:
    return next((f"{name} {v}" for name in ("onnxruntime-gpu", "onnxruntime") if (v := _version(name))), "?")


def _codecs() -> Iterator[Finding]:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg:
        encoders = subprocess.run(
            [ffmpeg, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=30
        )
        h264 = "libx264" in encoders.stdout or "h264_" in encoders.stdout
        found = f"ffmpeg with{'' if h264 else 'out'} an H.264 encoder"
        yield Finding(
            "video out", "ok" if h264 else "note", found, "" if h264 else "install an ffmpeg with libx264"
        )
    else:
        todo = "apt install ffmpeg (or brew, conda): browsers cannot play what OpenCV writes alone"
        yield Finding("video out", "note", "no ffmpeg on the path", todo)
    import cv2

    backends = [cv2.videoio_registry.getBackendName(b) for b in cv2.videoio_registry.getStreamBackends()]
    reads = "FFMPEG" in backends
    yield Finding(
        "video in",
        "ok" if reads else "fail",
        f"OpenCV reads with {', '.join(backends) or 'nothing'}",
        "" if reads else "reinstall opencv-python-headless",
    )


def _disk() -> Iterator[Finding]:
    places = {"lab folder": load_settings().home, "temporary files": Path(tempfile.gettempdir())}
    for name, folder in places.items():
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free / 2**30
        enough = free >= MIN_FREE_GIB
        todo = "" if enough else f"free {MIN_FREE_GIB:.0f} GiB, or set OSV_HOME to a larger disk"
        yield Finding(f"disk: {name}", "ok" if enough else "fail", f"{free:.1f} GiB free in {folder}", todo)


def _ports() -> Iterator[Finding]:
    for port, user in PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                yield Finding(f"port {port}", "ok", f"free for {user}")
            except OSError:
                yield Finding(f"port {port}", "note", "in use", f"{user} --port {port + 1}")


def _telemetry() -> Iterator[Finding]:
    from osv_lab.core.privacy import turned_on

    on = turned_on()
    if on:
        yield Finding(
            "telemetry", "note", f"you turned on: {', '.join(on)}", "unset these to be counted by nobody"
        )
    else:
        yield Finding("telemetry", "ok", "off in FiftyOne, Ultralytics, MLflow, DVC, ONNX Runtime")
