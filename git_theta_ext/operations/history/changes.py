"""Which parameters commits change, from the lines in which their manifests differ."""

from __future__ import annotations

from contextlib import closing, suppress
from posixpath import basename, dirname
from typing import TYPE_CHECKING

from git_theta_ext.comparison.changed_names import changed_names
from git_theta_ext.comparison.changed_pieces import by_tensor
from git_theta_ext.errors import ManifestError, ThetaError
from git_theta_ext.git.objects import read_manifests
from git_theta_ext.git.path_attributes import model_names
from git_theta_ext.model.manifest_lines import ManifestLines, changed_lines, name_of
from git_theta_ext.model.shards import models_of
from git_theta_ext.operations.history.indexed_names import IndexedNames, has_index, named_lines
from git_theta_ext.operations.history.manifests import with_manifests
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.comparison.changed_names import ChangedNames
    from git_theta_ext.git.commit_log import Commit, CommittedFile
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.record import Record
    from git_theta_ext.merging.rules.rules import Rules
    from git_theta_ext.model.manifest_lines import ChangedLines
    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.operations.workspace import Workspace

RECORD = "Theta-Merge"
"""The trailer that says how a commit merged checkpoints."""
_MOST_KEPT = 64


@dataclass(frozen=True, slots=True)
class ChangedModel:
    """How a commit changes a model.

    Attributes:
        path: The path that the model has, or would have, as one file.
        old_path: The same in the parent; None if it is new.
        deleted: Whether the commit deletes it.
        names: The parameters that changed. Of a merge, only those whose value no parent has.
        files: The files that the commit changes.
        indexes: Those of the parent and of the commit, if the files do not name their parameters themselves.
    """

    path: str
    old_path: str | None
    deleted: bool
    names: ChangedNames
    files: tuple[CommittedFile, ...]
    indexes: tuple[ModelIndex, ModelIndex] | None = None


@dataclass(frozen=True, slots=True)
class CommitChanges:
    """How a commit changes models.

    Attributes:
        commit: The commit.
        models: Sorted by path.
        records: How it merged checkpoints, if it is a merge that says so; with the rules that match something.
    """

    commit: Commit
    models: tuple[ChangedModel, ...]
    records: tuple[Record, ...] = ()


def model_changes(
    workspace: Workspace,
    commits: Iterable[Commit],
    chosen: Callable[[str], bool] | None = None,
) -> Iterator[CommitChanges]:
    """Yield the commits that change parameters, in their order. No tensor is read.

    Args:
        workspace: The repository. A manifest that cannot be read is reported, and left out.
        commits: The commits, with trailers ``RECORD``.
        chosen: Returns whether a parameter counts, by its name; None for all.

    Raises:
        RepositoryError: Git refuses the arguments.
    """
    history = _History(workspace, chosen)
    for commit, texts in with_manifests(workspace.repo, commits, _oids):
        models = tuple(history.changes(commit, texts))
        records = tuple(_records(workspace.repo, commit)) if commit.trailers and len(commit.parents) > 1 else ()
        if models or (records and chosen is None):
            yield CommitChanges(commit, models, records)


def _oids(commit: Commit) -> list[str]:
    return [oid for file in commit.files for oid in (file.new, *file.old) if oid]


