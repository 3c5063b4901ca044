"""Starting a worker process, which then imports for longer than all else takes: so this imports next to nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import osv_lab

POSSIBLE = sys.platform != "win32"
"""Whether sockets can be handed to a process that is started."""

BUFFER = 4 * 2**20
"""Bytes the kernel may hold per direction of :attr:`Spawned.jobs`, so that most images are handed over in one piece."""

# -P: what lies in the working directory is not imported. Not -m, which first imports what finds and runs a module.
# ONNX Runtime comes first: it opens a model mostly without Python, which can import the rest meanwhile.
_RUN = "import osv_lab, onnxruntime; from osv_lab.serve.worker_main import main; main()"

# An image, its tensor and the network's outputs are megabytes that come and go with every job. By default glibc gives
# them back to the kernel each time and gets them as new pages, which costs a millisecond; and large pages cost less,
# which there are in the first of its arenas only.
# https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html
_KEEP_MEMORY = f"glibc.malloc.mmap_threshold={2**25}:glibc.malloc.trim_threshold={2**27}"
_KEEP_MEMORY += ":glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"


class Spawned:
    """A process of :mod:`osv_lab.serve.worker_main`; made before that has imported anything.

    It ends when this process does, however that happens: it then finds its sockets closed.

    Attributes:
        process: The process.
        jobs: The socket over which work goes.
        control: The socket over which it is told everything else.
    """

    def __init__(self) -> None:
        self.jobs, jobs = socket.socketpair()
        self.control, control = socket.socketpair()
        for one in (self.jobs, jobs):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        handed = jobs.fileno(), control.fileno()
        command = [sys.executable, "-P", "-c", _RUN, *map(str, handed)]
        with jobs, control:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=_environment(), pass_fds=handed)

    def kill(self) -> None:
        """End it at once; to be followed by :meth:`end` when nobody uses its sockets any more."""
        self.process.kill()

    def end(self, timeout_s: float = 2.0) -> None:
        """Let it end, which it does when nobody talks to it, and forget it."""
        self.control.close()
        self.jobs.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _environment() -> dict[str, str]:
    """This process' environment, with this very package to be found, and memory that is kept between jobs."""
    home = os.path.realpath(f"{osv_lab.__file__}/../..")
    given = {"PYTHONPATH": home, "GLIBC_TUNABLES": _KEEP_MEMORY}
    # numpy's linear algebra would start a thread per core, and other workers have the other cores.
    single = {"OPENBLAS_NUM_THREADS": "1"}
    joined = {"PYTHONPATH": os.pathsep, "GLIBC_TUNABLES": ":"}
    before = {name: os.environ.get(name, "") for name in given}
    # Of a tunable that is named twice the last counts: what the user says.
    return {
        **single,
        **os.environ,
        **{name: joined[name].join(filter(None, [given[name], before[name]])) for name in given},
    }
