"""Show a page of the documentation, or the help of a command.

Without a topic, lists all commands and topics. The name of a command shows its arguments. If a page has the same name,
such as diff, diff.md shows the page.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from git_theta_ext.cli.commands.install import current_repository
from git_theta_ext.cli.discovery import command_names
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.pager import paged
from git_theta_ext.cli.suggest import nearest
from git_theta_ext.cli.topics import page, plain, topics
from git_theta_ext.errors import UsageError

if TYPE_CHECKING:
    import argparse

GROUP = "start"
EXAMPLE = "git theta help merging"

_WIDEST = 100
"""Columns; longer lines are hard to read."""

_STYLES = {
    "markdown.code": "bold",
    "markdown.h1": "bold",
    "markdown.h2": "bold underline",
    "markdown.item.number": "none",
    "markdown.table.border": "dim",
    "markdown.table.header": "bold",
}
"""Those of rich set backgrounds, which some terminals hardly show."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("topic", metavar="TOPIC", nargs="?", help="a page, such as merging, or a command")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Show a page, or the list of topics."""
    output, known = output_of(args), topics()
    if args.topic is None:
        width = max(map(len, known))
        output.result({"topics": known}, (f"  {name:{width}}  {title}" for name, title in known.items()))
        return 0
    topic = args.topic.removesuffix(".md").lower()
    if topic not in known:
        near = nearest(topic, [*known, *command_names()])
        hint = f"did you mean {near}?" if near else "git theta help"
        raise UsageError(f"there is no page about {args.topic!r}", hint=hint)
    if output.mode == "human" and sys.stdout.isatty():
        _show(topic, color=output.color)
        return 0
    output.result({"topic": topic, "title": known[topic], "text": page(topic)}, page(topic).splitlines())
    return 0


def _show(topic: str, *, color: bool) -> None:
    """Show a page in the pager, laid out for the terminal."""
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    width = min(shutil.get_terminal_size().columns, _WIDEST)
    console = Console(width=width, no_color=not color, force_terminal=color, theme=Theme(_STYLES))
    with console.capture() as shown:
        console.print(Markdown(plain(topic), hyperlinks=False, code_theme="ansi_light"))
    repo = current_repository()
    if repo is None:
        sys.stdout.write(shown.get())
        return
    with paged(repo, "help"):
        sys.stdout.write(shown.get())
