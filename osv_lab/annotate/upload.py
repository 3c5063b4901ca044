"""Giving a task its images: many to a request, and two requests under way at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from osv_lab.annotate.connection import PART_BYTES, Connection
from osv_lab.annotate.parallel import in_parallel
from osv_lab.core.progress import Progress, silent

AT_ONCE = 2
"""Requests under way: the server takes one apart while the other is on the line."""

Named = tuple[str, Path]
"""The name that a file has in CVAT, and where it is."""


def upload_images(
    cvat: Connection, task: int, files: Sequence[Named], options: Mapping[str, Any], progress: Progress = silent
) -> str:
    """Upload images in their order; the server then makes the task of them.

    Args:
        cvat: The server.
        task: CVAT's id of the task, which is empty.
        files: The images, under names that differ.
        options: How CVAT keeps them.
        progress: Told about the upload in MiB.

    Returns:
        The request to wait for.

    Raises:
        UnavailableError: the server did not take them.
    """
    path = f"/api/tasks/{task}/data/"
    sizes = {name: file.stat().st_size for name, file in files}
    total, done = sum(sizes.values()), 0
    cvat.call("POST", path, headers={"Upload-Start": ""})
    parts = list(_parts(files, sizes))
    sending = in_parallel([partial(_send, cvat, path, part, options) for part in parts], AT_ONCE)
    for part, _ in zip(parts, sending, strict=True):
        done += sum(sizes[name] for name, _ in part)
        progress("upload", done >> 20, total >> 20)
    order = {"sorting_method": "predefined", "upload_file_order": [name for name, _ in files]}
    return cvat.request_of(cvat.call("POST", path, body={**options, **order}, headers={"Upload-Finish": ""}), task)


def _send(cvat: Connection, path: str, part: Sequence[Named], options: Mapping[str, Any]) -> None:
    from urllib3 import encode_multipart_formdata

    fields: list[tuple[str, Any]] = [("image_quality", str(options["image_quality"]))]
    fields += [(f"client_files[{number}]", (name, file.read_bytes())) for number, (name, file) in enumerate(part)]
    body, kind = encode_multipart_formdata(fields)
    cvat.call("POST", path, body=body, headers={"Content-Type": kind, "Upload-Multiple": ""})


def _parts(files: Sequence[Named], sizes: Mapping[str, int]) -> Iterator[list[Named]]:
    """Files of a few megabytes together; a larger one is a part by itself."""
    part: list[Named] = []
    size = 0
    for name, file in files:
        if part and size + sizes[name] > PART_BYTES:
            yield part
            part, size = [], 0
        part.append((name, file))
        size += sizes[name]
    if part:
        yield part
