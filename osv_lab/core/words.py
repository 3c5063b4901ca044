"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, what: str, plural: str = "") -> str:
    """A number of things in words.

    Example:
        >>> counted(1, "image"), counted(1200, "class", "classes")
        ('1 image', '1,200 classes')
    """
    return f"{number:,} {what if number == 1 else plural or what + 's'}"
