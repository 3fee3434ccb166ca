"""Build HTML and SVG from elements, so that text is always escaped."""

from __future__ import annotations

import html

from git_theta_ext.util.text import printable


class Markup(str):
    """HTML or SVG; every other string is text."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """Return text as markup. Characters that reorder or hide their neighbours are shown as escapes."""
    return text if isinstance(text, Markup) else Markup(_escaped(text))


def element(tag: str, *children: str, **attributes: str | float) -> Markup:
    """Return an element.

    Args:
        tag: Its name.
        children: Markup or text.
        attributes: Their values are text. An underscore in a name stands for a hyphen, one at the end for nothing.
    """
    words = [tag]
    for name, value in attributes.items():
        text = f"{value:.6g}" if isinstance(value, (int, float)) else value
        words.append(f'{name.rstrip("_").replace("_", "-")}="{_escaped(text)}"')
    return Markup(f"<{' '.join(words)}>{''.join(map(escaped, children))}</{tag}>")


def joined(parts: list[Markup]) -> Markup:
    """Return markup of several elements, each on a line."""
    return Markup("\n".join(parts))


def _escaped(text: str) -> str:
    # Names may have surrogates, which no encoding takes.
    return html.escape(printable(text).encode(errors="backslashreplace").decode())
