"""Parameters that have a meaning only together, such as the parts of a quantised weight."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

QUANTISED = "quantised weight"
LORA = "LoRA"
"""Kinds of units."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Parameters that have a meaning only together.

    Attributes:
        name: What they are together, such as the module ``layers.0.mlp.up_proj``.
        kind: What that is, such as ``quantised weight``.
        details: How the versions represent it, such as ``gptq, 4 bits``; each only once.
        members: The names of the parameters, sorted.
    """

    name: str
    kind: str
    details: tuple[str, ...]
    members: tuple[str, ...]

    @property
    def detail(self) -> str:
        """How all versions represent it, for people; may be empty."""
        return " or ".join(self.details)

    @property
    def label(self) -> str:
        """The name with the representation, for people."""
        return f"{self.name} ({self.detail or self.kind})"

    def to_dict(self) -> dict[str, object]:
        """Describe it in types that ``json.dumps`` accepts."""
        return {"name": self.name, "kind": self.kind, "detail": self.detail, "parameters": list(self.members)}


def one_row(units: Iterable[Unit], kinds: Container[str] = (QUANTISED,)) -> dict[str, Unit]:
    """Return the unit of each parameter that is shown in one row with the others of its unit.

    Args:
        units: Units.
        kinds: The kinds of units that are shown in one row.
    """
    return {name: unit for unit in units if unit.kind in kinds and len(unit.members) > 1 for name in unit.members}


def common_name(names: Sequence[str]) -> str:
    """Return what names begin with in common; the first name if that is nothing."""
    alike = takewhile(lambda characters: len(set(characters)) == 1, zip(*names, strict=False))
    prefix = "".join(characters[0] for characters in alike)
    return prefix.rstrip("._:") or names[0]
