"""Resolve merge conflicts in checkpoints.

A fully resolved checkpoint is written and staged. Without PATH, resolves all checkpoints with conflicts, and lists
those that one side deleted. Words that name no file are names or patterns of parameters.
"""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.group import Item, fold
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import UsageError
from git_theta_ext.git.pathspecs import tracked_paths
from git_theta_ext.merging.rules.rules import DEFAULT_METHOD, choice
from git_theta_ext.model.units import one_row
from git_theta_ext.operations.merge.chosen_conflicts import conflicted_units, sides_of
from git_theta_ext.operations.merge.conflict_values import methods_for
from git_theta_ext.operations.merge.conflicted_checkpoint import one_sided
from git_theta_ext.operations.merge.conflicted_model import find_models, paths_in_conflict
from git_theta_ext.operations.merge.merged_tokenizers import UNION
from git_theta_ext.operations.merge.model_resolve import finish_models
from git_theta_ext.operations.merge.renamed import merge_renamed, renames
from git_theta_ext.operations.merge.token_alignment import align, can_align, must_align, write_tokenizer
from git_theta_ext.records import replace
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.conflicts import Conflict
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.merge.conflicted_checkpoint import ConflictedCheckpoint
    from git_theta_ext.operations.merge.conflicted_model import ConflictedModel
    from git_theta_ext.operations.merge.model_resolve import FinishedModel
    from git_theta_ext.operations.merge.token_alignment import AlignedModel
    from git_theta_ext.operations.workspace import Workspace


GROUP = "merge"
EXAMPLE = "git theta resolve --method ours model.safetensors 'encoder.*'"
_MANY_SIDES = 4
_MANY_CONFLICTS = 20
"""Of more, those whose names differ only in numbers share a line."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "words", metavar="PATH|PARAM", nargs="*", help="checkpoints with conflicts, then parameters, units or patterns"
    )
    parser.add_argument(
        "-p",
        "--param",
        dest="patterns",
        metavar="PARAM",
        action="append",
        default=[],
        help="resolve only these parameters; may be repeated",
    )
    parser.add_argument(
        "-m", "--method", metavar="METHOD", help="ours, theirs, base or a merge method; default: list the conflicts"
    )
    parser.add_argument(
        "-o",
        "--option",
        dest="options",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="option of the method; may be repeated",
    )
    parser.add_argument(
        "--tokens",
        action="store_true",
        help="align rows of embeddings by the tokenizer.json of each side, unite these, and merge by METHOD or average",
    )
    parser.add_argument(
        "--tokenizer-source",
        metavar="SOURCE",
        help="--tokens, but with the tokens of base, ours or theirs instead of those of all (union); rows of others"
        " are dropped",
    )
    parser.add_argument(
        "--renamed-to",
        metavar="NEW",
        help="PATH, which one side changed, was renamed to NEW by the other side: merge both as NEW",
    )
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Resolve conflicts."""
    renamed = [] if args.renamed_to is None else _merge_renamed(workspace, args.words, args.renamed_to)
    if args.renamed_to is None:
        paths, patterns = _selected(workspace.repo, args.words)
    else:
        paths, patterns = [path for model in renamed for path in model.conflicted], []
    patterns = [*patterns, *args.patterns]
    source = args.tokenizer_source or (UNION if args.tokens else None)
    asked = args.method or (None if source is None else DEFAULT_METHOD)
    method = choice(asked, _options(args.options), origin="command line") if asked else None
    left = 0
    data: list[dict[str, object]] = []
    tokens: list[dict[str, object]] = []
    lines: list[str] = []
    shown = workspace.repo.shown
    models = [*renamed, *finish_models(workspace, paths)]
    for model in models:
        lines += [f"resolved {shown(path)}" for path in model.resolved]
        lines += [f"removed {shown(path)}" for path in model.removed]
    done = {path for model in models for path in (*model.resolved, *model.removed)}
    paths = [*(path for path in paths if path not in done), *(path for model in models for path in model.conflicted)]
    undecided = {} if args.words else one_sided(workspace.repo, paths)
    paths = [path for path in paths if path not in undecided]
    for found in find_models(workspace, list(dict.fromkeys(paths))):
        conflicted = found
        if source is not None and method is not None:
            aligned = align(workspace, conflicted, source)
            conflicted = aligned.model.resolved(workspace, method, list(map(glob.escape, aligned.names)))
            lines += [f"resolved {shown(path)}" for path in write_tokenizer(workspace, aligned)]
            lines += _dropped_line(aligned, source)
            tokens.append({"path": aligned.path, "rows": aligned.rows, "dropped": list(aligned.dropped)})
        elif conflicted.manifest.conflicted and method is not None:
            conflicted = conflicted.resolved(workspace, method, patterns)
        data += map(_data, conflicted.chosen)
        lines += [f"resolved {shown(path)}" for path in conflicted.stage(workspace)]
        if conflicted.manifest.conflicted:
            left += 1
            lines += [f"{shown(conflicted.path)}:", *_conflict_lines(conflicted.manifest)]
            if method is None:
                lines += _commands(workspace.repo, conflicted)
    data += [{"path": path, "layout": None, "conflicts": []} for path in sorted(done)]
    output.result(
        {
            "checkpoints": data,
            "undecided": [
                {"path": path, "reason": error.message, "hint": error.hint} for path, error in undecided.items()
            ],
            **({} if source is None else {"tokenizers": tokens}),
        },
        lines,
    )
    for error in undecided.values():
        output.warning(error.message, error.hint)
    return int(left > 0 or bool(undecided))


