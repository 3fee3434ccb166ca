"""Print the completions for a shell.

Installations have them below share/, where most shells look. Some do not, as after uv tool install. git theta help
getting-started names the file that a shell reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.topics import docs_folder

if TYPE_CHECKING:
    import argparse

GROUP = "start"
EXAMPLE = "git theta completion bash > ~/.local/share/bash-completion/completions/git-theta"

_FILES = {
    "bash": ("git-theta",),
    "fish": ("git-theta.fish", "conf.d/git-theta.fish"),
    "zsh": ("_git-theta",),
}
"""Shell to its files in ``docs/completion``."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("shell", choices=tuple(_FILES), help="the shell")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the completions."""
    folder = docs_folder() / "completion"
    text = "\n".join((folder / name).read_text(encoding="utf-8") for name in _FILES[args.shell])
    output_of(args).result({"shell": args.shell, "text": text}, text.splitlines())
    return 0
