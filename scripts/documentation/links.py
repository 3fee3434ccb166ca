"""Links between pages, and to their headings, that lead nowhere."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LINK = re.compile(r"\]\((?!\w+:)([^)\s]*)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"^( *)(```|:::).*?^\1\2", re.MULTILINE | re.DOTALL)
_INCLUDED = re.compile(r"^```\{include\} (\S+)", re.MULTILINE)
_LINKED = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_DROPPED = re.compile(r"[^\w\- ]")


def broken(pages: Iterable[Path]) -> Iterator[str]:
    """Yield what is wrong with the links of pages in Markdown, a line for each."""
    for page in pages:
        text = _CODE.sub("", page.read_text(encoding="utf-8"))
        for match in _LINK.finditer(text):
            name, _, heading = match[1].partition("#")
            target = (page.parent / name).resolve() if name else page.resolve()
            if not target.exists():
                yield f"{page}: {match[1]}: there is no such file"
            elif heading and target.suffix == ".md" and heading not in headings(target):
                yield f"{page}: {match[1]}: there is no such heading"


@cache
def headings(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as hosting sites and the documentation site make them."""
    text = page.read_text(encoding="utf-8")
    found: dict[str, int] = {}
    for title in _HEADING.findall(_CODE.sub("", text)):
        words = _DROPPED.sub("", _LINKED.sub(r"\1", title).lower().strip()).replace(" ", "-")
        found[words] = found.get(words, -1) + 1
    anchors = {f"{words}-{number}" for words, count in found.items() for number in range(1, count + 1)}
    included = (headings((page.parent / name).resolve()) for name in _INCLUDED.findall(text))
    return frozenset(found).union(anchors, *included)
