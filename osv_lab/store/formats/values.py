"""Attribute values as text, for formats that have nothing but text."""

from __future__ import annotations

import re

Value = bool | int | float | str

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][+-]?\d+|\.\d+[eE][+-]?\d+)")


def plain_value(text: str) -> Value:
    """The value that a text stands for: ``true``/``false``, a whole number, a decimal number, else the text.

    Example:
        >>> plain_value("True"), plain_value("7"), plain_value("0.5"), plain_value("red")
        (True, 7, 0.5, 'red')
    """
    stripped = text.strip()
    lowered = stripped.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if _INTEGER.fullmatch(stripped):
        return int(stripped)
    if _DECIMAL.fullmatch(stripped):
        return float(stripped)
    return stripped


def value_text(value: object) -> str:
    """The inverse: ``true``/``false``, and the shortest text that gives the same number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


_FORBIDDEN = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)], "?")
_ESCAPED = {**_FORBIDDEN, ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"}
_ESCAPED |= {9: "&#9;", 10: "&#10;", 13: "&#13;"}


def xml_text(text: str) -> str:
    """Text for an XML element or attribute; characters that XML cannot hold become ``?``.

    Example:
        >>> xml_text('a<b & "c"')
        'a&lt;b &amp; &quot;c&quot;'
    """
    return text.translate(_ESCAPED)


def pixel_text(value: float) -> str:
    """A pixel coordinate with up to six decimals, a whole one without.

    Example:
        >>> pixel_text(12.0), pixel_text(0.1 + 0.2)
        ('12', '0.3')
    """
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
