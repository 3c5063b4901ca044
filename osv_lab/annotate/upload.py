"""Giving a task its images: many to a request, and two requests under way at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from osv_lab.annotate.connection import PART_BYTES, Connection
from osv_lab.annotate.parallel import in_parallel
from osv_lab.core.errors import NotFoundError
from osv_lab.core.progress import Progress, silent

AT_ONCE = 2
"""Requests under way: the server takes one apart while the other is on the line."""

Named = tuple[str, Path]
"""The name that a file has in CVAT, and where it is."""


def upload_images(
    cvat: Connection,
    task: int,
    files: Iterable[Named],
    size: int,
    options: Mapping[str, Any],
    progress: Progress = silent,
) -> str:
    """Upload images in their order; the server then makes the task of them.

    Args:
        cvat: The server.
        task: CVAT's id of the task, which is empty.
        files: The images, under names that differ; taken as they are needed.
        size: Bytes of all of them together, about.
        options: How CVAT keeps them.
        progress: Told about the upload in MiB.

    Returns:
        The request to wait for.

    Raises:
        UnavailableError: the server did not take them.
    """
    path = f"/api/tasks/{task}/data/"
    cvat.call("POST", path, headers={"Upload-Start": ""})
    names: list[str] = []
    done = 0
    work = (partial(_send, cvat, path, part, options) for part in _parts(files))
    for some, sent in in_parallel(work, AT_ONCE):
        names += some
        done += sent
        progress("upload", done >> 20, max(done, size) >> 20)
    body = {**options, "sorting_method": "predefined", "upload_file_order": names}
    return cvat.request_of(cvat.call("POST", path, body=body, headers={"Upload-Finish": ""}), task)


def _send(cvat: Connection, path: str, part: Sequence[Named], options: Mapping[str, Any]) -> tuple[list[str], int]:
    """Send some images; their names, and how many bytes it took."""
    from urllib3 import encode_multipart_formdata

    fields: list[tuple[str, Any]] = [("image_quality", str(options["image_quality"]))]
    fields += [(f"client_files[{number}]", (name, _content(file))) for number, (name, file) in enumerate(part)]
    body, kind = encode_multipart_formdata(fields)
    cvat.call("POST", path, body=body, headers={"Content-Type": kind, "Upload-Multiple": ""})
    return [name for name, _ in part], len(body)


def size_of(file: Path) -> int:
    """Bytes of a file, 0 of one that is gone."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotFoundError(
            "an image went away while it was sent", f"{file}: {error.strerror}", "send again"
        ) from None


def _parts(files: Iterable[Named]) -> Iterator[list[Named]]:
    """Images of a few megabytes together; a larger one is a part by itself."""
    part: list[Named] = []
    size = 0
    for name, file in files:
        part.append((name, file))
        size += size_of(file)
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
