"""Merge models in Python: ``git_theta_ext.merge``."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from git_theta_ext.api.frameworks import value_bytes
from git_theta_ext.api.models import read_model
from git_theta_ext.api.versions import LOG, explained, folder_of, version_of
from git_theta_ext.checkpoint.resharded import store_whole
from git_theta_ext.errors import MergeError, RepositoryError, UsageError
from git_theta_ext.git.merge_tree import common_ancestor
from git_theta_ext.git.revisions import merge_bases
from git_theta_ext.merging.devices.open import open_devices
from git_theta_ext.merging.devices.state_dicts import to_tensor
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.execution.tasks import digests_of, tasks_of
from git_theta_ext.merging.planning.casts import find_casts, values_to_read
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.file import is_every_side, read_rules
from git_theta_ext.merging.rules.rules import CHANGED_SIDES, DEFAULT_METHOD, Rules, choice
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.registry import find_format
from git_theta_ext.statistics.sidecar import is_statistics, sidecar_of
from git_theta_ext.store.memory import MemoryStore
from git_theta_ext.util.libraries import require
from git_theta_ext.util.reporter import LogReporter
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from git_theta_ext.api.versions import Place
    from git_theta_ext.merging.execution.tasks import Statistics
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.tensor_store import TensorStore

    StateDict = Mapping[str, torch.Tensor | NDArray[Any]]
    Model = StateDict | str

# State dicts have no file, so no layout. All sides have this one.
_NO_LAYOUT = Skeleton.of(b"")
_FORMAT = "safetensors"


@explained()
def merge(  # noqa: PLR0913 - named, and all but the first have defaults
    models: Sequence[Model],
    method: str | None = None,
    *,
    base: Model | None = None,
    weights: Sequence[float | Sequence[float]] = (),
    sides: str = CHANGED_SIDES,
    rules: str | None = None,
    statistics: Sequence[StateDict] = (),
    device: str = "auto",
    repository: Place = ".",
    **options: float | str | Sequence[float],
) -> dict[str, torch.Tensor]:
    """Merge models by parameter, with the methods, rules and bits of ``git merge``.

    A change by one model since ``base`` is taken. Changes by several models go through the method. A conflict in
    ``git merge``, such as a parameter that several models added, is an error here. Without a base, every parameter that
    differs counts as changed by every model.

    Args:
        models: State dicts, of tensors of torch or arrays of numpy, or versions as in ``load``. The first one is ours.
        method: Name of a merge method. The default is ``average``; see docs/merging.md.
        base: The common ancestor. If all models are versions, the default is the ancestor that git would use,
            unless they are different models in it, such as two adapters of one directory.
        weights: One for each model, for methods that take weights.
        sides: ``all`` if models that did not change a parameter take part in its merge, as papers define methods.
        rules: Content of a ``.thetamerge`` file, instead of a method.
        statistics: Statistics of each model, as ``git_theta_ext.statistics.collect.collect`` returns them. For
            versions the default are those beside the checkpoint.
        device: ``auto``, ``cpu``, ``cuda`` (all CUDA devices) or ``cuda:N``; see docs/merging.md.
        repository: A directory in the repository of the versions, or a ``git.Repo`` of GitPython.
        **options: Options of the method. A list has the values from the first layer to the last one. A name that Python
            reserves gets an underscore, as in ``lambda_=0.5``.

    Returns:
        New tensors by name, on the CPU, in the element types of the first model.

    Raises:
        MergeError: Parameters are in conflict, or the method does not take these inputs or options.
        LibraryError: torch is not installed.
        ThetaError: A version cannot be read, or the method or device does not exist.
    """
    if not models:
        raise UsageError("no model to merge", hint="git_theta_ext.merge([one, other])")
    require("torch", "git_theta_ext.merge")
    merge_rules = _rules(method, options, weights, sides, rules)
    folder = folder_of(repository)
    names = [model for model in models if isinstance(model, str)]
    if len(names) == len(models) and not statistics and (base is None or isinstance(base, str)):
        with Workspace.discover(LogReporter(LOG), folder) as workspace:
            return _merged(_versions(workspace, folder, names, base), merge_rules, device)
    dicts = [_loaded(model, repository) for model in models]
    return _merged(
        _state_dicts(dicts, None if base is None else _loaded(base, repository), statistics), merge_rules, device
    )


@dataclass(frozen=True)
class _Models:
    """What is merged, and where its values are; the workspace is None if they are all in memory."""

    base: Manifest | None
    sides: tuple[Manifest, ...]
    source: TensorStore
    workspace: Workspace | None = None
    statistics: Statistics = field(default_factory=dict)


def _merged(models: _Models, rules: Rules, device: str) -> dict[str, torch.Tensor]:
    planned = _planned(models, rules)
    _refuse({decision.name: decision.state for decision in planned.decisions if decision.action == "conflict"})
    if models.workspace is not None:
        statistics = digests_of(tasks_of(planned.decisions, models.statistics))
        ensure_digests(models.workspace, {*planned.reads(), *statistics, *_taken(planned)} - {_NO_LAYOUT.digest})
    return _computed(models, planned, device)


def _planned(models: _Models, rules: Rules) -> Plan:
    """Plan as merges in git do, but without a base also merge parameters that several models have."""
    if models.workspace is not None:
        ensure_digests(models.workspace, set(values_to_read(models.base, models.sides)))
    baseless = models.base is None or all(is_statistics(side.parameters) for side in models.sides)
    casts = find_casts(models.source, models.base, models.sides)
    return plan(models.base, models.sides, rules, baseless=baseless, casts=casts, mixed=True)


def _rules(
    method: str | None,
    options: Mapping[str, float | str | Sequence[float]],
    weights: Sequence[float | Sequence[float]],
    sides: str,
    text: str | None,
) -> Rules:
    every_side = is_every_side(sides, "merge()")
    if text is None:
        values = {name.removesuffix("_"): value for name, value in options.items()}
        chosen = choice(method or DEFAULT_METHOD, values, weights, origin="merge()")
        return Rules(replace(chosen, every_side=every_side))
    if method is not None or options or weights or every_side:
        raise UsageError("rules cannot be combined with a method or options", hint="write the method into rules")
    return read_rules(text.encode())


def _loaded(model: Model, repository: Place) -> StateDict:
    if isinstance(model, str):
        return read_model(model, repository)
    if not isinstance(model, AbstractMapping):
        raise UsageError(f"a model is a state dict or REV:PATH, not {type(model).__name__}", hint="model.state_dict()")
    return model


def _state_dicts(models: Sequence[StateDict], base: StateDict | None, statistics: Sequence[StateDict]) -> _Models:
    if statistics and len(statistics) != len(models):
        raise UsageError(
            f"{len(statistics)} statistics for {len(models)} models", hint="pass one for each model, in the same order"
        )
    memory = MemoryStore()

    def parameters(tensors: StateDict) -> dict[str, Parameter]:
        return {name: memory.add(*value_bytes(name, tensor)) for name, tensor in tensors.items()}

    before, *sides = [
        Manifest(_FORMAT, _NO_LAYOUT, parameters(model)) for model in ({} if base is None else base, *models)
    ]
    beside = {number: parameters(tensors) for number, tensors in enumerate(statistics)}
    return _Models(None if base is None else before, tuple(sides), memory, statistics=beside)


def _versions(workspace: Workspace, folder: Path, names: Sequence[str], base: str | None) -> _Models:
    sides = tuple(_manifest(workspace, name, folder) for name in names)
    before = _ancestor(workspace, folder, names) if base is None else _manifest(workspace, base, folder)
    beside = {number: _there(workspace, _sidecar(name), folder) for number, name in enumerate(names)}
    statistics = {number: manifest.parameters for number, manifest in beside.items() if manifest is not None}
    return _Models(before, sides, workspace.store, workspace, statistics)


def _ancestor(workspace: Workspace, folder: Path, names: Sequence[str]) -> Manifest | None:
    """Return the common ancestor of all versions; None if there is none, or they are different models in it."""
    versions = [(rev or "HEAD", path) for rev, _, path in (name.partition(":") for name in names)]
    commit = common_ancestor(workspace.repo, merge_bases(workspace.repo, [rev for rev, _ in versions]))
    if commit is None:
        return None
    there = {path: _there(workspace, f"{commit}:{path}", folder) for _, path in versions}
    known = [(path, manifest) for path, manifest in there.items() if manifest is not None]
    if len(known) != 1:
        return None
    before, manifest = known[0]
    # A side with another path has renamed the model, unless it has both.
    others = [rev for rev, path in versions if path != before]
    return None if any(_there(workspace, f"{rev}:{before}", folder) for rev in others) else manifest


def _sidecar(name: str) -> str:
    rev, _, path = name.partition(":")
    return f"{rev}:{sidecar_of(path)}"


def _there(workspace: Workspace, name: str, folder: Path) -> Manifest | None:
    try:
        return _manifest(workspace, name, folder)
    except (RepositoryError, UsageError):
        return None


def _manifest(workspace: Workspace, name: str, folder: Path) -> Manifest:
    version = version_of(workspace.repo, name, folder)
    manifest = version.as_one()
    if version.joined:
        ensure_digests(workspace, {digest for tensor in version.joined.values() for digest in tensor.digests})
        manifest = replace(manifest, parameters=store_whole(workspace.store, version))
    if version.files is None and not find_format(manifest.format).mergeable:
        raise MergeError(f"{name} is in the format {manifest.format}, which is not merged by parameter")
    return replace(manifest, format=_FORMAT, skeleton=_NO_LAYOUT)


def _taken(planned: Plan) -> set[Digest]:
    values = (decision.value for decision in planned.decisions if decision.action == "take")
    return {value.digest for value in values if value is not None}


def _computed(models: _Models, planned: Plan, device: str) -> dict[str, torch.Tensor]:
    results = MemoryStore()
    values = {decision.name: decision.value for decision in planned.decisions}
    if any(decision.computed for decision in planned.decisions):
        engine = Engine(models.source, partial(open_devices, device), statistics=models.statistics, results=results)
        result = engine.compute(planned)
        _refuse(result.failed)
        values.update(result.values)
        for note in result.notes:
            LOG.warning(note)
    return {name: _tensor(results, models.source, value) for name, value in values.items() if value is not None}


def _tensor(results: MemoryStore, source: TensorStore, value: Parameter) -> torch.Tensor:
    """Return a tensor with memory of its own, also if another parameter has the same values."""
    held: TensorStore = source if results.touch_and_find_missing({value.digest}) else results
    data = held.read(value.digest, value.spec)
    return to_tensor(value.spec, data if isinstance(data, bytearray) else bytearray(data))


def _refuse(conflicts: Mapping[str, str]) -> None:
    if conflicts:
        named = [f"{name!r} ({reason})" for name, reason in conflicts.items()]
        raise MergeError(
            f"in conflict: {shortlist(named, 3)}",
            hint="use another method, or rules that take a side for these parameters",
        )
