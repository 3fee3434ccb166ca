"""The part of a diff that is asked for: parameters by name, and changes that are not too small."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.comparison.compare import Diff
    from git_theta_ext.comparison.distance import Distance
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.model_version import ModelVersion


@dataclass(frozen=True)
class Selection:
    """What to compare.

    Attributes:
        patterns: Names or patterns of parameters; all if there are none.
        tolerance: A parameter of the same type and shape is unchanged if no element changed by more; 0 for none.
        numbers: Whether to read values and measure them.
    """

    patterns: tuple[str, ...] = ()
    tolerance: float = 0.0
    numbers: bool = True

    def of_version(self, version: ModelVersion | None) -> ModelVersion | None:
        """Return a version of a model with only the parameters that are asked for."""
        if version is None or not self.patterns:
            return version
        return replace(version, shards={path: self._manifest(shard) for path, shard in version.shards.items()})

    def _manifest(self, manifest: Manifest) -> Manifest:
        return replace(
            manifest,
            parameters={name: value for name, value in manifest.parameters.items() if self._has(name)},
            layout_conflict=None,
            conflicts=tuple(conflict for conflict in manifest.conflicts if self._has(conflict.name)),
        )

    def _has(self, name: str) -> bool:
        return any(_matches(name, pattern) for pattern in self.patterns)

    def unmatched(self, versions: Iterable[Manifest]) -> list[str]:
        """Return the patterns that no parameter of some manifests matches, such as those with a typing error."""
        left = list(self.patterns)
        for manifest in versions:
            if not left:
                break
            names = [*manifest.parameters, *(conflict.name for conflict in manifest.conflicts)]
            left = [pattern for pattern in left if not any(_matches(name, pattern) for name in names)]
        return left

    def of_diff(self, diff: Diff) -> Diff:
        """Return a diff without the layout of the file, which concerns all parameters, if only some are asked for."""
        return replace(diff, layout_changed=False) if self.patterns else diff

    def large(self, diff: Diff, distances: Mapping[str, Distance]) -> tuple[Diff, int]:
        """Return a diff without changes within the tolerance, and their number.

        A change whose size is not known is kept, and one of NaN.
        """
        small = {
            name: versions
            for name, versions in diff.modified.items()
            if self.tolerance
            and versions.old.spec == versions.new.spec
            and (near := distances.get(name)) is not None
            and near.largest is not None
            and near.largest <= self.tolerance
            and not near.nonfinite_new
        }
        if not small:
            return diff, 0
        large = replace(
            diff,
            modified={name: versions for name, versions in diff.modified.items() if name not in small},
            unchanged=tuple(sorted({*diff.unchanged, *small})),
            fresh=max(0, diff.fresh - len(small)),
            fresh_bytes=max(0, diff.fresh_bytes - sum(versions.new.spec.nbytes for versions in small.values())),
            units=tuple(unit for unit in diff.units if not small.keys() >= set(unit.members)),
        )
        return large, len(small)


def _matches(name: str, pattern: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)


EVERYTHING = Selection()
