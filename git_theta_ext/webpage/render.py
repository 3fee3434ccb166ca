"""Write a report as a page that needs no network: one file with its styles and its script."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import singledispatch
from importlib.resources import files
from typing import TYPE_CHECKING

from git_theta_ext.webpage import graphics
from git_theta_ext.webpage.blocks import Heatmap, Histogram, Scatter, Table
from git_theta_ext.webpage.markup import Markup, element, escaped, joined
from git_theta_ext.webpage.plots import scatter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.webpage.blocks import Block, Page, Section

_SHORT = 12
"""Length of a cell that is not broken at its hyphens, such as a date."""
_DOT = re.compile(r"(?<=[^\W\d])\.|\.(?=[^\W\d])")

_FILTER = Markup(
    '<p class="filter" hidden><label>Filter by name <input id="filter" type="search" autocomplete="off" '
    'spellcheck="false" placeholder="attn, or layers.3.*"></label> <output id="found" for="filter"></output></p>'
)


def render(page: Page) -> str:
    """Return a page as HTML.

    The page loads nothing, and its policy forbids that: a name that looked like markup could do nothing.
    """
    styles, script = _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(styles)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    about = element("div", *(element("p", text) for text in page.about), class_="about")
    sections = [_section(section) for section in page.sections]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            element("title", page.title),
            f"<style>{styles}</style>",
            "</head>",
            "<body>",
            element("main", element("h1", page.title), about, _FILTER, *sections),
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def framed(page: Page) -> str:
    """Return a page as an element of another one, such as a notebook. It cannot reach the page around it."""
    return element("iframe", srcdoc=render(page), sandbox="allow-scripts", width="100%", height="700")


def _section(section: Section) -> Markup:
    facts = [element("p", fact) for fact in section.facts]
    return element("section", element("h2", section.title), *facts, joined([_block(block) for block in section.blocks]))


@singledispatch
def _block(block: Block) -> Markup:
    raise TypeError(type(block))


@_block.register
def _(block: Heatmap) -> Markup:
    return element("div", element("h3", block.title), graphics.heatmap(block))


@_block.register
def _(block: Histogram) -> Markup:
    return element("div", element("h3", block.title), graphics.histogram(block))


@_block.register
def _(block: Scatter) -> Markup:
    return element("div", element("h3", block.title), scatter(block))


@_block.register
def _(block: Table) -> Markup:
    shown = [column for column in range(len(block.columns)) if not column or any(row[column] for row in block.rows)]
    head = element("thead", element("tr", *(element("th", block.columns[column], scope="col") for column in shown)))
    rows = [_row(block, number, row, shown) for number, row in enumerate(block.rows)]
    kind = {"class_": "named"} if block.named else {}
    table = element("table", head, element("tbody", joined(rows)), aria_label=block.title, **kind)
    more = [element("p", block.left_out)] if block.left_out else []
    return element("div", element("h3", block.title), element("div", table, class_="scroll"), *more)


def _row(table: Table, number: int, row: Sequence[str], shown: Sequence[int]) -> Markup:
    cells = []
    for column in shown:
        text = row[column]
        share = table.shares.get((number, column))
        bar = [] if share is None else [element("meter", value=share, aria_hidden="true")]
        whole = {"class_": "whole"} if column and "-" in text and len(text) <= _SHORT else {}
        content = _breakable(text) if table.named and not column else escaped(text)
        cells.append(element("td", *bar, content, **whole))
    return element("tr", *cells)


def _breakable(name: str) -> Markup:
    """Return a name that a narrow screen breaks after dots, but not within a number."""
    return Markup(_DOT.sub(".<wbr>", escaped(name)))


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
