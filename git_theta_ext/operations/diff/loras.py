"""Compare the updates of LoRAs, with the scales that alphas and the configurations of adapters give them."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

from git_theta_ext.comparison.lora_updates import Factors, are_factors, compare_updates
from git_theta_ext.errors import MergeError
from git_theta_ext.merging.planning.adapter_config import read_object
from git_theta_ext.merging.planning.adapters import other_adapters
from git_theta_ext.merging.planning.lora_scales import Fit, Scaling
from git_theta_ext.model.floats import is_real, to_float
from git_theta_ext.model.lora_names import alpha_of, lora_pairs, lora_unit, module_of
from git_theta_ext.model.units import LORA
from git_theta_ext.records import dataclass, replace
from git_theta_ext.util.blas import one_blas_thread
from git_theta_ext.util.threads import batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.comparison.compare import Diff
    from git_theta_ext.comparison.lora_updates import LoraChange
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.diff.measuring import Values
    from git_theta_ext.store.store import Store

_LORA = "LORA"
_TOGETHER = 1 << 24
"""Bytes of factors that are read at a time: beginning to read takes longer than reading a small factor."""


@dataclass(frozen=True)
class LoraSide:
    """One version of the LoRAs of a model.

    Attributes:
        parameters: All parameters of the model.
        store: Holds values.
        values: Holds values that the store may lack.
        config: The configuration of the adapter; None if there is none, or if it is unknown.
    """

    parameters: Mapping[str, Parameter]
    store: Store
    values: Values
    config: bytes | None = None

    @cached_property
    def scaling(self) -> Scaling | None:
        """Rank and scale of each LoRA according to the configuration; None if it is not that of a LoRA."""
        config = read_object(self.config or b"")
        return Scaling.of(config) if config.get("peft_type") == _LORA else None

    def has(self, first: str, second: str) -> bool:
        """Return whether this version has a factor of a LoRA."""
        return first in self.parameters or second in self.parameters

    def tensors(self, first: str, second: str) -> Iterator[Parameter]:
        """Yield what the update of a LoRA is computed from."""
        for name in (first, second, alpha_of(first, self.parameters)):
            if name is not None and name in self.parameters:
                yield self.parameters[name]

    def factors(self, first: str, second: str, stored: Mapping[Digest, bytes]) -> Factors | None:
        """Return the factors of a LoRA; None if they are not available, or if its update is not their product.

        Args:
            first: Name of the first factor.
            second: Name of the second factor.
            stored: The values of ``tensors`` that the store has.
        """
        a, b = self.parameters.get(first), self.parameters.get(second)
        if a is None or b is None or not are_factors(a.spec, b.spec):
            return None
        data = [self._bytes(name, parameter, stored) for name, parameter in ((first, a), (second, b))]
        if data[0] is None or data[1] is None:
            return None
        alpha, scale = self._scale(first, a.spec.shape[0], stored)
        return Factors(a.spec, b.spec, data[0], data[1], alpha, scale)

    def fit(self, first: str) -> Fit | None:
        """Return rank and scale of a LoRA that the configuration scales; None if they are unknown."""
        parameter = self.parameters.get(first)
        if self.scaling is None or parameter is None or alpha_of(first, self.parameters):
            return None
        try:
            self.scaling.check_plain()
            return self.scaling.fit(module_of(first), parameter.spec.shape[0])
        except (MergeError, IndexError):
            return None

    def _scale(self, first: str, rank: int, stored: Mapping[Digest, bytes]) -> tuple[float | None, float | None]:
        """Return alpha and scale of a LoRA."""
        name = alpha_of(first, self.parameters)
        if name is not None:
            parameter = self.parameters[name]
            data = self._bytes(name, parameter, stored) if is_real(parameter.spec.dtype) else None
            alpha = float(to_float(data, parameter.spec.dtype)[0]) if data else None
            return alpha, None if alpha is None else alpha / rank
        fit = self.fit(first)
        if fit is None or self.scaling is None:
            return None, None
        return self.scaling.alpha(module_of(first)), fit.scale

    def _bytes(self, name: str, parameter: Parameter, stored: Mapping[Digest, bytes]) -> bytes | None:
        if parameter.digest in stored:
            return stored[parameter.digest]
        chunks = self.values.values(name, parameter)
        return None if chunks is None else b"".join(chunks)


def with_lora_updates(diff: Diff, old: LoraSide, new: LoraSide) -> Diff:
    """Return a diff with the differences between the updates of LoRAs, and with LoRAs of which only the scale differs.

    Adapters of other kinds, of which factors are only a part, and LoRAs whose values are not available are left out.
    """
    rescaled = _with_rescaled(diff, old, new)
    return replace(rescaled, updates=_measured(rescaled, old, new))


def _with_rescaled(diff: Diff, old: LoraSide, new: LoraSide) -> Diff:
    if old.scaling is None or new.scaling is None or old.config == new.config:
        return diff
    shown = {name for unit in diff.units for name in unit.members}
    names = [name for name in new.parameters if name in old.parameters and name not in shown]
    rescaled = [
        lora_unit(first, second, names, (f"rank {new.parameters[first].spec.shape[0]}",))
        for first, second in lora_pairs(names)
        if old.fit(first) != new.fit(first)
    ]
    return replace(diff, units=(*diff.units, *rescaled))


def _measured(diff: Diff, old: LoraSide, new: LoraSide) -> dict[str, LoraChange]:
    units = {name: unit.members[0] for unit in diff.units if unit.kind == LORA for name in unit.members}
    if not units:
        return {}
    names = list(dict.fromkeys([*old.parameters, *new.parameters]))
    others = {name for _, members in other_adapters(names) for name in members}
    pairs = [pair for pair in lora_pairs(names) if pair[0] in units and pair[0] not in others]
    sides = (old, new)
    changes: dict[str, LoraChange | None] = {}
    # The matrices are small: more threads take more time.
    with one_blas_thread():
        for batch in batches(pairs, partial(_nbytes, sides), _TOGETHER):
            stored = _stored(sides, batch)
            changes |= {units[pair[0]]: _change(old, new, pair, stored) for pair in batch}
    return {name: change for name, change in changes.items() if change is not None}


def _nbytes(sides: Sequence[LoraSide], pair: tuple[str, str]) -> int:
    return sum(parameter.spec.nbytes for side in sides for parameter in side.tensors(*pair))


def _stored(sides: Sequence[LoraSide], pairs: Sequence[tuple[str, str]]) -> dict[Digest, bytes]:
    """Return the values of LoRAs that the store has."""
    store = sides[0].store
    specs = {one.digest: one.spec for pair in pairs for side in sides for one in side.tensors(*pair)}
    missing = store.touch_and_find_missing(specs)
    wanted = [(digest, spec) for digest, spec in specs.items() if digest not in missing]
    values = {digest: bytearray() for digest, _ in wanted}
    for piece in store.read_ahead(wanted):
        values[wanted[piece.group][0]] += piece.data
    return {digest: bytes(value) for digest, value in values.items()}


def _change(old: LoraSide, new: LoraSide, pair: tuple[str, str], stored: Mapping[Digest, bytes]) -> LoraChange | None:
    versions = [side.factors(*pair, stored) if side.has(*pair) else None for side in (old, new)]
    if any(version is None and side.has(*pair) for side, version in zip((old, new), versions, strict=True)):
        return None
    return compare_updates(*versions)
