"""ONNX Runtime sessions: the best provider that really works, without noise."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, UnavailableError, UsageError, nearest, require_extra

if TYPE_CHECKING:
    import onnxruntime

PREFERENCE = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
"""Providers in the order they are tried."""

_SILENT = 4  # ONNX Runtime's severity "fatal"


def open_session(
    path: Path, *, providers: Sequence[str] | None = None, threads: int | None = None
) -> onnxruntime.InferenceSession:
    """An inference session on the first provider that loads.

    Args:
        path: The ``.onnx`` file.
        providers: Providers in order of preference, as ``"CUDAExecutionProvider"`` or ``"cuda"``; the default is
            :data:`PREFERENCE`. The CPU is always the last resort.
        threads: Threads inside one operator on the CPU; all cores when ``None``.

    Raises:
        InvalidDataError: the file is no ONNX model, is damaged, or uses what this runtime does not know.
        UsageError: an unknown provider, or fewer than one thread.
        UnavailableError: ONNX Runtime is not installed.
    """
    ahead = _ahead.pop(_key(path, providers, threads), None)
    return _open(path, providers, threads) if ahead is None else ahead.session()


@contextlib.contextmanager
def opened_ahead(
    path: str | Path, *, providers: Sequence[str] | None = None, threads: int | None = None
) -> Iterator[None]:
    """While the block runs, a session is opened in a thread, and :func:`open_session` with the same arguments takes it.

    Most of that needs no Python: what uses the session can be imported meanwhile.

    Args:
        path: As for :func:`open_session`; nothing is done for what is no ``.onnx`` file.
    """
    path = Path(path).expanduser()
    key = _key(path, providers, threads)
    if path.suffix.lower() == ".onnx" and path.is_file():
        _ahead[key] = _Ahead(path, providers, threads)
    try:
        yield
    finally:
        _ahead.pop(key, None)


class _Ahead:
    """A session that is being opened, or what was wrong."""

    def __init__(self, path: Path, providers: Sequence[str] | None, threads: int | None) -> None:
        self._asked = path, providers, threads
        self._session: onnxruntime.InferenceSession | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._open, name="open-session", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            self._session = _open(*self._asked)
        except Exception as error:  # noqa: BLE001 - raised where the session is asked for
            self._error = error

    def session(self) -> onnxruntime.InferenceSession:
        """The session, when it is open.

        Raises:
            OsvError: as for :func:`open_session`.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._session


_ahead: dict[tuple[Any, ...], _Ahead] = {}


def _key(path: Path, providers: Sequence[str] | None, threads: int | None) -> tuple[Any, ...]:
    return path.resolve(), None if providers is None else tuple(providers), threads


def _open(path: Path, providers: Sequence[str] | None, threads: int | None) -> onnxruntime.InferenceSession:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    # Idle threads that spin take the cores that decoding and other sessions need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        if threads < 1:
            raise UsageError("threads must be at least 1", threads)
        options.intra_op_num_threads = threads
        if helpers := _cores_of_helpers(threads):
            options.add_session_config_entry("session.intra_op_thread_affinities", helpers)

    wanted = usable_providers(providers)
    for first in range(len(wanted)):
        try:
            # It prints about GPUs only; and a thread that replaces stdout may leave another's replacement behind.
            with _silent_stdout() if len(wanted) > 1 else contextlib.nullcontext():
                return ort.InferenceSession(str(path), options, providers=list(wanted[first:]), enable_fallback=0)
        except Exception as error:  # noqa: BLE001 - the runtime's exceptions share no base; all are turned into ours
            if first + 1 == len(wanted):
                raise _explain(path, error) from None
    raise UnavailableError("ONNX Runtime has no provider", ", ".join(ort.get_available_providers()))


def _cores_of_helpers(threads: int) -> str:
    """A core for each thread but the first, which is the caller's; empty where they cannot be had.

    Those that wake often otherwise end up beside the one that woke them, on one core. The runtime does the same where
    it chooses the number of threads itself.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ""
    cores = sorted(os.sched_getaffinity(0))
    # It counts processors from 1.
    return ";".join(str(core + 1) for core in cores[1:threads]) if 1 < threads <= len(cores) else ""


def import_onnxruntime() -> Any:
    """The onnxruntime module, its own logger silent.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise require_extra("onnxruntime", "server") from None
    onnxruntime.set_default_logger_severity(_SILENT)
    return onnxruntime


def usable_providers(providers: Sequence[str] | None = None) -> tuple[str, ...]:
    """The wanted providers this build and this machine can have, CPU last.

    A build for GPUs lists its providers on every machine; those of NVIDIA are left out where the driver finds no GPU.

    Raises:
        UsageError: a provider nobody knows.
    """
    ort = import_onnxruntime()
    known = ort.get_all_providers()
    available = ort.get_available_providers()
    wanted = [_provider_name(name, known) for name in (PREFERENCE if providers is None else providers)]
    nvidia = {"TensorrtExecutionProvider", "CUDAExecutionProvider"}
    if nvidia & set(wanted) & set(available):
        if cuda_device_count() == 0:
            wanted = [name for name in wanted if name not in nvidia]
        else:
            _preload_cuda(ort)
    usable = [name for name in wanted if name in available and name != "CPUExecutionProvider"]
    return (*dict.fromkeys(usable), "CPUExecutionProvider")


def _provider_name(name: str, known: Sequence[str]) -> str:
    short = {full.removesuffix("ExecutionProvider").lower(): full for full in known}
    full = short.get(name.lower().removesuffix("executionprovider"))
    if full is None:
        raise UsageError("no such execution provider", f"'{name}'", nearest(name.lower(), short))
    return full


def cuda_device_count() -> int:
    """NVIDIA GPUs the driver has, asked of the driver itself; 0 without one."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
        count = ctypes.c_int(0)
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return 0
    except (OSError, AttributeError):
        return 0
    return count.value


def _preload_cuda(ort: Any) -> None:
    """Let the runtime find CUDA libraries that were installed as Python packages."""
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with _silent_stdout():
            preload()


@contextlib.contextmanager
def _silent_stdout() -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _explain(path: Path, error: Exception) -> InvalidDataError:
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if kind in ("InvalidProtobuf", "NoSuchFile") or "Protobuf parsing failed" in text:
        return InvalidDataError("not an ONNX model", str(path), "the file is empty, cut short or something else")
    if "external" in text.lower() or "data file" in text.lower():
        return InvalidDataError(
            "the model's weights are in another file that cannot be used",
            f"{path}: {text[:300]}",
            "put that file beside the model, under the name it was exported with",
        )
    return InvalidDataError("ONNX Runtime cannot load the model", f"{path}: {text[:300]}", "export it again")
