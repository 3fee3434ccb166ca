"""Changes of the index and the work tree by model: the files of a model are compared as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.compare import compare
from git_theta_ext.comparison.models import compare_models
from git_theta_ext.errors import FormatError
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.operations.models import indexed_models
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.model.shards import ModelFiles


@dataclass(frozen=True)
class ChangedModel:
    """A model that changed.

    Attributes:
        whole: How it changed; None if its files cannot be compared as one.
        files: How each of its files changed.
    """

    whole: ModelChange | None
    files: tuple[ModelChange, ...]

    @property
    def changes(self) -> tuple[ModelChange, ...]:
        """How it changed: one change, or one for each file if these cannot be compared as one."""
        return self.files if self.whole is None else (self.whole,)


@dataclass(frozen=True)
class Models:
    """The models that some checkpoints make up.

    Attributes:
        files: The files of each model.
        indexes: Path to content of each index of shards.
    """

    files: tuple[ModelFiles, ...]
    indexes: Mapping[str, ModelIndex]

    @classmethod
    def of(cls, repo: Repository, checkpoints: Iterable[str]) -> Models:
        """Return the models that some paths of the index or the last commit make up."""
        files, indexes = indexed_models(repo, None, checkpoints)
        return cls(tuple(files), indexes)

    def names(self, paths: Iterable[str]) -> dict[str, list[str]]:
        """Return the paths by model; a model of which only one path is given has that path as its name."""
        of = {path: model.name for model in self.files for path in model.shards if len(model.shards) > 1}
        groups: dict[str, list[str]] = {}
        for path in paths:
            groups.setdefault(of.get(path, path), []).append(path)
        return {name if len(group) > 1 else group[0]: group for name, group in groups.items()}

    def changed(self, old: Mapping[str, Manifest], new: Mapping[str, Manifest | None]) -> list[ChangedModel]:
        """Return the models that changed, sorted by name.

        Args:
            old: Path to the older version of each checkpoint.
            new: Path to the newer version of those that are compared; None if it is gone.
        """
        found = []
        for model in self.files:
            paths = [path for path in model.shards if path in new]
            files = tuple(_files(paths, old, new))
            if not files:
                continue
            index = (model.index, self.indexes.get(model.index or ""))
            sides = [{p: m for p in paths if (m := side.get(p)) is not None} for side in (old, new)]
            found.append(ChangedModel(_whole(model.name, sides, index) if len(paths) > 1 else None, files))
        return found


def _files(
    paths: Iterable[str], old: Mapping[str, Manifest], new: Mapping[str, Manifest | None]
) -> Iterator[ModelChange]:
    for path in paths:
        if old.get(path) or new[path]:
            diff = compare(old.get(path), new[path])
            if not diff.empty:
                yield ModelChange(path, diff)


def _whole(
    name: str, sides: Iterable[Mapping[str, Manifest]], index: tuple[str | None, ModelIndex | None]
) -> ModelChange | None:
    try:
        versions = [ModelVersion.of(side, *index) if side else None for side in sides]
        return ModelChange(name, compare_models(*versions))
    except FormatError:  # they hold parameters of the same names, as opaque files do
        return None
