"""The names that indexes of past commits have for the parameters of files which do not name them themselves."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, RepositoryError
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.manifest_lines import ManifestLines
from git_theta_ext.model.model_version import in_model, renamed
from git_theta_ext.model.shards import INDEX_FORMATS
from git_theta_ext.operations.models import Directory, read_indexes
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.model_index import ModelIndex

_MOST_KEPT = 8


@dataclass(frozen=True)
class IndexedNames:
    """Reads indexes such as ``.metadata``.

    Attributes:
        repo: The repository.
    """

    repo: Repository
    _indexes: dict[tuple[str, str], ModelIndex | None] = field(default_factory=dict)

    def index(self, rev: str, folder: str) -> ModelIndex | None:
        """Return the index in a directory of a commit; None if there is none, or it cannot be read."""
        if (rev, folder) not in self._indexes:
            if len(self._indexes) >= _MOST_KEPT:
                self._indexes.clear()
            self._indexes[rev, folder] = self._read(rev, folder)
        return self._indexes[rev, folder]

    def _read(self, rev: str, folder: str) -> ModelIndex | None:
        with suppress(RepositoryError):
            files = Directory.of(self.repo, rev, folder).files
            paths = [path for name in INDEX_FORMATS if (path := posixpath.join(folder, name)) in files]
            return next(iter(read_indexes(self.repo, {path: files[path] for path in paths}).values()), None)
        return None


def has_index(path: str) -> bool:
    """Return whether the names of a file's parameters are in such an index, according to the model's path."""
    return posixpath.basename(path) == "model.distcp"


def named(path: str, manifest: Manifest, index: ModelIndex) -> Manifest:
    """Return the manifest of a file with the names that an index has; the same if the index is not that of the file."""
    try:
        return renamed(manifest, in_model(path, manifest, index))
    except FormatError:
        return manifest


def named_lines(path: str, text: bytes, index: ModelIndex) -> ManifestLines:
    """Return the lines of a manifest with the names that an index has.

    Raises:
        ManifestError: It is not a manifest.
    """
    return ManifestLines.of(named(path, Manifest.parse(text), index).to_bytes())