def _merge_renamed(workspace: Workspace, words: Sequence[str], new: str) -> list[FinishedModel]:
    """Merge the checkpoints at a path, or below a directory, that one side renamed."""
    repo = workspace.repo
    if len(words) != 1:
        raise UsageError("--renamed-to takes one path in conflict", hint="git theta resolve --renamed-to NEW OLD")
    before, after = (os.path.normpath(repo.prefix + word) for word in (words[0], new))
    return [merge_renamed(workspace, *pair) for pair in renames(repo, before, after).items()]


def _selected(repo: Repository, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the checkpoints and the patterns of parameters that words name.

    The first word is a pathspec. Another word names a checkpoint if it is exactly its path.
    """
    if not words:
        return paths_in_conflict(repo), []
    files = dict.fromkeys(paths_in_conflict(repo, words[0]))
    patterns = []
    for word in words[1:]:
        path = _path_of(repo, word)
        if path is None:
            patterns.append(word)
        else:
            files[path] = None
    return list(files), patterns


def _path_of(repo: Repository, word: str) -> str | None:
    try:
        paths = tracked_paths(repo, [f":(literal){word}"])
    except UsageError:
        return None
    return paths[0] if len(paths) == 1 else None


def _dropped_line(aligned: AlignedModel, source: str) -> list[str]:
    if not aligned.dropped:
        return []
    return [
        f"dropped the rows of {plural(len(aligned.dropped), 'token')} that {source} lacks: {shortlist(aligned.dropped)}"
    ]


def _commands(repo: Repository, model: ConflictedModel) -> list[str]:
    """Return what resolves the conflicts of a model."""
    argument, manifest = repo.argument(model.argument), model.manifest
    tokens = f"git theta resolve --tokens {argument}"
    if names := must_align(repo, model):  # no method that merges rows by their numbers
        rest = replace(manifest, conflicts=tuple(c for c in manifest.conflicts if c.name not in names))
        return [
            f"to resolve rows that are other tokens on each side: {tokens}",
            f"to resolve the others, or take a side: {_resolve_command(manifest, methods_for(rest))} {argument}",
        ]
    lines = [f"to resolve them: {_resolve_command(manifest, methods_for(manifest))} {argument}"]
    return (
        [*lines, f"to give rows to the same tokens first: {tokens}"] if can_align(repo, model.path, manifest) else lines
    )


def _resolve_command(manifest: Manifest, methods: Sequence[str]) -> str:
    """Return the command that resolves conflicts by taking a side or by one of some methods."""
    base, *sides = sides_of(manifest)
    if len(sides) > _MANY_SIDES:
        sides = [*sides[:2], "…", sides[-1]]
    return f"git theta resolve --method {'|'.join([*sides, base, *methods])}"


def _options(words: Sequence[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise UsageError(
                f"--option {word} has no value", hint="git theta resolve --method ties --option density=0.2"
            )
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _data(checkpoint: ConflictedCheckpoint) -> dict[str, object]:
    layout = checkpoint.manifest.layout_conflict
    units = conflicted_units(checkpoint.manifest)
    homes = {name: {"unit": unit.name} for unit in units for name in unit.members}
    return {
        "path": checkpoint.path,
        "layout": None if layout is None else layout.reason.text,
        "conflicts": [
            {
                "name": conflict.name,
                "reason": conflict.reason.text,
                "code": conflict.reason.code.value,
                **homes.get(conflict.name, {}),
            }
            for conflict in checkpoint.manifest.conflicts
        ],
        "units": [unit.to_dict() for unit in units],
    }


def _conflict_lines(manifest: Manifest) -> list[str]:
    lines = [f"{plural(len(manifest.conflicts), 'parameter')} in conflict:"] if manifest.conflicts else []
    homes = one_row(conflicted_units(manifest))
    rows: dict[str, list[Conflict]] = {}
    for conflict in manifest.conflicts:
        unit = homes.get(conflict.name)
        rows.setdefault(conflict.name if unit is None else unit.name, []).append(conflict)
    items = [
        Item(str(parts[0].reason), name, "", tuple(part.name for part in parts) if parts[0].name in homes else ())
        for name, parts in rows.items()
    ]
    for row in fold(items) if len(items) > _MANY_CONFLICTS else (fold([item])[0] for item in items):
        first, count = row.items[0], sum(len(item.names) for item in row.items)
        counted = f", {plural(count, 'parameter')}" if count > 1 or first.members else ""
        lines.append(f"  {row.label}{counted}  ({first.sign})")
    if manifest.layout_conflict is not None:
        lines.append(f"  the file's layout  ({manifest.layout_conflict.reason})")
    return lines
