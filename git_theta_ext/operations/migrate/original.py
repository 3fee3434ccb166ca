"""Restore checkpoints that git-theta 0.2.0 committed, as it checked them out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, FormatError, MissingError
from git_theta_ext.git.objects import read_objects
from git_theta_ext.git.revisions import find_object
from git_theta_ext.operations.migrate.lfs_fetch import fetch_objects
from git_theta_ext.operations.migrate.original_arrays import apply_update, read_arrays
from git_theta_ext.operations.migrate.original_files import kind_of, save
from git_theta_ext.operations.migrate.original_metadata import parse_original
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_theta_ext.operations.migrate.lfs_storage import LfsStorage
    from git_theta_ext.operations.migrate.original_arrays import Array
    from git_theta_ext.operations.migrate.original_files import FileKind
    from git_theta_ext.operations.migrate.original_metadata import OriginalParameter
    from git_theta_ext.operations.workspace import Workspace

    Parameters = Mapping[tuple[str, ...], OriginalParameter]

_LONGEST_CHAIN = 10_000
_SPARE = 1 << 21
"""Elements of an array beyond those of its parameter: chunks are padded, and indices are counted."""


@dataclass
class OriginalReader:
    """Restores checkpoints.

    Attributes:
        workspace: The repository.
        storage: Holds the objects of Git LFS.
        kind: The format of files to write; None if the checkpoint decides.
    """

    workspace: Workspace
    storage: LfsStorage
    kind: FileKind | None = None
    _earlier: dict[tuple[str, str], Parameters] = field(default_factory=dict)

    def write(self, parameters: Parameters, path: str, file: Path) -> None:
        """Write a checkpoint.

        The whole checkpoint is in memory meanwhile, as it was with git-theta 0.2.0.

        Args:
            parameters: Its parameters.
            path: Its path in the commits.
            file: The file to write.

        Raises:
            FormatError: An object is damaged.
            MissingError: An object of Git LFS cannot be had.
            LibraryError: A library is not installed.
        """
        kind = kind_of(path, parameters, self.kind)
        save({names: self._value(path, names, parameter) for names, parameter in parameters.items()}, kind, file)

    def _value(self, path: str, names: tuple[str, ...], parameter: OriginalParameter) -> Array:
        updates = [parameter]
        while updates[-1].update != "dense":
            before = self._parameters(updates[-1].last_commit, path).get(names)
            if before is None or len(updates) == _LONGEST_CHAIN:
                commit = updates[-1].last_commit or "a commit"
                raise MissingError(f"{shown_path(path)}: {names[-1]}: its earlier value, in {commit}, is missing")
            updates.append(before)
        value = self._arrays(path, updates.pop())["parameter"]
        while updates:
            update = updates.pop()
            try:
                value = apply_update(update.update, self._arrays(path, update), value)
            except FormatError as error:
                raise FormatError(f"{shown_path(path)}: {names[-1]}: {error.message}") from error
        if value.shape != parameter.shape:
            raise FormatError(
                f"{shown_path(path)}: {names[-1]} has shape {list(value.shape)} instead of {list(parameter.shape)}"
            )
        return value

    def _parameters(self, commit: str, path: str) -> Parameters:
        """Return what a commit has at a path; nothing if there is no such commit or file."""
        if (commit, path) not in self._earlier:
            oid = find_object(self.workspace.repo, f"{commit}:{path}") if commit else None
            contents = [content for _, content in read_objects(self.workspace.repo, [oid] if oid else [])]
            self._earlier[commit, path] = (parse_original(memoryview(contents[0])) if contents else None) or {}
        return self._earlier[commit, path]

    def _arrays(self, path: str, parameter: OriginalParameter) -> dict[str, Array]:
        pointer = parameter.pointer
        if (fetched := fetch_objects(self.workspace, self.storage, [pointer])).missing:
            raise MissingError(
                f"{shown_path(path)}: the object {pointer.oid} of Git LFS cannot be fetched\n"
                + "\n".join(fetched.reasons),
                hint="cp -rn CLONE/.git/lfs/objects .git/lfs takes it from a clone that has it",
            )
        if not self.storage.is_sound(pointer):
            raise CorruptError(f"{shown_path(path)}: the object {pointer.oid} of Git LFS is damaged")
        data = self.storage.path(pointer).read_bytes()
        arrays = read_arrays(data, 2 * math.prod(parameter.shape) + _SPARE)
        if parameter.update == "dense" and "parameter" not in arrays:
            raise FormatError(f"{shown_path(path)}: the object {pointer.oid} has no value")
        return arrays
