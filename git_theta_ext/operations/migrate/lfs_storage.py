"""The objects of Git LFS on this machine."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.git.alternates import object_folders
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import reporting_os_errors, sha256_of, sync_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.protocol.lfs.pointer import Pointer


@dataclass(frozen=True)
class LfsStorage:
    """A directory of Git LFS.

    Attributes:
        root: The directory, ``.git/lfs`` unless the setting ``lfs.storage`` says otherwise.
        borrowed: Those of the repositories that this one borrows git's objects from.
    """

    root: Path
    borrowed: tuple[Path, ...] = ()

    @classmethod
    def of(cls, repo: Repository) -> LfsStorage:
        """Find the directory of a repository."""
        chosen = repo.run("config", "--path", "lfs.storage", check=False).decode(errors="surrogateescape")
        others = object_folders(repo.common_dir / "objects", repo.folder)
        root = repo.common_dir / (chosen.removesuffix("\n") or "lfs")
        return cls(root, tuple(objects.parent / "lfs" for objects in others))

    def path(self, pointer: Pointer) -> Path:
        """Return where an object is, or would be."""
        return self.find(pointer.oid, pointer.size) or _below(self.root, pointer.oid)

    def find(self, oid: str, nbytes: int) -> Path | None:
        """Return where an object is; None if it is not here, or has another size."""
        for root in (self.root, *self.borrowed):
            with suppress(OSError):
                if _below(root, oid).stat().st_size == nbytes:
                    return _below(root, oid)
        return None

    def missing(self, pointers: Iterable[Pointer]) -> list[Pointer]:
        """Return the pointers whose content is not here, or has another size. Git LFS stores no empty file."""
        return [pointer for pointer in pointers if pointer.size and self.find(pointer.oid, pointer.size) is None]

    def is_sound(self, pointer: Pointer) -> bool:
        """Return whether the content is what the pointer says, which takes reading it."""
        try:
            return sha256_of(self.path(pointer)) == pointer.oid
        except OSError:
            return False

    def add(self, file: Path, pointer: Pointer) -> None:
        """Move a file to the place of a pointer's content.

        Raises:
            StoreError: It cannot be moved.
        """
        final = _below(self.root, pointer.oid)
        with reporting_os_errors(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            sync_file(file)
            file.replace(final)

    def temporary(self) -> Path:
        """Return an unused name for a file that ``add`` may move.

        Raises:
            StoreError: The directory cannot be made.
        """
        return self._folder("tmp") / f"git-theta-{secrets.token_hex(8)}"

    def partial(self, pointer: Pointer) -> Path:
        """Return the file to download an object to. It is where git-lfs keeps interrupted downloads, too.

        Raises:
            StoreError: The directory cannot be made.
        """
        return self._folder("incomplete") / f"{pointer.oid}.part"

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        with reporting_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder


def _below(root: Path, oid: str) -> Path:
    return root / "objects" / oid[:2] / oid[2:4] / oid
