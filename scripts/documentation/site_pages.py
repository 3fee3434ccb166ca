"""Prepare the pages of the site: a notebook becomes a page, and lines do not end before a unit or within a name."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNIT = re.compile(r"(?<=\d) (?=(?:[kMG]i?B|bits?|min|ms|µs|s|%)\b|%)")
_NAME = re.compile(r"\b(git-)(?=lfs\b|theta\b)|\b(hf-)(?=xet\b)|\b(SHA-)(?=\d)")
_INNER_SPACE = re.compile(r"(?<=\S) (?=\S)")
_PANDAS_TABLE, _SITE_TABLE = '<table border="1" class="dataframe">', '<table class="docutils">'
_SHORT_WORD = re.compile(r'<span class="pre">(?=[^<]{1,30}</span>)')
_LONGEST_NAME = 16
"""Characters; a shorter first cell of a row is not broken into lines."""


def unbroken(text: str) -> str:
    """Return text of which no line ends between a number and its unit, or within a name such as git-lfs."""
    return _NAME.sub("\\g<0>\N{WORD JOINER}", _UNIT.sub("\N{NO-BREAK SPACE}", text))


def with_short_words(body: str) -> str:
    """Return the HTML of a page whose words of code have the class ``short`` if they fit into a line of any screen."""
    return _SHORT_WORD.sub('<span class="pre short">', body)


def with_unbroken_cells(page: str) -> str:
    """Return a page in whose tables no line ends within a short first cell."""
    lines = page.splitlines(keepends=True)
    return "".join(_with_unbroken_cell(line) if line.startswith("|") else line for line in lines)


def _with_unbroken_cell(row: str) -> str:
    before, first, *rest = row.split("|")
    if len(first.strip()) <= _LONGEST_NAME and "`" not in first:
        first = _INNER_SPACE.sub("\N{NO-BREAK SPACE}", first)
    return "|".join([before, first, *rest])


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
            table = _joined(data["text/html"]).replace(_PANDAS_TABLE, _SITE_TABLE)
            yield _block("{raw} html", f'<div class="table-wrapper docutils container">\n{table}\n</div>')
        else:
            yield _block("text", _joined(data["text/plain"]))


def _source(cell: dict[str, Any]) -> str:
    return _joined(cell["source"]).strip("\n")


def _joined(lines: str | list[str]) -> str:
    return "".join(lines)


def _block(kind: str, text: str) -> str:
    return f"````{kind}\n{text.rstrip()}\n````"
