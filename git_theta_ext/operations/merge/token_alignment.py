"""Align the embeddings of a model in conflict by the tokenizers of the sides, and unite the tokenizers."""

from __future__ import annotations

import json
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import RepositoryError, ThetaError, UsageError
from git_theta_ext.git.objects import read_objects
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.revisions import find_object
from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.merging.token_rows import aligned_rows, may_have_tokens, merged_spec, places_of
from git_theta_ext.model.json_text import written_like
from git_theta_ext.operations.merge.merged_tokenizers import UNION, tokenizer_beside, vocabularies
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
    from git_theta_ext.model.tokenizers import Tokenizer
    from git_theta_ext.operations.merge.conflicted_model import ConflictedModel
    from git_theta_ext.operations.merge.merged_tokenizers import Vocabularies
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store

_CONFIG = "config.json"
_SIZE = "vocab_size"
_OTHERS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class AlignedModel:
    """A model in conflict whose embeddings have a row for each token of the merged tokenizer on every side.

    Attributes:
        model: The model, whose conflicts on embeddings have values with these rows.
        names: The parameters that were aligned.
        path: Path of the tokenizer.
        tokenizer: The merged tokenizer.
        rows: The number of rows.
        dropped: Tokens of sides that the tokenizer lacks, whose rows are left out.
    """

    model: ConflictedModel
    names: tuple[str, ...]
    path: str
    tokenizer: Tokenizer
    rows: int
    dropped: tuple[str, ...] = ()


def can_align(repo: Repository, path: str, manifest: Manifest) -> bool:
    """Return whether ``align`` may resolve some conflicts: only numbers of rows differ, and we have a tokenizer.

    Args:
        repo: The repository.
        path: Path of the model.
        manifest: A manifest with conflicts.
    """
    return (
        any(map(_may_have_tokens, manifest.conflicts))
        and find_object(repo, f"HEAD:{tokenizer_beside(path)}") is not None
    )


def must_align(repo: Repository, model: ConflictedModel) -> tuple[str, ...]:
    """Return the parameters that only ``align`` can merge, as tokenizers say that a row is another token on each side.

    Args:
        repo: The repository.
        model: The model.
    """
    if not can_align(repo, model.path, model.manifest):
        return ()
    with suppress(ThetaError):  # without tokenizers to read, nothing is certain
        found = vocabularies(repo, model.chosen[0].path)
        return tuple(_specs(found, model.manifest)) if found.numbered_differently else ()
    return ()


def align(workspace: Workspace, model: ConflictedModel, source: str = UNION) -> AlignedModel:
    """Align the embeddings in conflict, and whatever else has a row for each token.

    Args:
        workspace: The repository and its store, to which the aligned values are written.
        model: The model.
        source: Whose tokens the merged model has: ``union``, ``base``, or the name of a side.

    Raises:
        UsageError: A side has no tokenizer, there is no such source, or no conflict is about rows of tokens.
        FormatError: A tokenizer cannot be read, or they cannot be united.
        MissingError: Values are neither here nor on a remote.
    """
    found = vocabularies(workspace.repo, model.chosen[0].path, source)
    specs = _specs(found, model.manifest)
    if not specs:
        raise UsageError("no conflict is about rows of tokens", hint="git theta resolve PATH lists the conflicts")
    chosen = [conflict for conflict in model.manifest.conflicts if conflict.name in specs]
    digests = {each.digest for conflict in chosen for each in conflict.candidates.values() if each is not None}
    ensure_digests(workspace, digests)
    results = Batches(workspace.store)
    aligned = {each.name: _aligned(found, each, specs[each.name], workspace.store, results) for each in chosen}
    results.flush()
    # Without the content, no record says that the method merged the values of the sides as they were.
    files = tuple(replace(file, manifest=_with(file.manifest, aligned), content=None) for file in model.chosen)
    count = max(spec.shape[0] for spec in specs.values())
    path = tokenizer_beside(model.path)
    return AlignedModel(replace(model, chosen=files), tuple(specs), path, found.merged, count, tuple(found.dropped))


def _specs(found: Vocabularies, manifest: Manifest) -> dict[str, TensorSpec]:
    """Return the specs of the merged tensors whose rows are those of tokens."""
    specs = {conflict.name: _merged_spec(found, conflict) for conflict in manifest.conflicts}
    return {name: spec for name, spec in specs.items() if spec is not None}


def _merged_spec(vocabularies: Vocabularies, conflict: Conflict) -> TensorSpec | None:
    """Return the spec of the merged tensor; None if the conflict is not about rows of tokens."""
    if len(conflict.sides) != len(vocabularies.sides):
        return None
    sizes = [0 if each is None else each.size for each in vocabularies.versions]
    specs = [None if each is None else each.spec for each in (conflict.base, *conflict.sides)]
    return merged_spec(specs, sizes, vocabularies.merged.size, vocabularies.source)


def _aligned(
    vocabularies: Vocabularies, conflict: Conflict, spec: TensorSpec, store: Store, results: Batches
) -> Conflict:
    """Return a conflict whose candidates have the rows of the merged tensor."""
    candidates = (conflict.base, *conflict.sides)
    specs = [None if each is None else each.spec for each in candidates]
    values = [None if each is None else store.read(each.digest, each.spec) for each in candidates]
    places = [
        places_of(ids, 0 if own is None else own.shape[0], vocabularies.merged.ids, spec.shape[0])
        for ids, own in zip(vocabularies.ids, specs, strict=True)
    ]
    made = [results.add(spec, data) for data in aligned_rows(values, specs, places)]
    has_base = conflict.base is not None
    return replace(conflict, base=made[0] if has_base else None, sides=tuple(made[has_base:]))


def _may_have_tokens(conflict: Conflict) -> bool:
    return may_have_tokens([None if each is None else each.spec for each in (conflict.base, *conflict.sides)])


def _with(manifest: Manifest, conflicts: Mapping[str, Conflict]) -> Manifest:
    return replace(manifest, conflicts=tuple(conflicts.get(each.name, each) for each in manifest.conflicts))


def write_tokenizer(workspace: Workspace, aligned: AlignedModel) -> list[str]:
    """Write and stage the merged tokenizer and the size of the vocabulary, and return their paths.

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
            f"{repo.shown(config)} is in conflict: set {_SIZE} to {aligned.rows}", f"git add {repo.argument(config)}"
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