@dataclass(frozen=True)
class _History:
    workspace: Workspace
    chosen: Callable[[str], bool] | None
    _models: dict[str, str] = field(default_factory=dict)
    _lines: dict[str, ManifestLines | None] = field(default_factory=dict)
    _names: IndexedNames = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", IndexedNames(self.workspace.repo))

    def changes(self, commit: Commit, texts: Mapping[str, bytes]) -> Iterator[ChangedModel]:
        files = [file for file in commit.files if file.new in texts or any(oid in texts for oid in file.old)]
        self._learn(path for file in files for path in (file.path, file.old_path))
        models: dict[str, list[CommittedFile]] = {}
        for file in files:
            models.setdefault(self._models[file.path], []).append(file)
        for path, members in sorted(models.items()):
            try:
                change = self._change(commit, path, members, texts)
            except ManifestError as error:
                self.workspace.reporter.warning(
                    f"{commit.oid[:12]}:{shown_path(path)}: {error.message}", "git theta fsck"
                )
                continue
            if change is not None:
                yield change

    def _learn(self, paths: Iterable[str]) -> None:
        """Find out which models files belong to, by their names and by the attributes of the work tree."""
        unknown = sorted({path for path in paths if path not in self._models})
        if unknown:
            models = models_of(unknown, names=model_names(self.workspace.repo.run, unknown))
            self._models.update({path: model.name for model in models for path in model.shards})

    def _change(
        self, commit: Commit, path: str, files: Sequence[CommittedFile], texts: Mapping[str, bytes]
    ) -> ChangedModel | None:
        indexes = self._indexes_of(commit, files) if has_index(path) else None
        if indexes is None:
            lines = [self._changed_lines(file, texts) for file in files]
        else:
            lines = [_named_lines(file, texts, indexes) for file in files]
        names = changed_names(lines, self.chosen)
        if indexes is not None:
            new = [named_lines(file.path, texts[file.new], indexes[-1]) for file in files if file.new in texts]
            names = by_tensor(names, lines, [name_of(line) for one in new for line in one.parameters])
        elif len(files) > 1:
            # Git takes a shard for a renamed one if they have many parameters in common.
            pairs = zip(files, lines, strict=True)
            moved = sum(each.unchanged for file, each in pairs if basename(file.path) != basename(file.old_path))
            names = replace(names, moved=names.moved + moved, unchanged=names.unchanged - moved)
        before = [file for file in files if any(oid in texts for oid in file.old)]
        after = [file for file in files if file.new in texts]
        old_path = self._models[before[0].old_path] if before else None
        if names.empty and (self.chosen is not None or old_path == path) and after:
            return None
        return ChangedModel(
            path, old_path, not after, names, tuple(files), None if indexes is None else (indexes[0], indexes[-1])
        )

    def _indexes_of(self, commit: Commit, files: Sequence[CommittedFile]) -> tuple[ModelIndex, ...] | None:
        """Return the index of each parent and of the commit; None if one is missing of a version that has files."""
        places = [
            (parent, next((file.old_path for file in files if any(file.old[number : number + 1])), None))
            for number, parent in enumerate(commit.parents)
        ]
        places.append((commit.oid, next((file.path for file in files if file.new), None)))
        found = [None if path is None else self._names.index(rev, dirname(path)) for rev, path in places]
        known = [index for index in found if index is not None]
        if len(known) < sum(path is not None for _, path in places) or not known:
            return None
        return tuple(known[0] if index is None else index for index in found)

    def _changed_lines(self, file: CommittedFile, texts: Mapping[str, bytes]) -> ChangedLines:
        new = self._lines_of(file.new, texts)
        old = [lines for oid in file.old if (lines := self._lines_of(oid, texts)) is not None]
        return changed_lines(new, old)

    def _lines_of(self, oid: str, texts: Mapping[str, bytes]) -> ManifestLines | None:
        if oid not in texts:
            return None
        if oid not in self._lines:
            if len(self._lines) >= _MOST_KEPT:
                self._lines.clear()
            self._lines[oid] = ManifestLines.of(texts[oid])
        return self._lines[oid]


def _named_lines(file: CommittedFile, texts: Mapping[str, bytes], indexes: Sequence[ModelIndex]) -> ChangedLines:
    new = named_lines(file.path, texts[file.new], indexes[-1]) if file.new in texts else None
    old = [
        named_lines(file.old_path, texts[oid], index)
        for oid, index in zip(file.old, indexes, strict=False)
        if oid in texts
    ]
    return changed_lines(new, old)


def _records(repo: Repository, commit: Commit) -> Iterator[Record]:
    """Yield how a merge merged checkpoints; what cannot be read, or belongs to another merge, is left out.

    Rules that match no parameter of a checkpoint, but those of others in the repository, are left out as well.
    """
    from git_theta_ext.git.remembering import RememberingRepository  # few histories have one
    from git_theta_ext.operations.merge.record_text import MergedCommits, read_record

    with closing(RememberingRepository.of(repo)) as remembering:
        parents = MergedCommits(remembering, commit.parents)
        for text in commit.trailers:
            with suppress(ThetaError):
                record = read_record(parents, text)
                merged, actual = set(record.commits), set(commit.parents)
                if merged <= actual or actual <= merged:
                    yield replace(record, rules=_matching(remembering, record))


def _matching(repo: Repository, record: Record) -> Rules:
    """Return the rules of a record without those that match nothing; all if the sides are directories of files."""
    rules = record.rules
    oids = [oid for oid in (record.base, *record.sides) if oid is not None] if rules.rules else []
    manifests = read_manifests(repo, dict.fromkeys(oids, record.path)).values()
    if not manifests:
        return rules
    idle = rules.idle({name for manifest in manifests for name in manifest.parameters})
    return replace(rules, rules=tuple(rule for rule in rules.rules if rule not in idle))
