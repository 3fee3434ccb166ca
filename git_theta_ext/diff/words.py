"""Numbers in words, as commands and diffs print them."""

from __future__ import annotations

_THOUSAND = 1000


def human_bytes(count: int) -> str:
    """Write a number of bytes with three digits and a decimal unit."""
    if count < _THOUSAND:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB"):
        size /= _THOUSAND
        if size < _THOUSAND:
            return f"{size:.3g} {unit}" if size < _THOUSAND - 0.5 else f"{size:.0f} {unit}"
    return f"{size / _THOUSAND:.3g} TB"


def plural(count: int, noun: str) -> str:
    """Write a number and a noun, with an s unless it is one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a text that is longer than ``width`` characters."""
    if len(text) <= width:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"
