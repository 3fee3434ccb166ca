"""The configurations of an adapter in a merge, and what the merged one has to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.merging.planning.lora_scales import Fit, Scaling
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from git_theta_ext.merging.planning.adapter_config import MergedConfig
    from git_theta_ext.merging.planning.lora_scales import Scalings


@dataclass(frozen=True)
class AdapterScalings:
    """The configurations of an adapter in a merge.

    Attributes:
        before: The common ancestor's; None if it has none or it is unknown.
        sides: The configuration of each side; empty if they are unknown.
        merged: The merged configuration; None if it is unknown.
        where: Where they are, for people.
        reason: Why ``merged`` or ``sides`` are unknown.
        written: The merged configuration if this merge writes it, and may fit it to the factors.
        of_any_base: Whether adapters of different base models are merged.
    """

    before: Scalings | None
    sides: tuple[Scalings, ...]
    merged: Scalings | None
    where: str
    reason: str = ""
    written: MergedConfig | None = None
    of_any_base: bool = False

    def target(self, module: str) -> Scaling | None:
        """Return the merged scaling of a module's LoRA, before it is fitted to the factors."""
        if self.merged is None and self.written is not None:
            return Scaling.of(self.written.content)
        return None if self.merged is None else self.merged.of(module)


@dataclass(frozen=True)
class MergedAdapter:
    """What the configuration of a merged adapter has to say.

    Attributes:
        config: The configuration, merged by key.
        fits: Module to rank and scale of its merged LoRA.
        ours: Module to rank and scale of our LoRA, which a LoRA in conflict keeps.
        factors: First factor of each LoRA to its module.
    """

    config: MergedConfig
    fits: Mapping[str, Fit] = field(default_factory=dict)
    ours: Mapping[str, Fit] = field(default_factory=dict)
    factors: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self, conflicts: Collection[str] = ()) -> bytes:
        """Return the file.

        Args:
            conflicts: The parameters in conflict.
        """
        kept = {module for factor, module in self.factors.items() if factor in conflicts}
        fits = {module: self.ours.get(module, fit) if module in kept else fit for module, fit in self.fits.items()}
        return self.config.fitted(fits)


def three_way(before: Scalings | None, sides: Sequence[Scalings]) -> Scalings | None:
    """Merge configurations: return the one that a side changed, or None if several changed it differently."""
    changed = {side for side in sides if side != before}
    if len(changed) > 1:
        return None
    return changed.pop() if changed else sides[0]
