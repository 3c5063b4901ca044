"""Whether images can be decoded to their end, found out in threads while something else goes on."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from osv_lab.store.annotation_store import Labelled

_ORIENTATION = 0x0112
"""The EXIF tag; from 5 on, width and height change places."""


class Looking:
    """A look at every image, begun at once; whoever asks for one that was not reached yet waits for it.

    CVAT itself looks at the header only, and shows people what is broken.

    Args:
        samples: The images.
    """

    def __init__(self, samples: Iterable[Labelled]) -> None:
        self._pool = ThreadPoolExecutor()
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
            # A JPEG is decoded small, which is faster and still reads all of it.
            image.draft(image.mode, (width // 8, height // 8))
            image.load()
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        return f"{path.name}: it cannot be read ({type(error).__name__})"
    return (height, width) if turned else (width, height)
