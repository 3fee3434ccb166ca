"""Align the embeddings of a model in conflict by the tokenizers of the sides, and unite the tokenizers."""

from __future__ import annotations

import json
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import RepositoryError, UsageError
from git_theta_ext.git.objects import read_objects
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.revisions import find_object, head_of, merge_bases, merge_heads
from git_theta_ext.merging.token_rows import aligned_rows, may_have_tokens, merged_spec, places_of
from git_theta_ext.model.json_text import written_like
from git_theta_ext.model.tokenizers import Tokenizer, united
from git_theta_ext.operations.merge.unfinished_models import unmerged
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import dataclass, replace
from git_theta_ext.store.batches import Batches
from git_theta_ext.util.files import replace_content, reporting_os_errors
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.conflicts import Conflict
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.merge.conflicted_model import ConflictedModel
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store

_TOKENIZER = "tokenizer.json"
_CONFIG = "config.json"
_SIZE = "vocab_size"
_OTHERS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class AlignedModel:
    """A model in conflict whose embeddings have a row for each token of the united tokenizer on every side.

    Attributes:
        model: The model, whose conflicts on embeddings have values with these rows.
        names: The parameters that were aligned.
        path: Path of the tokenizer.
        tokenizer: The united tokenizer.
        rows: The number of rows.
    """

    model: ConflictedModel
    names: tuple[str, ...]
    path: str
    tokenizer: Tokenizer
    rows: int


def can_align(repo: Repository, path: str, manifest: Manifest) -> bool:
    """Return whether ``align`` may resolve some conflicts: only numbers of rows differ, and we have a tokenizer.

    Args:
        repo: The repository.
        path: Path of the model.
        manifest: A manifest with conflicts.
    """
    return any(map(_may_have_tokens, manifest.conflicts)) and find_object(repo, f"HEAD:{_beside(path)}") is not None


def align(workspace: Workspace, model: ConflictedModel) -> AlignedModel:
    """Align the embeddings in conflict, and whatever else has a row for each token.

    Args:
        workspace: The repository and its store, to which the aligned values are written.
        model: The model.

    Raises:
        UsageError: A side has no tokenizer, or no conflict is about rows of tokens.
        FormatError: A tokenizer cannot be read, or they cannot be united.
        MissingError: Values are neither here nor on a remote.
    """
    path = _beside(model.path)
    base, sides = _tokenizers(workspace.repo, path)
    vocabularies = _Vocabularies(base, sides, united(sides[0], sides[1:]))
    specs = {}
    for conflict in model.manifest.conflicts:
        if (spec := vocabularies.merged_spec(conflict)) is not None:
            specs[conflict.name] = spec
    if not specs:
        raise UsageError("no conflict is about rows of tokens", hint="git theta resolve PATH lists the conflicts")
    chosen = [conflict for conflict in model.manifest.conflicts if conflict.name in specs]
    digests = {each.digest for conflict in chosen for each in conflict.candidates.values() if each is not None}
    ensure_digests(workspace, digests)
    results = Batches(workspace.store)
    aligned = {each.name: vocabularies.aligned(each, specs[each.name], workspace.store, results) for each in chosen}
    results.flush()
    # Without the content, no record says that the method merged the values of the sides as they were.
    files = tuple(replace(file, manifest=_with(file.manifest, aligned), content=None) for file in model.chosen)
    count = max(spec.shape[0] for spec in specs.values())
    return AlignedModel(replace(model, chosen=files), tuple(specs), path, vocabularies.merged, count)


@dataclass(frozen=True)
class _Vocabularies:
    """The tokenizers of the common ancestor, None if it has none, and of the sides, and their union."""

    base: Tokenizer | None
    sides: Sequence[Tokenizer]
    merged: Tokenizer

    @property
    def _ids(self) -> list[Mapping[str, int]]:
        return [{} if self.base is None else self.base.ids, *(side.ids for side in self.sides)]

    def merged_spec(self, conflict: Conflict) -> TensorSpec | None:
        """Return the spec of the merged tensor; None if the conflict is not about rows of tokens."""
        if len(conflict.sides) != len(self.sides):
            return None
        sizes = [0 if self.base is None else self.base.size, *(side.size for side in self.sides)]
        specs = [None if each is None else each.spec for each in (conflict.base, *conflict.sides)]
        return merged_spec(specs, sizes, self.merged.size)

    def aligned(self, conflict: Conflict, spec: TensorSpec, store: Store, results: Batches) -> Conflict:
        """Return a conflict whose candidates have the rows of the merged tensor."""
        candidates = (conflict.base, *conflict.sides)
        specs = [None if each is None else each.spec for each in candidates]
        values = [None if each is None else store.read(each.digest, each.spec) for each in candidates]
        places = [
            places_of(ids, 0 if own is None else own.shape[0], self.merged.ids, spec.shape[0])
            for ids, own in zip(self._ids, specs, strict=True)
        ]
        made = [results.add(spec, data) for data in aligned_rows(values, specs, places)]
        has_base = conflict.base is not None
        return replace(conflict, base=made[0] if has_base else None, sides=tuple(made[has_base:]))


