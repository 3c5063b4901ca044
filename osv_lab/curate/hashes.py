"""Perceptual hashes of 64 bits: images that look alike have hashes that differ in few bits.

Two of them, since they fail differently: dHash compares neighbouring pixels of a 9 x 8 thumbnail (N. Krawetz, "Kind of
Like That", 2013); pHash compares the low frequencies of the cosine transform with their median (C. Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
"""

from __future__ import annotations

import numpy as np

BITS = 64


def difference_hash(grey: np.ndarray) -> int:
    """dHash of a grey image.

    Args:
        grey: uint8 ``(h, w)``.

    Returns:
        64 bits: row by row of an 8 x 9 thumbnail, whether a pixel is brighter than the one to its left.

    Example:
        >>> hex(difference_hash(np.tile(np.arange(0, 250, 5, np.uint8), (40, 1))))
        '0xffffffffffffffff'
    """
    import cv2

    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return _packed(small[:, 1:] > small[:, :-1])


def frequency_hash(grey: np.ndarray) -> int:
    """pHash of a grey image.

    Args:
        grey: uint8 ``(h, w)``.

    Returns:
        64 bits: of the 8 x 8 lowest frequencies but the constant ones of each direction, which are above the median.
    """
    import cv2

    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[1:9, 1:9]
    return _packed(low > np.median(low))


def to_hex(value: int) -> str:
    """A hash as the 16 hexadecimal digits it is stored as; MongoDB has no unsigned 64-bit integers."""
    return f"{value:016x}"


def from_hex(texts: list[str]) -> np.ndarray:
    """Stored hashes as ``(n,) uint64``."""
    return np.array([int(text, 16) for text in texts], dtype=np.uint64)


def _packed(bits: np.ndarray) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
