"""Find the tokenizers of the versions that are merged, and the vocabulary of the merged model."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.git.objects import read_objects
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.model.conflicts import side_names
from git_theta_ext.model.tokenizers import Tokenizer, united
from git_theta_ext.operations.merge.merged_trees import trees_in_progress
from git_theta_ext.records import dataclass
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.git.repository import Repository

TOKENIZER = "tokenizer.json"
UNION = "union"
"""The vocabulary that has the tokens of all sides."""

_STAGES = (1, 2, 3)


def tokenizer_beside(path: str) -> str:
    """Return the path of a model's tokenizer."""
    return posixpath.join(posixpath.dirname(path), TOKENIZER)


@dataclass(frozen=True)
class Vocabularies:
    """The tokenizers of the versions that are merged, and that of the merged model.

    Attributes:
        base: The common ancestor's; None if it has none.
        sides: Ours, and those of the merged branches.
        merged: That of the merged model.
        source: The version whose tokenizer that is: 0 for the common ancestor, 1 for ours; None for their union.
    """

    base: Tokenizer | None
    sides: Sequence[Tokenizer]
    merged: Tokenizer
    source: int | None = None

    @property
    def versions(self) -> list[Tokenizer | None]:
        """The common ancestor's tokenizer, then those of the sides."""
        return [self.base, *self.sides]

    @property
    def ids(self) -> list[Mapping[str, int]]:
        """The rows of the tokens of each version."""
        return [{} if version is None else version.ids for version in self.versions]

    @property
    def dropped(self) -> list[str]:
        """The tokens of sides that the merged model lacks, in the order of the sides and their rows."""
        merged = self.merged.ids
        lacking = (
            token for side in self.sides for token in sorted(side.ids, key=side.ids.__getitem__) if token not in merged
        )
        return list(dict.fromkeys(lacking))

    @property
    def numbered_differently(self) -> bool:
        """Whether a row stands for different tokens on different sides."""
        rows = [{row: token for token, row in side.ids.items()} for side in self.sides]
        return any(
            one.get(row, token) != token
            for n, one in enumerate(rows)
            for other in rows[:n]
            for row, token in other.items()
        )


def vocabularies(repo: Repository, model: str, source: str = UNION) -> Vocabularies:
    """Return the tokenizers that are merged with a model in conflict.

    Args:
        repo: The repository.
        model: Path of the model, or of one of its files in conflict.
        source: Whose tokens the merged model has: ``union``, ``base``, or the name of a side.

    Raises:
        UsageError: A side has no tokenizer, git does not say which versions are merged, or there is no such source.
        FormatError: A tokenizer cannot be read, or they cannot be united.
    """
    path = tokenizer_beside(model)
    oids = _versions(repo, model, path)
    contents = dict(read_objects(repo, dict.fromkeys(oid for oid in oids if oid is not None)))
    names = ["base", *side_names(len(oids) - 1)]
    if source not in {UNION, *names}:
        raise UsageError(f"unknown source {source!r} of tokens; the sources are {', '.join([UNION, *names])}")
    found = [
        None if oid is None else Tokenizer.parse(contents[oid], f"{repo.shown(path)} of {name}")
        for oid, name in zip(oids, names, strict=True)
    ]
    sides = [tokenizer for tokenizer in found[1:] if tokenizer is not None]
    if len(sides) < len(found) - 1:
        without = [name for name, tokenizer in zip(names[1:], found[1:], strict=True) if tokenizer is None]
        raise UsageError(
            f"not every side has {repo.shown(path)}: {shortlist(without)} has none",
            hint=f"git log --all -- {repo.argument(path)} finds it; commit it on that side, and merge again",
        )
    if source == UNION:
        return Vocabularies(found[0], sides, united(sides[0], sides[1:]))
    chosen = found[names.index(source)]
    if chosen is None:
        raise UsageError(
            f"the common ancestor has no {repo.shown(path)}",
            hint="git theta resolve --tokens unites the tokenizers of the sides",
        )
    return Vocabularies(found[0], sides, chosen, names.index(source))


def _versions(repo: Repository, model: str, path: str) -> list[str | None]:
    """Return the object ids of a file in the common ancestor, in ours, and in the merged commits.

    What is not in conflict was merged by git, or staged: the commits have its versions. A replay does not say which
    parent it takes as ancestor, but that has the version of the model in conflict.
    """
    stages = unmerged(repo)
    if path in stages:
        return [stages[path].get(stage) for stage in _STAGES]
    merged = [stages[model].get(stage) for stage in _STAGES] if model in stages else None
    for trees in trees_in_progress(repo):
        commits = [trees.base, *trees.sides]
        if merged is None or len(commits) > len(_STAGES) or _oids(repo, commits, model) == merged:
            return _oids(repo, commits, path)
    raise UsageError(
        f"git does not say which versions of {repo.shown(path)} are merged",
        hint=f"git checkout --merge {repo.argument(path)} brings them back if it was in conflict",
    )


def _oids(repo: Repository, commits: Sequence[str | None], path: str) -> list[str | None]:
    entries = [None if commit is None else repo.entry(commit, path) for commit in commits]
    return [None if entry is None else entry.oid for entry in entries]
