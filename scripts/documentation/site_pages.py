"""Prepare the sources of the site: a notebook becomes a page, and units in tables stay on the line of their numbers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNIT = re.compile(r"(?<=\d) (?=(?:[kMG]i?B|bits?|min|ms|µs|s|%)\b|%)")
_INNER_SPACE = re.compile(r"(?<=\S) (?=\S)")
_LONGEST_NAME = 16
"""Characters; a shorter first cell of a row is not broken into lines."""


def with_units(text: str) -> str:
    """Return a page in which no line of a table ends between a number and its unit, or within a short first cell."""
    lines = text.splitlines(keepends=True)
    return "".join(_unbroken(line) if line.startswith("|") else line for line in lines)


def _unbroken(row: str) -> str:
    before, first, *rest = row.split("|")
    if len(first.strip()) <= _LONGEST_NAME and "`" not in first:
        first = _INNER_SPACE.sub("\N{NO-BREAK SPACE}", first)
    parts = "|".join([before, first, *rest]).split("`")  # those with an odd number are code
    return "`".join(part if number % 2 else _UNIT.sub("\N{NO-BREAK SPACE}", part) for number, part in enumerate(parts))


def notebook_page(text: str, name: str) -> str:
    """Return a notebook with its outputs as a page of Markdown.

    Args:
        text: The notebook, in JSON.
        name: Name of its file, which the page offers for download.
    """
    title, *rest = json.loads(text)["cells"]
    download = f"Download this page as a notebook: {{download}}`{name}`."
    return "\n\n".join([_source(title), download, *(part for cell in rest for part in _parts(cell))]) + "\n"


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    source = _source(cell)
    if cell["cell_type"] == "markdown":
        yield source
        return
    shell = source.startswith("%%bash\n")
    yield _block("sh" if shell else "python", source.removeprefix("%%bash\n"))
    streams = [output for output in cell["outputs"] if output["output_type"] == "stream"]
    if streams:
        yield _block("text", "".join(map(_joined, (output["text"] for output in streams))))
    for data in (output["data"] for output in cell["outputs"] if "data" in output):
        if "text/html" in data:
            yield _block("{raw} html", _joined(data["text/html"]))
        else:
            yield _block("text", _joined(data["text/plain"]))


def _source(cell: dict[str, Any]) -> str:
    return _joined(cell["source"]).strip("\n")


def _joined(lines: str | list[str]) -> str:
    return "".join(lines)


def _block(kind: str, text: str) -> str:
    return f"````{kind}\n{text.rstrip()}\n````"
