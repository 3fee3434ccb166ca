"""How a file is taken apart: the seam for checkpoint formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.model.content import Content
    from git_theta_ext.model.layout import Field, Layout
    from git_theta_ext.model.tensor import TensorSpec


class NotSplittable(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by ``Format.parse``: the file is well formed, but its tensors cannot be found in place.

    The message says why, for a note to the user; the file is then stored by the ``opaque`` format.
    """


class Format(Protocol):
    """Finds the tensors in a checkpoint's bytes. Never re-serialises anything.

    Attributes:
        name: As in manifests and in ``theta-format=`` attributes.
        mergeable: Whether tensors of two versions may be mixed in one file.
    """

    name: str
    mergeable: bool

    def detect(self, data: Content) -> bool:
        """Tell from the content alone whether this looks like the format; cheap, and never raises."""
        ...

    def parse(self, data: Content) -> Sequence[Field]:
        """Find the tensors and what is derived from them, in any order.

        Pure: looks at nothing but ``data``, runs nothing that the file holds, and bounds every size first.

        Args:
            data: The whole file; take out of it what has to be looked at.

        Raises:
            FormatError: The bytes break the format; the message names the parameter where there is one.
            NotSplittable: Well formed, but compressed or of a legacy kind.
        """
        ...

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> Layout | None:
        """Lay out other parameters in the manner of ``layout``, for merges in which both sides added some.

        Returns:
            A layout with exactly these parameters, or None where the format cannot do that.
        """
        ...

    def facts(self, layout: Layout) -> Mapping[str, bytes]:
        """Return what the literal bytes say besides where tensors are, such as metadata, by key; for merges.

        What every writing of the same content changes is left out.

        Raises:
            FormatError: The layout is of no such file.
        """
        ...

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout with other facts, of those that ``facts`` returned for several layouts of the format.

        Returns:
            A layout with the same parameters, or None where the format cannot do that.
        """
        ...
