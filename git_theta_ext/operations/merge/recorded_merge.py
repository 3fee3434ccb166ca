"""A merge as its commit records it, and the result of repeating it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from git_theta_ext.merging.model_versions import ModelVersions
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.record import Record
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.model_version import ModelVersion


@dataclass(frozen=True)
class RecordedModel:
    """The files of a model that a merge commit records.

    Attributes:
        versions: The versions that were merged.
        committed: The version in the commit.
    """

    versions: ModelVersions
    committed: ModelVersion


@dataclass(frozen=True)
class RecordedMerge:
    """A merge of a checkpoint, as its commit records it.

    Attributes:
        commit: Id of the merge commit.
        record: The record in its message.
        plan: The plan that follows from the record.
        committed: The version of the checkpoint in the commit.
        model: The versions of the files, and those in the commit, of a model of several files; None for a checkpoint.
    """

    commit: str
    record: Record
    plan: Plan
    committed: Manifest
    model: RecordedModel | None = None


@dataclass(frozen=True)
class Replayed:
    """The result of repeating a merge.

    Attributes:
        path: The checkpoint.
        computed: Number of parameters that were computed.
        differing: Parameters whose values differ from the committed ones; ``None`` means the file's layout.
        inexact: The methods used that do not guarantee the same bits on every machine.
    """

    path: str
    computed: int
    differing: tuple[str | None, ...]
    inexact: tuple[str, ...]
