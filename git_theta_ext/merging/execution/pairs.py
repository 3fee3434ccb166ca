"""Merge LoRAs that several sides changed, both factors together."""

from __future__ import annotations

import math
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MergeError, MissingError
from git_theta_ext.interfaces.arrays import array_namespace
from git_theta_ext.interfaces.merges import Pair
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.cuda import failure_of, give_back_memory
from git_theta_ext.merging.devices.device import CPU
from git_theta_ext.merging.devices.methods import merge_pairs_by
from git_theta_ext.merging.devices.numbers import number_bytes
from git_theta_ext.merging.devices.one_core import one_core
from git_theta_ext.merging.execution.held import held
from git_theta_ext.merging.execution.parallel import interleaved
from git_theta_ext.merging.execution.tasks import contracts_of, is_small_pair
from git_theta_ext.model.floats import is_wide, largest
from git_theta_ext.records import dataclass, field, replace
from git_theta_ext.registry import find_pair
from git_theta_ext.util.threads import ALONE, batches

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Array
    from git_theta_ext.merging.devices.device import Device, Lane
    from git_theta_ext.merging.execution.scheduler import DeviceScheduler
    from git_theta_ext.merging.planning.units import PairDecision
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.tensor_store import TensorStore

    Read = Callable[[Digest, TensorSpec], Buffer]
    """Returns the little-endian bytes of a value, which must not be changed."""

_NOTABLE = 1e-6
"""The share of the energy below which a loss is a rounding error."""


