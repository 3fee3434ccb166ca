"""Choose the checkpoints whose parameters a checkout fetches: ``theta.fetch.include`` and ``theta.fetch.exclude``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from git_theta_ext.git.tracked_config import read_tracked
from git_theta_ext.records import dataclass
from git_theta_ext.settings import FETCH_EXCLUDE, FETCH_INCLUDE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class PathFilter:
    """Globs that are matched against whole paths; ``*`` matches slashes too.

    Attributes:
        include: A path must match one of them, unless there is none.
        exclude: A path must match none of them.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def excludes(self, path: str) -> bool:
        """Return whether the parameters of the checkpoint at a path are not fetched unless they are asked for."""
        included = not self.include or any(fnmatchcase(path, glob) for glob in self.include)
        return not included or any(fnmatchcase(path, glob) for glob in self.exclude)

    def left_out(self, store: Store, manifests: Iterable[tuple[str, Manifest]]) -> list[str]:
        """Return the paths of the checkpoints that stay manifests: excluded, and parameters are not in the store.

        Args:
            store: The store.
            manifests: Paths and manifests.
        """
        return [
            path
            for path, manifest in manifests
            if self.excludes(path) and store.touch_and_find_missing(digest for digest, _ in manifest.digests())
        ]


def fetch_filter(repo: Repository) -> PathFilter:
    """Return the filter of a repository. Each of the two settings counts from git's settings or else ``.thetaconfig``.

    Raises:
        ConfigError: A setting is invalid.
    """
    keys = [setting.key.lower() for setting in (FETCH_INCLUDE, FETCH_EXCLUDE)]
    values = [repo.config.texts(key) for key in keys]
    if not all(values) and (tracked := read_tracked(repo)) is not None:
        values = [own or tracked.config.texts(key) for own, key in zip(values, keys, strict=True)]
    return PathFilter(*values)
