"""Content digests: the identity of files and of plain values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 lower-case hexadecimal characters.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_digest(data: bytes) -> str:
    """SHA-256 of bytes, as 64 lower-case hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def value_digest(value: Any) -> str:
    """SHA-256 of a JSON-able value in canonical form: sorted keys, no spaces, shortest exact floats.

    Example:
        >>> value_digest({"b": 1, "a": 2}) == value_digest({"a": 2, "b": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return bytes_digest(text.encode("utf-8", "surrogateescape"))


def set_digest(digests: Iterable[str]) -> str:
    """One digest of a collection of digests, whatever order they come in; repeats count."""
    joined = hashlib.sha256()
    for digest in sorted(digests):
        joined.update(digest.encode())
        joined.update(b"\n")
    return joined.hexdigest()
