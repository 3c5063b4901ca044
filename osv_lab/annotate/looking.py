"""Whether images can be decoded to their end, found out in threads while something else goes on."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from osv_lab.core.cores import usable_cores
from osv_lab.store.annotation_store import Labelled

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112
"""The EXIF tag; from 5 on, width and height change places."""
_SCAN, _END = 0xDA, b"\xff\xd9"
"""The markers of a JPEG's coded pixels, and of its end."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
"""What coded pixels do not hold: a marker, but for those that only number them."""


class Looking:
    """A look at every image, begun at once; whoever asks for one that was not reached yet waits for it.

    CVAT itself looks at the header only, and shows people what is broken.

    Args:
        samples: The images.
    """

    def __init__(self, samples: Iterable[Labelled]) -> None:
        # One core is left to what goes on meanwhile.
        self._pool = ThreadPoolExecutor(max(usable_cores() - 1, 1))
        self._found = {sample.id: self._pool.submit(_look_at, Path(sample.filepath)) for sample in samples}

    def size(self, sample: str) -> tuple[int, int] | None:
        """Width and height in pixels as displayed, or ``None`` of a broken image."""
        found = self._found[sample].result()
        return None if isinstance(found, str) else found

    def problem(self, sample: str) -> str | None:
        """What is wrong with an image, or ``None``."""
        found = self._found[sample].result()
        return found if isinstance(found, str) else None

    def close(self) -> None:
        """Look at no further ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Looking:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _look_at(path: Path) -> tuple[int, int] | str:
    from PIL import Image

    if not path.is_file():
        return f"{path.name}: there is no such file"
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
            head = _head(path.read_bytes()) if image.format == "JPEG" else None
            if head is None:
                _decode(image)
        if head is not None:
            with Image.open(io.BytesIO(head)) as image:
                _decode(image)
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        return f"{path.name}: it cannot be read ({type(error).__name__})"
    return (height, width) if turned else (width, height)


def _decode(image: Image.Image) -> None:
    # A JPEG is decoded small, which is faster and still reads all of it.
    image.draft(image.mode, (image.width // 8, image.height // 8))
    image.load()


def _head(data: bytes) -> bytes | None:
    """A JPEG without its coded pixels, where these go from its one scan to the end of the file; else ``None``.

    A decoder refuses a JPEG for its headers, for its end, or for a marker among the coded pixels; of the coded pixels
    themselves it makes what it can. So where the end is there and no such marker is, it says of the whole what it says
    of the headers alone, which takes a sixth of the time.
    """
    start = 2
    while data[start : start + 1] == b"\xff" and start + 4 <= len(data):
        kind = data[start + 1]
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if kind == _SCAN:
            end = len(data) - len(_END)
            whole = start <= end and data.endswith(_END) and not _MARKER.search(data, start, end)
            return data[:start] + _END if whole else None
    return None
