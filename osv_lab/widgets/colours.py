"""The colours of the widgets that the kernel draws with; the page's are in ``front/shared.css`` and ``shared.js``."""

from __future__ import annotations

GOOD, WARN, BAD, ACCENT = "#1a9850", "#c77700", "#d73027", "#1976d2"


def colour_of(number: int) -> str:
    """A colour of its own for each number, told apart on light and on dark; the page's ``colourOf`` is the same.

    Example:
        >>> colour_of(1)
        'hsl(343 68% 46%)'
    """
    # JavaScript's Math.round: halves go up.
    return f"hsl({int(number * 137.508 + 205 + 0.5) % 360} 68% {46 if number % 2 else 56}%)"
