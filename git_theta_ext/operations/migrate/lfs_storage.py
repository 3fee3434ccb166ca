"""The objects of Git LFS on this machine, and fetching those that are not."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.util.files import reporting_os_errors, sha256_of, sync_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.protocol.lfs.pointer import Pointer

_STDERR = 2


@dataclass(frozen=True)
class LfsStorage:
    """A directory of Git LFS.

    Attributes:
        root: The directory, ``.git/lfs`` unless the setting ``lfs.storage`` says otherwise.
    """

    root: Path

    @classmethod
    def of(cls, repo: Repository) -> LfsStorage:
        """Find the directory of a repository."""
        chosen = repo.run("config", "--path", "lfs.storage", check=False).decode(errors="surrogateescape")
        return cls(repo.common_dir / (chosen.removesuffix("\n") or "lfs"))

    def path(self, pointer: Pointer) -> Path:
        """Return where an object is."""
        return self.root / "objects" / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid

    def missing(self, pointers: Iterable[Pointer]) -> list[Pointer]:
        """Return the pointers whose content is not here, or has another size."""
        return [pointer for pointer in pointers if not self._has(pointer)]

    def _has(self, pointer: Pointer) -> bool:
        if not pointer.size:  # Git LFS stores no empty file
            return True
        with suppress(OSError):
            return self.path(pointer).stat().st_size == pointer.size
        return False

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
        final = self.path(pointer)
        with reporting_os_errors(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            sync_file(file)
            file.replace(final)

    def temporary(self) -> Path:
        """Return an unused name for a file that ``add`` may move.

        Raises:
            StoreError: The directory cannot be made.
        """
        folder = self.root / "tmp"
        with reporting_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f"git-theta-{secrets.token_hex(8)}"


def fetch_all(repo: Repository, remote: str) -> bool:
    """Let Git LFS fetch the objects of all history from a remote; return whether it succeeded."""
    return _run_lfs(repo, ("fetch", "--all", remote), stdout=_STDERR)


def fetch_object(repo: Repository, pointer: Pointer) -> bool:
    """Let Git LFS fetch an object that no pointer in history names; return whether it succeeded."""
    return _run_lfs(repo, ("smudge",), pointer.text(), stdout=subprocess.DEVNULL)


def _run_lfs(repo: Repository, words: tuple[str, ...], data: bytes = b"", *, stdout: int) -> bool:
    if shutil.which("git-lfs") is None:
        return False
    environment = {**repo.environment(), "GIT_TERMINAL_PROMPT": os.environ.get("GIT_TERMINAL_PROMPT", "0")}
    done = subprocess.run(
        ["git", "lfs", *words], cwd=repo.folder, env=environment, input=data, stdout=stdout, check=False
    )
    return done.returncode == 0
