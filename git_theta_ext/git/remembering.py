"""A repository that asks git the same question once: for a driver, which handles many files while git waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from typing_extensions import Buffer

_SAME = frozenset({"check-attr", "config", "ls-tree", "merge-base"})
"""Commands whose answers do not change while a driver runs: it changes neither HEAD, nor attributes, nor settings."""


@dataclass(frozen=True)
class RememberingRepository(Repository):
    """Remembers what git answered, for as long as nothing else changes the repository."""

    _answers: dict[object, bytes] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, repo: Repository) -> RememberingRepository:
        """Return a repository as one that remembers, with the settings that were read."""
        remembering = cls(
            repo.git_dir, repo.common_dir, repo.worktree, repo.index_path, repo.object_format, repo.prefix
        )
        vars(remembering).update(vars(repo))
        return remembering

    def run(
        self,
        *args: str,
        input: Buffer | None = None,  # noqa: A002 - as Repository
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> bytes:
        """Run git here, or return what it printed before; see ``Repository.run``."""
        if args[0] not in _SAME or env or cwd:
            return super().run(*args, input=input, check=check, env=env, cwd=cwd)
        question = args, None if input is None else bytes(input), check
        if question not in self._answers:
            self._answers[question] = super().run(*args, input=input, check=check)
        return self._answers[question]
