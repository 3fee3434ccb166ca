"""Parameters that have a meaning only together, such as the parts of a quantised weight."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Unit:
    """Parameters that have a meaning only together.

    Attributes:
        name: What they are together, such as the module ``layers.0.mlp.up_proj``.
        kind: What that is, such as ``quantised weight``.
        detail: How it is represented, such as ``gptq, 4 bits``; of all versions if they differ; may be empty.
        members: The names of the parameters, sorted.
    """

    name: str
    kind: str
    detail: str
    members: tuple[str, ...]

    @property
    def label(self) -> str:
        """The name with the representation, for people."""
        return f"{self.name} ({self.detail or self.kind})"


def common_name(names: Sequence[str]) -> str:
    """Return what names begin with in common; the first name if that is nothing."""
    alike = takewhile(lambda characters: len(set(characters)) == 1, zip(*names, strict=False))
    prefix = "".join(characters[0] for characters in alike)
    return prefix.rstrip("._:") or names[0]
