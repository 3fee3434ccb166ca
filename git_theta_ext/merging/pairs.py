"""Merge the factors of a LoRA that several sides changed, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Pair
from git_theta_ext.model.numbers import is_wide, largest
from git_theta_ext.registry import find_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from git_theta_ext.merging.device import Device
    from git_theta_ext.merging.units import PairDecision
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.blobs import Store
    from git_theta_ext.store.memory import Memory

_NOTABLE = 1e-6
"""Share of the energy below which a loss is rounding."""


def merge_pair(
    store: Store | Memory, device: Device, decision: PairDecision, sides: Sequence[Manifest]
) -> tuple[dict[str, tuple[TensorSpec, memoryview]], list[str]]:
    """Merge one LoRA.

    Where the checkpoint has a tensor with alpha it becomes the rank, so that the scale is one; where it has none, all
    sides have the scale that their configuration says, and the result has it too.

    Args:
        store: Holds the values.
        device: Where to compute.
        decision: Which LoRA, and how.
        sides: The versions that are merged.

    Returns:
        Spec and bytes of the parameters, and what the user should know.

    Raises:
        MergeError: A value is not finite, or the result does not fit.
        MissingError: Values are not in the store.
        CorruptError: Values in the store are damaged.
    """
    import torch

    wide = any(is_wide(spec.dtype) for spec in decision.specs.values())

    def values(number: int, name: str) -> torch.Tensor:
        parameter = sides[number].parameters[name]
        found = device.load(store.read(parameter.digest, parameter.spec), parameter.spec.dtype, wide=wide)
        if not bool(found.isfinite().all()):
            raise MergeError(f"{name} has NaN or infinite values")
        return found.reshape(parameter.spec.shape)

    def pair(number: int) -> Pair:
        a, b = (values(number, name) for name in decision.names)
        if decision.alpha is None:
            return Pair(a, b, 1.0)
        return Pair(a, b, float(values(number, decision.alpha).reshape(-1)[0]) / a.shape[0])

    given = decision.choice.weights
    weights = [given[number] if given else 1.0 for number in decision.changers]
    method = find_pair(decision.choice.method)
    merged, lost = method([pair(number) for number in decision.changers], weights, decision.choice.options)
    found = dict(zip(decision.names, (merged.a, merged.b), strict=True))
    specs = dict(decision.specs)
    notes = []
    if decision.alpha is not None:
        alpha = sides[decision.changers[0]].parameters[decision.alpha].spec
        found[decision.alpha] = torch.full((alpha.elements,), float(merged.a.shape[0]))
        specs[decision.alpha] = alpha
    if lost > _NOTABLE:
        notes.append(f"{decision.names[0]!r}: {method.name} to rank {merged.a.shape[0]} lost {lost:.2%} of the energy")
    return {name: (specs[name], _bytes(device, name, found[name], specs[name])) for name in found}, notes


def _bytes(device: Device, name: str, values: torch.Tensor, spec: TensorSpec) -> memoryview:
    if values.numel() != spec.elements:
        raise MergeError(f"{name}: the method returned {list(values.shape)}, not {list(spec.shape)}")
    if not bool(values.isfinite().all()) or float(values.abs().max()) > largest(spec.dtype):
        raise MergeError(f"{name}: the result does not fit {spec.dtype.name}")
    return memoryview(bytes(device.save(values, spec.dtype)()))
