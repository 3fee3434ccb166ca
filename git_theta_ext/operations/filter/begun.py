"""Continue a filter that a shell has begun; see ``git_theta_ext.operations.merge.checkout_script``."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.populate import BACKDATE_NS
from git_theta_ext.git.answer_script import CHECKOUTS, remove_script
from git_theta_ext.git.index_patch import StatWords, Update, patch_file
from git_theta_ext.git.process import FILTER_ANSWERED, FILTER_RECEIVED
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Self

    from git_theta_ext.git.repository import Repository

_HEADER = 4


@dataclass(frozen=True)
class Begun:
    """What a shell has done.

    Attributes:
        received: What it read, without the requests that it has answered and the answers to which git has read.
        sent: The number of answers that it sent to what is left.
        files: The checkpoints that it gave to git, by path, with the object ids of their manifests.
    """

    received: bytes
    sent: int
    files: Mapping[str, str]

    @classmethod
    def from_environment(cls) -> Self:
        """Return what the shell passed on, and remove it from the environment of other programs."""
        sent, _, received = os.environ.pop(FILTER_RECEIVED).partition(" ")
        lines = os.environ.pop(FILTER_ANSWERED, "").splitlines()
        files = {path: oid for oid, _, path in (line.partition(" ") for line in lines)}
        return cls(os.fsencode(received), int(sent), files)

    def packets(self) -> Iterator[bytes]:
        """Yield what was read, packet by packet; the last one may be incomplete."""
        rest = self.received
        while rest:
            size = _HEADER
            with suppress(ValueError):  # not a length, as the connection will report
                size = max(int(rest[:_HEADER], 16), _HEADER)
            yield rest[:size]
            rest = rest[size:]

    def date_back(self, repo: Repository) -> None:
        """Give the files that git wrote an earlier time, also in its index: it distrusts files as new as the index.

        If that is not possible, git reads them once more. The shell's script has done its work, and is removed.
        """
        with suppress(OSError):
            remove_script(repo.git_dir.joinpath(*CHECKOUTS, str(os.getppid())))
        updates = {}
        for path, oid in self.files.items():
            full = repo.folder / path
            with suppress(OSError):
                before = full.lstat()
                past = before.st_mtime_ns - BACKDATE_NS
                os.utime(full, ns=(past, past), follow_symlinks=False)
                updates[os.fsencode(path)] = Update(
                    bytes.fromhex(oid), StatWords.of(before), StatWords.of(full.lstat())
                )
        patch_file(repo.index_path, updates, repo.object_format)
