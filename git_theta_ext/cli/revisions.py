"""Options and arguments that select commits, as ``git log`` takes them."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options
from git_theta_ext.cli.parser import RevisionsAndPaths
from git_theta_ext.errors import UsageError
from git_theta_ext.git.raw_diff import Compared
from git_theta_ext.merging.rules.globs import chooser
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from git_theta_ext.git.repository import Repository

_VALUES = {
    "--since": ("DATE", "commits after a date, such as '2 weeks ago'"),
    "--until": ("DATE", "commits before a date"),
    "--author": ("PATTERN", "commits whose author matches"),
    "--grep": ("PATTERN", "commits whose message matches"),
}
_FLAGS = {
    "--all": "all branches and tags",
    "--first-parent": "of merges, follow only the first parent",
    "--merges": "only merges",
    "--no-merges": "no merges",
    "--topo-order": "no commit before all its descendants",
}
_COUNT = re.compile(r"-(\d+)")


class _Limit(argparse.Action):
    """Collects an option, with its value, for git."""

    def __call__(
        self,
        parser: object,  # noqa: ARG002 - argparse passes it
        namespace: argparse.Namespace,
        values: object,
        option: str | None = None,
    ) -> None:
        word = f"{option}={values}" if self.nargs is None else str(option)
        namespace.limits = [*namespace.limits, word]


@dataclass(frozen=True)
class Selected:
    """The commits that a user asked for.

    Attributes:
        limits: Options for git.
        revisions: Revisions for git.
        paths: Pathspecs, relative to the current directory.
        separated: Whether ``--`` precedes the paths.
        most: The most commits; None for all.
    """

    limits: tuple[str, ...]
    revisions: tuple[str, ...]
    paths: tuple[str, ...]
    separated: bool
    most: int | None

    @property
    def words(self) -> list[str]:
        """The arguments for ``git log``."""
        return [*self.limits, *self.revisions, *(["--"] if self.separated else []), *self.paths]


def add_revisions(parser: argparse.ArgumentParser) -> None:
    """Add revisions, paths and options that select commits."""
    parser.add_argument(
        "words",
        metavar="REV|PATH",
        nargs="*",
        action=RevisionsAndPaths,
        help="revisions as in git log (default: HEAD), then files, directories or quoted patterns; -- separates them",
    )
    parser.add_argument("-n", "--max-count", metavar="N", type=int, help="at most N commits; also -N")
    group = parser.add_argument_group("options of git that select commits")
    group.set_defaults(limits=[])
    for name, (metavar, text) in _VALUES.items():
        group.add_argument(name, action=_Limit, metavar=metavar, dest="limits", help=text)
    for name, text in _FLAGS.items():
        group.add_argument(name, action=_Limit, nargs=0, dest="limits", help=text)


def selected(repo: Repository, args: argparse.Namespace) -> Selected:
    """Return the commits that the arguments ask for.

    Raises:
        UsageError: A word looks like an option, or the number of commits is negative.
    """
    counts = [int(match[1]) for word in args.words if (match := _COUNT.fullmatch(word))]
    most = next(reversed(counts), args.max_count)
    if most is not None and most < 0:
        raise UsageError("the number of commits must not be negative", hint="git theta log -n 10")
    compared = Compared.of(repo, [word for word in args.words if not _COUNT.fullmatch(word)], args.paths)
    return Selected(tuple(args.limits), compared.revisions, compared.paths, compared.separated, most)


def add_model(parser: argparse.ArgumentParser, metavar: str, words: str) -> None:
    """Add the arguments of a command that shows the parameters of one model in groups.

    Args:
        parser: That of the command.
        metavar: What the positional arguments are.
        words: Their help.
    """
    parser.add_argument("words", metavar=metavar, nargs="*", action=RevisionsAndPaths, help=words)
    add_parameters(parser)
    parser.add_argument("--full", action="store_true", help="show all groups of parameters, not just a few")
    add_options(parser)


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add ``--param``."""
    parser.add_argument(
        "--param",
        metavar="GLOB",
        action="append",
        help="only parameters whose names match, such as 'model.layers.7.**'; may be repeated",
    )


def chosen_parameters(globs: Sequence[str] | None) -> Callable[[str], bool] | None:
    """Return whether ``--param`` chooses a name; None if it chooses all.

    Raises:
        UsageError: A pattern is not valid.
    """
    try:
        return chooser(globs or ())
    except ValueError as error:
        raise UsageError(f"--param: {error}", hint="git theta log --param 'encoder.**.weight'") from error
