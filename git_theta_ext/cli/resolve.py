"""Settle what a merge left undecided in a checkpoint; what is settled whole is written and staged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.diff.words import plural
from git_theta_ext.errors import UsageError
from git_theta_ext.git.paths import tracked_paths
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.resolve import methods_for, sides_of
from git_theta_ext.git.settle import find, finish, settle
from git_theta_ext.merging.rules import choice

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.git.settle import Undecided
    from git_theta_ext.model.manifest import Manifest


EXAMPLE = "git theta resolve --method ours model.safetensors 'encoder.*'"
_MANY_SIDES = 4


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("path", metavar="PATH", help="a checkpoint with conflicts")
    parser.add_argument(
        "patterns", metavar="PARAM", nargs="*", default=[], help="name or pattern of parameters; all where none"
    )
    parser.add_argument(
        "-m", "--method", metavar="NAME", help="ours, theirs, base, or a merge method such as average; lists where none"
    )
    parser.add_argument(
        "-o", "--option", dest="options", metavar="NAME=VALUE", action="append", default=[], help="of the method"
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Resolve."""
    output = output_of(args)
    repo = Repository.discover()
    path = _only(tracked_paths(repo, [args.path]), args.path)
    store = repo.store()
    found = find(repo, store, path)
    if found.manifest.conflicted:
        if args.method is None:
            output.result(_told(found), [*_left(found.manifest), f"{_settle(found.manifest)} {path} settles them"])
            return 1
        asked = choice(args.method, _options(args.options), origin="command line")
        found = settle(repo, store, found, asked, args.patterns)
    if found.manifest.conflicted:
        output.result(_told(found), _left(found.manifest))
        return 1
    finish(repo, store, found)
    output.result(_told(found), [f"resolved {path}"])
    return 0


def _settle(manifest: Manifest) -> str:
    """Return the command that settles conflicts, with the methods that can settle some of these."""
    base, *sides = sides_of(manifest)
    if len(sides) > _MANY_SIDES:
        sides = [*sides[:2], "…", sides[-1]]
    return f"git theta resolve --method {'|'.join([*sides, base, *methods_for(manifest)])}"


def _options(words: Sequence[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise UsageError(
                f"--option {word} has no value", hint="git theta resolve --method ties --option density=0.2"
            )
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _only(paths: Sequence[str], spec: str) -> str:
    if len(paths) != 1:
        raise UsageError(
            f"{spec} is {len(paths)} files", hint=f"git theta resolve {paths[0]}, and so on: one at a time"
        )
    return paths[0]


def _told(found: Undecided) -> dict[str, object]:
    layout = found.manifest.layout_conflict
    return {
        "path": found.path,
        "layout": None if layout is None else layout.reason,
        "conflicts": [{"name": conflict.name, "reason": conflict.reason} for conflict in found.manifest.conflicts],
    }


def _left(manifest: Manifest) -> list[str]:
    lines = [f"{plural(len(manifest.conflicts), 'parameter')} undecided:"] if manifest.conflicts else []
    lines += [f"  {conflict.name}  ({conflict.reason})" for conflict in manifest.conflicts]
    if manifest.layout_conflict is not None:
        lines.append(f"  the file's layout  ({manifest.layout_conflict.reason})")
    return lines
