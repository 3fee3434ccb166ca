"""The ``.gitattributes`` files of history as blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.objects import read_objects, write_blob
from git_theta_ext.operations.migrate.attributes import MAX_ATTRIBUTES
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from git_theta_ext.git.repository import Repository


@dataclass(frozen=True)
class AttributeBlobs:
    """All versions of all ``.gitattributes`` files.

    Attributes:
        repo: The repository.
        texts: The text of each blob.
        places: The folder and the blob of each version.
    """

    repo: Repository
    texts: Mapping[str, str]
    places: tuple[tuple[bytes, str], ...]
    _stored: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, repo: Repository, places: Iterable[tuple[bytes, str]]) -> AttributeBlobs:
        """Read blobs.

        Raises:
            RepositoryError: One is too large, or git cannot read it.
        """
        listed = tuple(places)
        texts: dict[str, str] = {}
        for oid, content in read_objects(repo, {oid for _, oid in listed}):
            if len(content) > MAX_ATTRIBUTES:
                raise RepositoryError(
                    f"the .gitattributes {oid} has {len(content)} bytes", hint=f"git show {shell_word(oid)}"
                )
            texts[oid] = content.decode("utf-8", "surrogateescape")
        return cls(repo, texts, listed)

    def at_top(self) -> list[str]:
        """Return the texts of the files at the top."""
        return [self.texts[oid] for folder, oid in self.places if not folder]

    def edited(self, edit: Callable[[str, str], str]) -> dict[tuple[bytes, str], str | None]:
        """Return the new blob of each folder and blob; None for one that has become empty.

        Args:
            edit: Returns the new text, given the old one and the folder.
        """
        blobs: dict[tuple[bytes, str], str | None] = {}
        for folder, oid in self.places:
            old = self.texts[oid]
            new = edit(old, folder.decode("utf-8", "surrogateescape"))
            blobs[folder, oid] = self.store(new) if new or not old else None
        return blobs

    def extended(self, edit: Callable[[str, str], str]) -> set[tuple[bytes, str]]:
        """Return the folder and blob of each version of which an edit keeps all lines; see ``edited``."""
        return {
            (folder, oid)
            for folder, oid in self.places
            if set(self.texts[oid].splitlines())
            <= set(edit(self.texts[oid], folder.decode("utf-8", "surrogateescape")).splitlines())
        }

    def store(self, text: str) -> str:
        """Store a text and return its blob."""
        if text not in self._stored:
            self._stored[text] = write_blob(self.repo, text.encode("utf-8", "surrogateescape"))
        return self._stored[text]
