"""What one look at an image tells: brightness, sharpness, information, perceptual hashes. One decode for all of it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.curate.hashes import difference_hash, frequency_hash, to_hex
from osv_lab.detect.images import decode_small
from osv_lab.store.bulk_documents import read_documents, write_documents
from osv_lab.store.ingest_items import shown

if TYPE_CHECKING:
    import fiftyone as fo

FIELD = "quality"
"""The sample field that the measures are kept in."""

VERSION = 1
"""Measures of another version are made again."""

SIDE = 256
"""Images are looked at with a shorter side of at least this many pixels, and not twice it where they are larger."""

WRITE_EVERY = 512

KINDS: Mapping[str, type] = {
    "brightness": float,
    "dark_end": float,
    "bright_end": float,
    "sharpness": float,
    "entropy": float,
    "width": int,
    "height": int,
    "digest": str,
    "phash": str,
    "dhash": str,
    "broken": str,
    "seen": str,
}
"""What is stored of each image. Brightness is mean luma, 0 to 1, and the ends its 5th and 95th percentiles; sharpness
is that of :func:`sharpness`; entropy is in bits, 0 to 8; width and height are pixels as displayed; ``broken`` says why
an image cannot be read; ``seen`` is by what a change of the file is noticed."""


def measure(data: bytes, name: str = "") -> dict[str, Any]:
    """The measures of an image file's bytes (:data:`KINDS`, without ``seen``).

    Raises:
        InvalidDataError: not an image, damaged, or too large.
    """
    import cv2

    pixels, header = decode_small(data, SIDE, name=name)
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    if (shorter := min(grey.shape)) >= 2 * SIDE:
        size = (round(grey.shape[1] * SIDE / shorter), round(grey.shape[0] * SIDE / shorter))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    dark, bright = np.percentile(grey, (5, 95)) / 255
    shares = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel() / grey.size
    shares = shares[shares > 0]
    width, height = header.upright_size
    return {
        "brightness": float(grey.mean()) / 255,
        "dark_end": float(dark),
        "bright_end": float(bright),
        "sharpness": sharpness(grey),
        "entropy": abs(float((shares * np.log2(shares)).sum())),
        "width": width,
        "height": height,
        "digest": bytes_digest(data),
        "phash": to_hex(frequency_hash(grey)),
        "dhash": to_hex(difference_hash(grey)),
    }


def sharpness(grey: np.ndarray) -> float:
    """Fine detail against coarse detail, as a base-10 logarithm.

    The variance of the Laplacian (J. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000)
    falls with contrast and with the number of edges too. The quotient of that at two scales (Gaussians of 1 and 3
    pixels) does not: a sharp step gives about 1.4, one that is blurred by 3 pixels 0.4, by 6 pixels 0.15.

    Args:
        grey: uint8 ``(h, w)``.
    """
    import cv2

    def detail(sigma: float) -> float:
        smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), sigma)
        return float(cv2.Laplacian(smooth, cv2.CV_32F).var()) + 1e-3

    return float(np.log10(detail(1.0) / detail(3.0)))


def measure_view(view: fo.SampleCollection, progress: Progress = silent) -> tuple[list[dict[str, Any]], int]:
    """The measures of every image of a view; those that are stored and whose file is as it was are not made again.

    Returns:
        One document per sample in the view's order (``id``, ``filepath``, ``tags`` and the measures), and how many
        images were looked at now.

    Raises:
        UsageError: the field :data:`FIELD` is there and holds something else.
    """
    import fiftyone as fo

    declared = view.get_field(FIELD)
    if declared is not None and getattr(declared, "document_type", None) is not fo.DynamicEmbeddedDocument:
        raise UsageError(
            f"the field '{FIELD}' holds something else",
            f"{type(declared).__name__} in '{view._dataset.name}'",
            f"give it another name: dataset.rename_sample_field('{FIELD}', 'other')",
        )
    documents = read_documents(view, [FIELD])
    todo = []
    for document in documents:
        kept = document.get(FIELD) or {}
        seen = _state(document["filepath"])
        if seen == "" or kept.get("seen") != seen:
            todo.append((document, seen))
    fresh: dict[str, dict[str, Any]] = {}
    progress("look at images", 0, len(todo))
    for done, (document, measures) in enumerate(_measured(todo), start=1):
        document[FIELD] = fresh[document["_id"]] = measures
        if len(fresh) >= WRITE_EVERY:
            write_documents(view._dataset, FIELD, KINDS, fresh)
            fresh = {}
        progress("look at images", done, len(todo))
    if fresh:
        write_documents(view._dataset, FIELD, KINDS, fresh)
    rows = [
        {"id": one["_id"], "filepath": one["filepath"], "tags": one.get("tags") or [], **one[FIELD]}
        for one in documents
    ]
    return rows, len(todo)


def _measured(todo: Iterable[tuple[dict[str, Any], str]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Measures in order; OpenCV and hashlib let threads run side by side."""
    workers = os.cpu_count() or 1
    waiting: deque[tuple[dict[str, Any], Future[dict[str, Any]]]] = deque()
    pool = ThreadPoolExecutor(workers, "osv-measure")
    try:
        for document, seen in todo:
            waiting.append((document, pool.submit(_measure_file, document["filepath"], seen)))
            if len(waiting) > 8 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _measure_file(path: str, seen: str) -> dict[str, Any]:
    try:
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            raise NotFoundError("no such image", shown(path)) from None
        except OSError as error:
            raise InvalidDataError("the image cannot be read", error.strerror or error) from None
        return {**measure(data, shown(path)), "seen": seen}
    except OsvError as error:
        return {"broken": str(error), "seen": seen}


def _state(path: str) -> str:
    """What changes when a file does; ``""`` when there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return ""
    return f"{VERSION}:{found.st_size}:{found.st_mtime_ns}"
