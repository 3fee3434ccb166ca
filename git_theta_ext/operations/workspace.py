"""What use cases work on: a repository, its settings and its store, opened once and closed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.git.repository import Repository
from git_theta_ext.git.sharing import share
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from git_theta_ext.config import Config
    from git_theta_ext.store.store import Store
    from git_theta_ext.util.reporter import Reporter


@dataclass(frozen=True)
class Workspace:
    """A repository with its store; a ``with`` statement closes the store.

    Attributes:
        repo: The repository.
        reporter: Takes what the user should know.
        apart: A directory whose store and journals are used instead. What this store lacks is read from that of the
            repository; None for those of the repository.
    """

    repo: Repository
    reporter: Reporter
    apart: Path | None = None

    @classmethod
    def discover(cls, reporter: Reporter, folder: Path | None = None) -> Self:
        """Find the repository of a directory; files that this process writes are shared as its settings say.

        Args:
            reporter: Takes what the user should know.
            folder: The current one if None.

        Raises:
            RepositoryError: There is none, or one that git does not trust.
            ConfigError: ``core.sharedRepository`` has a value that git does not know.
        """
        workspace = cls(Repository.discover(folder), reporter)
        share(workspace.settings.values.get("core.sharedrepository", ("umask",))[-1])
        return workspace

    @cached_property
    def store(self) -> Store:
        """The store, opened when it is first asked for.

        Raises:
            ConfigError: ``theta.threads`` is not a number.
            StoreError: The store cannot be read.
        """
        from git_theta_ext.store.store import Store  # a filter that has nothing to do starts without it

        roots = (*([] if self.apart is None else [self.apart]), self.repo.theta_dir, *self.repo.alternates())
        return Store(roots[0], roots[1:], self.settings.threads, self.reporter.warning)

    @property
    def journals(self) -> Path:
        """The directory of the files from which interrupted merges are resumed."""
        return (self.repo.git_dir / "theta" if self.apart is None else self.apart) / "merging"

    def temporary_store(self, folder: Path) -> Store:
        """Return a store in another directory, with this one's settings, which the caller closes."""
        from git_theta_ext.store.store import Store

        return Store(folder, (), self.settings.threads, self.reporter.warning)

    @property
    def settings(self) -> Config:
        """The repository's settings.

        Raises:
            RepositoryError: A configuration file is broken.
        """
        return self.repo.config

    def close(self) -> None:
        """Close the store if it was opened."""
        if "store" in self.__dict__:
            self.store.close()

    def __enter__(self) -> Self:
        """Return the workspace itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store if it was opened."""
        self.close()
