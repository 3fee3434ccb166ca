"""Settle what a merge left undecided in a checkpoint; what is settled whole is written and staged."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.diff.words import plural
from git_theta_ext.errors import UsageError
from git_theta_ext.git.fetch import ensure_digests, ensure_local
from git_theta_ext.git.merging import engine
from git_theta_ext.git.paths import tracked_paths, worktree_of
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.resolve import candidates, resolve, undecided
from git_theta_ext.git.stage import Staged, update_index
from git_theta_ext.git.worktree import Wanted, manifest_at, populate_wanted
from git_theta_ext.merging.rules import choice
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.store.writer import explained

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


EXAMPLE = "git theta resolve --method ours model.safetensors 'encoder.*'"
SETTLE = "git theta resolve --method ours|theirs|base|average"


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
    content = manifest_at(repo, path)
    manifest = Manifest.parse(content) if content is not None else None
    store = repo.store()
    if manifest is None or not manifest.conflicted:
        # Strategies that run no driver, and drivers that could not merge at all, leave only the index's stages.
        manifest = undecided(repo, store, path)
    if manifest is None:
        raise UsageError(f"{path} has no conflicts", hint="git theta status")
    if args.method is None and manifest.conflicted:
        output.result(_told(path, manifest), [*_left(manifest), f"{SETTLE} {path} settles them"])
        return 1
    ensure_digests(repo, store, candidates(manifest))
    settled = manifest
    if manifest.conflicted:
        asked = choice(args.method, _options(args.options), origin="command line")
        settled = resolve(manifest, store, asked, args.patterns, lambda: engine(repo, store))
    _write(repo, path, settled)
    if settled.conflicted:
        output.result(_told(path, settled), _left(settled))
        return 1
    populated = {path: Wanted(settled.to_bytes())}
    for failure in populate_wanted(repo, store, populated, partial(ensure_local, repo, store)):
        raise failure
    output.result(_told(path, settled), [f"resolved {path}"])
    return 0


def _options(words: Sequence[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise UsageError(
                f"--option {word} has no value", hint="git theta resolve --method ties --option density=0.2"
            )
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _write(repo: Repository, path: str, manifest: Manifest) -> None:
    full = worktree_of(repo) / path
    with explained(full):
        unfinished = full.with_name(f".{full.name[:64]}.{secrets.token_hex(8)}.theta")
        unfinished.write_bytes(manifest.to_bytes())
        unfinished.chmod(full.stat().st_mode)
        unfinished.replace(full)
    if not manifest.conflicted:
        update_index(repo, [Staged(path, full.lstat(), manifest)])


def _only(paths: Sequence[str], spec: str) -> str:
    if len(paths) != 1:
        raise UsageError(
            f"{spec} is {len(paths)} files", hint=f"git theta resolve {paths[0]}, and so on: one at a time"
        )
    return paths[0]


def _told(path: str, manifest: Manifest) -> dict[str, object]:
    layout = manifest.layout_conflict
    return {
        "path": path,
        "layout": None if layout is None else layout.reason,
        "conflicts": [{"name": conflict.name, "reason": conflict.reason} for conflict in manifest.conflicts],
    }


def _left(manifest: Manifest) -> list[str]:
    lines = [f"{plural(len(manifest.conflicts), 'parameter')} undecided:"] if manifest.conflicts else []
    lines += [f"  {conflict.name}  ({conflict.reason})" for conflict in manifest.conflicts]
    if manifest.layout_conflict is not None:
        lines.append(f"  the file's layout  ({manifest.layout_conflict.reason})")
    return lines