@dataclass(frozen=True)
class MergedPair:
    """The result of merging a LoRA.

    Attributes:
        pair: The LoRA, and how it was merged.
        values: Spec and bytes of each parameter; empty if it could not be merged.
        notes: Messages for the user.
        reason: Why it could not be merged.
        moved: What happened to a device, so that it was merged on the CPU; see ``failure_of``.
    """

    pair: PairDecision
    values: Mapping[str, tuple[TensorSpec, bytearray]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reason: str = ""
    moved: str = ""


def pair_bytes(sides: Sequence[Manifest], pair: PairDecision) -> int:
    """Return the bytes that merging a LoRA takes: its factors as numbers, twice, and what the method holds.

    Args:
        sides: The versions that are merged.
        pair: The LoRA.
    """
    specs = [parameter.spec for parameter in pair.inputs(sides)]
    width = number_bytes(spec.dtype for spec in specs)
    a, b = (pair.specs[name].shape for name in pair.names)
    ranks = sum(sides[number].parameters[pair.names[0]].spec.shape[0] for number in pair.changed_by)
    scratch = find_pair(pair.choice.method).contract.scratch((b[0], math.prod(a[1:]), ranks), len(pair.changed_by))
    return 2 * sum(spec.elements for spec in specs) * width + math.ceil(scratch * width)


def together_bytes(sides: Sequence[Manifest], pairs: Sequence[PairDecision]) -> int:
    """Return the most bytes of stored factors that are in memory because LoRAs are read together."""
    return min(ALONE, sum(_stored_bytes(sides, pair) for pair in pairs))


def _stored_bytes(sides: Sequence[Manifest], pair: PairDecision) -> int:
    return sum(parameter.spec.nbytes for parameter in pair.inputs(sides))


def merged_pairs(
    store: TensorStore, scheduler: DeviceScheduler, pairs: Sequence[PairDecision], sides: Sequence[Manifest]
) -> Iterator[MergedPair]:
    """Merge LoRAs on all devices; see ``merge_pairs``.

    Args:
        store: Holds the values.
        scheduler: Divides the LoRAs among devices.
        pairs: The LoRAs, and how to merge them.
        sides: The versions that are merged.
    """
    # Each by its own size, so that the values do not depend on how a model is divided into files.
    for (small, _), group in groupby(pairs, lambda pair: (is_small_pair(pair), pair.choice.method)):
        some = tuple(group)
        with one_core(small=small):
            shared = scheduler.work(some, lambda p: sum(spec.nbytes for spec in p.specs.values()), contracts_of(some))
            yield from interleaved([partial(merge_pairs, store, *share, sides) for share in shared])


def merge_pairs(
    store: TensorStore, device: Device, pairs: Sequence[PairDecision], sides: Sequence[Manifest]
) -> Generator[MergedPair, None, None]:
    """Merge LoRAs.

    If the checkpoint has a tensor with alpha, the merged alpha is the rank, so that the scale is 1. If it has none, the
    scales of the sides come from their configurations.

    Args:
        store: Holds the values.
        device: Where to compute; what it has too little memory for, or fails at, is merged on the CPU.
        pairs: The LoRAs, and how to merge them.
        sides: The versions that are merged.
    """
    for some in batches(pairs, lambda pair: _stored_bytes(sides, pair), ALONE):
        read = held(store, [parameter for pair in some for parameter in pair.inputs(sides)]).read
        for pair in some:
            moved = ""
            try:
                merged = _reported(read, device, pair, sides)
            except RuntimeError as error:
                moved = "" if device.name == CPU else failure_of(device.name, error)
                if not moved:
                    raise
            if moved:  # the error is released by now, and with it the tensors that it referenced
                give_back_memory()
                merged = replace(_reported(read, Cpu(), pair, sides), moved=moved)
            yield merged


def _reported(read: Read, device: Device, pair: PairDecision, sides: Sequence[Manifest]) -> MergedPair:
    try:
        with device.lane() as lane:
            return _merged(read, lane, pair, sides)
    except (MergeError, MissingError, CorruptError) as error:
        return MergedPair(pair, reason=error.message)


def _merged(read: Read, lane: Lane, decision: PairDecision, sides: Sequence[Manifest]) -> MergedPair:
    wide = any(is_wide(spec.dtype) for spec in decision.specs.values())

    scales = dict(zip(decision.changed_by, decision.scales, strict=False))

    def values(number: int, name: str) -> Array:
        parameter = sides[number].parameters[name]
        loaded = lane.load(read(parameter.digest, parameter.spec), parameter.spec.dtype, wide=wide)
        if not bool(array_namespace(loaded).isfinite(loaded).all()):
            raise MergeError(f"{name} has NaN or infinite values")
        return loaded.reshape(parameter.spec.shape)

    def factors(number: int) -> tuple[Array, Array]:
        """Return the factors as matrices; those of a convolution have more dimensions."""
        a, b = (values(number, name) for name in decision.names)
        return _as_matrix(a), _as_matrix(b)

    def pair(number: int) -> Pair:
        a, b = factors(number)
        if decision.alpha is None:
            return Pair(a, b, scales.get(number, 1.0))
        return Pair(a, b, float(values(number, decision.alpha).reshape(-1)[0]) / a.shape[0])

    choice_weights = decision.choice.weights
    weights = [choice_weights[number] if choice_weights else 1.0 for number in decision.changed_by]
    method = find_pair(decision.choice.method)
    pairs = [pair(number) for number in decision.changed_by]
    merged, lost = merge_pairs_by(method, pairs, weights, decision.choice.options)
    tensors = dict(zip(decision.names, _padded(merged, decision), strict=True))
    specs = dict(decision.specs)
    notes = []
    if decision.alpha is not None:
        alpha = sides[decision.changed_by[0]].parameters[decision.alpha].spec
        tensors[decision.alpha] = _full((alpha.elements,), float(merged.a.shape[0]), merged.a)
        specs[decision.alpha] = alpha
    if lost > _NOTABLE:
        notes.append(f"{decision.names[0]!r}: {method.name} to rank {merged.a.shape[0]} lost {lost:.2%} of the energy")
    values_of = {name: (specs[name], _bytes(lane, name, tensors[name], specs[name])) for name in tensors}
    return MergedPair(decision, values_of, tuple(notes))


def _padded(merged: Pair, decision: PairDecision) -> tuple[Array, Array]:
    """Return the factors padded to the rank of the configuration, which may exceed that of the update."""
    rank, shown = merged.a.shape[0], decision.specs[decision.names[0]].shape[0]
    if shown <= rank:
        return merged.a, merged.b
    a = _full((shown, merged.a.shape[1]), 0.0, merged.a)
    b = _full((merged.b.shape[0], shown), 0.0, merged.b)
    a[:rank] = merged.a
    b[:, :rank] = merged.b
    return a, b


def _full(shape: tuple[int, ...], value: float, like: Array) -> Array:
    import numpy as np

    if isinstance(like, np.ndarray):
        return np.full(shape, value, like.dtype)
    import torch

    return torch.full(shape, value, dtype=like.dtype, device=like.device)


def _as_matrix(values: Array) -> Array:
    return values.reshape(values.shape[0], -1)


def _bytes(lane: Lane, name: str, values: Array, spec: TensorSpec) -> bytearray:
    if math.prod(values.shape) != spec.elements:
        raise MergeError(f"{name}: the method returned {list(values.shape)}, not {list(spec.shape)}")
    if not float(abs(values).max()) <= largest(spec.dtype):
        raise MergeError(f"{name}: the result does not fit {spec.dtype.name}")
    data = bytearray(spec.nbytes)
    lane.save(values, spec.dtype, data)
    return data