def _beside(path: str) -> str:
    return posixpath.join(posixpath.dirname(path), _TOKENIZER)


def _may_have_tokens(conflict: Conflict) -> bool:
    return may_have_tokens([None if each is None else each.spec for each in (conflict.base, *conflict.sides)])


def _with(manifest: Manifest, conflicts: Mapping[str, Conflict]) -> Manifest:
    return replace(manifest, conflicts=tuple(conflicts.get(each.name, each) for each in manifest.conflicts))


def write_tokenizer(workspace: Workspace, aligned: AlignedModel) -> list[str]:
    """Write and stage the united tokenizer and the size of the vocabulary, and return their paths.

    Raises:
        StoreError: A file cannot be written.
    """
    folder, repo = posixpath.dirname(aligned.path), workspace.repo
    contents = {aligned.path: aligned.tokenizer.text.encode()}
    config = posixpath.join(folder, _CONFIG)
    if (content := _sized(repo, config, aligned.rows)) is not None:
        contents[config] = content
    elif (worktree_of(repo) / config).is_file():
        workspace.reporter.warning(
            f"{repo.relative(config)} is in conflict: set {_SIZE} to {aligned.rows}", f"git add {repo.argument(config)}"
        )
    for path, data in contents.items():
        full = worktree_of(repo) / path
        with reporting_os_errors(full):
            replace_content(full, data)
        with suppress(RepositoryError):  # it is ignored
            repo.run("add", "--", f":(top,literal){path}")
    others = [name for name in _OTHERS if (worktree_of(repo) / folder / name).is_file()]
    if others:
        workspace.reporter.warning(
            f"tokens may also be listed in {shortlist(others)}, which are left as git merged them"
        )
    return list(contents)


def _tokenizers(repo: Repository, path: str) -> tuple[Tokenizer | None, list[Tokenizer]]:
    """Return the tokenizers of the ancestor, None if it has none, and of the sides."""
    stages = unmerged(repo).get(path)
    heads = [head for head in (head_of(repo), *merge_heads(repo)) if head is not None]
    if stages is not None and len(heads) <= 2:  # noqa: PLR2004 - the index has two sides
        oids = [stages.get(stage) for stage in (1, 2, 3)]
    elif len(heads) > 1:
        commits = [next(iter(merge_bases(repo, heads)), None), *heads]
        entries = [None if commit is None else repo.entry(commit, path) for commit in commits]
        oids = [None if entry is None else entry.oid for entry in entries]
    else:
        raise UsageError(
            f"git does not say which versions of {repo.relative(path)} are merged",
            hint=f"git checkout --merge {repo.argument(path)} brings them back if it was in conflict",
        )
    contents = dict(read_objects(repo, dict.fromkeys(oid for oid in oids if oid is not None)))
    names = ["the common ancestor", "ours", *(f"theirs{n}" for n in range(1, len(oids) - 1))]
    found = [
        None if oid is None else Tokenizer.parse(contents[oid], f"{repo.relative(path)} of {name}")
        for oid, name in zip(oids, names, strict=True)
    ]
    sides = [tokenizer for tokenizer in found[1:] if tokenizer is not None]
    if len(sides) < len(found) - 1:
        without = [name for name, tokenizer in zip(names[1:], found[1:], strict=True) if tokenizer is None]
        raise UsageError(
            f"not every side has {repo.relative(path)}: {shortlist(without)} has none",
            hint=f"git log --all -- {repo.argument(path)} finds it; commit it on that side, and merge again",
        )
    return found[0], sides


def _sized(repo: Repository, path: str, rows: int) -> bytes | None:
    """Return a configuration with the size of the vocabulary; None if it has other conflicts, or there is none."""
    stages = unmerged(repo).get(path)
    if stages is None:
        full = worktree_of(repo) / path
        if not full.is_file():
            return None
        versions = [full.read_bytes()]
    else:
        contents = dict(read_objects(repo, dict.fromkeys(stages.values())))
        versions = [contents[stages[stage]] for stage in (2, 3) if stage in stages]
    try:
        texts = [version.decode() for version in versions]
        configs = [json.loads(text) for text in texts]
    except ValueError:
        return None
    if not all(isinstance(config, dict) for config in configs) or not _alike(configs):
        return None
    return written_like(texts[0], {**configs[0], _SIZE: rows}).encode()


def _alike(configs: Sequence[dict[str, Any]]) -> bool:
    """Return whether configurations differ at most in the size of the vocabulary."""
    rest = [{key: value for key, value in config.items() if key != _SIZE} for config in configs]
    return all(each == rest[0] for each in rest)
