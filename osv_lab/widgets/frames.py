"""A clip's frames as small JPEG pictures, by number, for a page that asks for a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from osv_lab.core.errors import InvalidDataError, OsvError
from osv_lab.store.clips import Clip

WIDTH, QUALITY = 720, 80


class ClipFrames:
    """The pictures of a clip, a video or a sequence of images.

    Args:
        clip: The clip.
        width: Pictures are at most this wide, in pixels.
        quality: Of the JPEG files, 0 to 100.
    """

    def __init__(self, clip: Clip, width: int = WIDTH, quality: int = QUALITY) -> None:
        self._clip, self._width, self._quality = clip, width, quality
        self._reader = None
        if clip.video:
            from osv_lab.track.seek import FrameReader

            self._reader = FrameReader(clip.path, width=width)

    @property
    def keys(self) -> list[int]:
        """The numbers of a video's keyframes; none of images, each of which is read alone."""
        return [] if self._reader is None else self._reader.keys

    def jpegs(self, numbers: Sequence[int]) -> list[bytes]:
        """Pictures by frame number; an empty one where a frame is missing or cannot be read."""
        reader = self._reader
        images = [self._image(one) for one in numbers] if reader is None else reader.read(numbers)
        return [b"" if image is None else self._jpeg(image) for image in images]

    def close(self) -> None:
        """Close the video."""
        if self._reader is not None:
            self._reader.close()

    def _image(self, number: int) -> np.ndarray | None:
        import cv2

        from osv_lab.detect.images import read_image

        path = self._clip.paths.get(number)
        if path is None:
            return None
        try:
            image = read_image(Path(path))
        except (OsvError, OSError):
            return None
        height, width = image.shape[:2]
        if width <= self._width:
            return image
        size = self._width, max(1, round(height * self._width / width))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))

    def _jpeg(self, image: np.ndarray) -> bytes:
        import cv2

        good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        if not good:
            raise InvalidDataError("a frame cannot be made into a picture", str(image.shape))
        return bytes(data)
