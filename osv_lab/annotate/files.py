"""Media under the names that they have in CVAT."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from osv_lab.core.settings import load_settings


@contextlib.contextmanager
def named_files(samples: Sequence[str], files: Mapping[str, Path]) -> Iterator[list[Path]]:
    """Files under names that say which sample each is: hard links where the disk can, else copies."""
    home = load_settings().home
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="send-", dir=home) as folder:
        named = []
        for sample in samples:
            source = files[sample].resolve()
            target = Path(folder, f"{sample}{source.suffix.lower()}")
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
            named.append(target)
        yield named
