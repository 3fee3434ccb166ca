"""What formats have in common whose bytes besides the tensors cannot be written anew, such as a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import Layout, TensorSpec


class FixedRest:
    """Takes these bytes whole.

    Attributes:
        rest: What they are, for messages.
    """

    rest = "graph"

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the rest would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return all bytes besides the tensors."""
        return {self.rest: b"".join(part.data for part in layout.segments if isinstance(part, Literal))}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout if it has these facts, else None."""
        return layout if facts == self.facts(layout) else None
