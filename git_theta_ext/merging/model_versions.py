"""The versions of a model of several files that are merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass
from git_theta_ext.registry import find_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.model.tensor import Digest


@dataclass(frozen=True)
class ModelVersions:
    """The versions of a model that are merged.

    Attributes:
        name: The path that the model has, or would have, as one file.
        base: The common ancestor's version; None if all sides added the model.
        sides: Our version, and those of the branches that are merged.
    """

    name: str
    base: ModelVersion | None
    sides: tuple[ModelVersion, ...]

    @property
    def every(self) -> tuple[ModelVersion, ...]:
        """The sides, and the common ancestor's version if there is one."""
        return self.sides if self.base is None else (*self.sides, self.base)

    @property
    def mergeable(self) -> bool:
        """Whether some version has several files, and all have one format whose files can be mixed."""
        formats = {version.format for version in self.every}
        fixed = [None if version.index is None else version.index.fixed for version in self.every]
        if fixed[0] is not None:
            ours = self.sides[0]
            same = (one == fixed[0] or version.resharded(ours) for one, version in zip(fixed, self.every, strict=True))
            return len(formats) == 1 and all(same)
        if len(formats) > 1 or not find_format(formats.pop()).mergeable:
            return False
        return self.configured or any(len(version.shards) > 1 or version.index is not None for version in self.every)

    @property
    def resharded(self) -> bool:
        """Whether a version has the tensors in other pieces than ours."""
        return any(version.resharded(self.sides[0]) for version in self.every)

    @property
    def configured(self) -> bool:
        """Whether it is an adapter, and a version has its configuration."""
        return any(version.config is not None for version in self.every)

    @property
    def config(self) -> bytes | None:
        """The configuration of an adapter, merged as a whole: that of the side that changed it, or else ours."""
        before = None if self.base is None else self.base.config
        changed = {side.config for side in self.sides} - {before}
        return changed.pop() if len(changed) == 1 else self.sides[0].config

    def manifests(self) -> tuple[Manifest | None, tuple[Manifest, ...]]:
        """Return a manifest of all parameters for each version, the common ancestor's first.

        All have the same layout, because the layouts of files are merged file by file.
        """
        skeleton = next(iter(self.sides[0].shards.values())).skeleton
        base = None if self.base is None else self.base.as_one(skeleton)
        return base, tuple(side.as_one(skeleton) for side in self.sides)

    def skeletons(self) -> Iterator[Digest]:
        """Yield the digest of each file's layout."""
        for version in self.every:
            yield from (shard.skeleton.digest for shard in version.shards.values())

    def paths(self) -> set[str]:
        """Return the paths of the files of all versions."""
        shards = {path for version in self.every for path in version.shards}
        others = {path for version in self.every for path in (version.index_path, version.config_path)}
        return shards | {path for path in others if path is not None}
