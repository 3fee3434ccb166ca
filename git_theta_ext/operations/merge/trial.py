"""Make merges on trial: neither the index, the work tree, a ref nor the repository's store changes.

Several methods or options can be tried on the same branches before one of them is merged::

    with merge_trials(workspace, ["alice", "bob"]) as trials:
        plans = [trials.plan(words) for words in (["method=ties", "density=0.1"], ["method=average"])]
        for plan in plans:  # every mistake in the words was reported before the first merge is made
            trial = trials.make(plan)
            trial.export(folder)  # writes the merged checkpoints below a directory, for a program that evaluates them

The words are those of ``git merge -s theta -X``; the rules of the repository, its settings and the environment apply as
they do to that command, and its result has the same bits. Tensors that are merged on trial are in a store of their
own, which reads what it lacks from the repository's, and is removed at the end of the block. Tensors that several
trials have in common are stored once. A process makes one trial at a time; several processes can try different things
at the same time.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import in_chunks_again
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.errors import MergeError, ThetaError
from git_theta_ext.merging.devices.methods import import_libraries
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.operations.merge.branches import merge_of_branches
from git_theta_ext.operations.merge.model_merge import merge_model
from git_theta_ext.operations.merge.run import merge
from git_theta_ext.operations.merge.strategy import planned
from git_theta_ext.operations.merge.strategy_models import planned_model
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.registry import find_merge
from git_theta_ext.util.files import replace_content, reporting_os_errors
from git_theta_ext.util.folders import temporary_folder
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from git_theta_ext.merging.outcome import Outcome
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.operations.merge.branches import BranchMerge
    from git_theta_ext.operations.merge.candidates import CheckpointVersions
    from git_theta_ext.operations.merge.strategy_models import PlannedModel
    from git_theta_ext.util.reporter import Progress, Reporter


@dataclass(frozen=True)
class TrialPlan:
    """What a trial does to each checkpoint.

    Attributes:
        words: Merge method and options, as ``git merge -s theta -X`` takes them.
        checkpoints: The versions and the plan of each checkpoint.
        models: The models of several files.
    """

    words: tuple[str, ...]
    checkpoints: tuple[tuple[CheckpointVersions, Plan], ...]
    models: tuple[PlannedModel, ...]

    @property
    def plans(self) -> dict[str, Plan]:
        """The plan of each checkpoint and model, by path."""
        plans = {versions.merged.path: plan for versions, plan in self.checkpoints}
        return plans | {model.candidate.directories.name: model.plan for model in self.models}

    def only(self, name: str) -> TrialPlan:
        """Return the part of the plan for one checkpoint or model."""
        checkpoints = tuple(pair for pair in self.checkpoints if pair[0].merged.path == name)
        models = tuple(model for model in self.models if model.candidate.directories.name == name)
        return TrialPlan(self.words, checkpoints, models)


@dataclass(frozen=True)
class TriedModel:
    """A checkpoint, or a model of several files, that was merged on trial.

    Attributes:
        plan: The plan.
        outcome: The result; its manifest has all parameters.
        files: Path to the content of each of its files, as git would store them: manifests, and texts such as indexes.
    """

    plan: Plan
    outcome: Outcome
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Trial:
    """A merge on trial.

    Attributes:
        words: Merge method and options.
        models: The merged checkpoints and models that several branches changed, by path.
        seconds: How long it took to merge them, without what the first of several trials imports.
        warnings: What was reported meanwhile, such as values that no remote has.
        workspace: Reads their tensors; closed at the end of the block that makes trials.
    """

    words: tuple[str, ...]
    models: Mapping[str, TriedModel]
    seconds: float
    warnings: tuple[str, ...]
    workspace: Workspace

    @property
    def conflicts(self) -> int:
        """Number of conflicts."""
        return sum(model.outcome.conflicts for model in self.models.values())

    def export(self, target: Path) -> dict[str, Path]:
        """Write the files of the merged models below a directory, which is made if it does not exist.

        Returns:
            The path of each file, by its path in the repository.

        Raises:
            MergeError: There are conflicts.
            ThetaError: A file cannot be written, or a tensor is neither here nor on a remote.
        """
        if self.conflicts:
            raise MergeError(
                f"the merge with {' '.join(self.words) or 'the current rules'} has conflicts",
                hint="git theta merge --plan BRANCH ... shows them",
            )
        contents = {path: content for model in self.models.values() for path, content in model.files.items()}
        manifests = {path: Manifest.parse(content) for path, content in contents.items() if is_manifest(content)}
        ensure_digests(self.workspace, (digest for one in manifests.values() for digest, _ in one.digests()))
        places = {path: target / path for path in contents}
        for path, place in places.items():
            with reporting_os_errors(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                if path not in manifests:
                    replace_content(place, contents[path])
            if path in manifests:
                populate(manifests[path], self.workspace.store, place, Expected.at(place))
        return places


@dataclass(frozen=True)
class Warnings:
    """Collects warnings; the notes of a trial are in its outcomes.

    Attributes:
        reporter: Shows progress.
    """

    reporter: Reporter
    _lines: list[str] = field(default_factory=list)

    def take(self) -> tuple[str, ...]:
        """Return the warnings since the last call."""
        lines = tuple(self._lines)
        self._lines.clear()
        return lines

    def note(self, message: str) -> None:
        """Ignore a note."""

    def warning(self, message: str, hint: str | None = None) -> None:
        """Collect a warning."""
        self._lines.append(f"{message}; {hint}" if hint else message)

    def error(self, error: ThetaError) -> None:
        """Collect an error."""
        self.warning(error.message, error.hint)

    def progress(self, label: str, total: int = 0, *, counted: bool = False) -> AbstractContextManager[Progress]:
        """Show the progress."""
        return self.reporter.progress(label, total, counted=counted)


@dataclass(frozen=True)
class MergeTrials:
    """Merges of the same branches, on trial.

    Attributes:
        merge: What is merged.
        workspace: The repository, with the store of the trials.
        repository: The repository, with its own store, which gets what is fetched.
        warnings: What was reported since the last trial.
    """

    merge: BranchMerge
    workspace: Workspace
    repository: Workspace
    warnings: Warnings

    def plan(self, words: Sequence[str]) -> TrialPlan:
        """Plan a merge with a method and options.

        Args:
            words: As ``git merge -s theta -X`` takes them, such as ``method=ties`` and ``density=0.1``.

        Raises:
            MergeError: The words or the rules are not valid.
            PluginError: A method is not installed.
        """
        plans = planned(self.workspace, self.merge.checkpoints, words)
        models = tuple(planned_model(self.workspace, model, words) for model in self.merge.models)
        return TrialPlan(tuple(words), tuple((c, plans[c.merged.path][1]) for c in self.merge.checkpoints), models)

    def make(self, plan: TrialPlan) -> Trial:
        """Merge by a plan.

        Raises:
            ThetaError: The merge is not possible; the message says why.
        """
        with suppress(ThetaError):  # a missing value ends as a conflict that says so
            ensure_digests(self.repository, {digest for one in plan.plans.values() for digest in one.reads()})
        _import_libraries(plan)
        start, workspace = time.perf_counter(), self.workspace
        models = {versions.merged.path: _checkpoint(workspace, versions, one) for versions, one in plan.checkpoints}
        models |= {model.candidate.directories.name: _model(workspace, model) for model in plan.models}
        return Trial(plan.words, models, time.perf_counter() - start, self.warnings.take(), workspace)


@contextmanager
def merge_trials(workspace: Workspace, revisions: Sequence[str], places: Sequence[str] = ()) -> Iterator[MergeTrials]:
    """Give an object that merges branches into the current one, on trial.

    Args:
        workspace: The repository and its store.
        revisions: The branches.
        places: Files and directories, relative to the top; only models with a file among these are merged. All are, if
            there are none.

    Raises:
        RepositoryError: There is no such commit.
        StoreError: The directory of the trials cannot be made.
        ThetaError: The merge is not possible; the message says why.
    """
    with trials_of(workspace, merge_of_branches(workspace.repo, revisions, places)) as trials:
        yield trials


@contextmanager
def trials_of(workspace: Workspace, merged: BranchMerge) -> Iterator[MergeTrials]:
    """Give an object that makes a merge on trial; see ``merge_trials``.

    Args:
        workspace: The repository and its store.
        merged: What is merged.

    Raises:
        StoreError: The directory of the trials cannot be made.
    """
    parent = workspace.repo.theta_dir / "tmp"
    with reporting_os_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
    warnings = Warnings(workspace.reporter)
    with temporary_folder(parent) as folder, Workspace(workspace.repo, warnings, folder) as apart:
        yield MergeTrials(merged, apart, workspace, warnings)


def _import_libraries(plan: TrialPlan) -> None:
    """Import what the methods of a plan compute with."""
    decisions = [decision for one in plan.plans.values() for decision in one.decisions]
    methods = {decision.choice.method for decision in decisions if decision.action == "compute"}
    import_libraries([find_merge(name).contract for name in methods])


def _checkpoint(workspace: Workspace, versions: CheckpointVersions, plan: Plan) -> TriedModel:
    path = versions.merged.path
    outcome = merge(workspace, plan, path, versions.heads, label=f"merging {shown_path(path)}")
    outcome = replace(outcome, manifest=in_chunks_again(outcome.manifest, workspace.store, path))
    return TriedModel(plan, outcome, {path: outcome.manifest.to_bytes()})


def _model(workspace: Workspace, model: PlannedModel) -> TriedModel:
    directories, name = model.candidate.directories, model.candidate.directories.name
    heads = directories.trees.sides
    outcome = merge_model(workspace, model.candidate.versions, model.plan, heads, label=f"merging {shown_path(name)}")
    return TriedModel(model.plan, outcome, outcome.contents())
