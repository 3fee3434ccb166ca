"""Files that say where tensors are in other files: the interface of their formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from git_theta_ext.interfaces.formats import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.model.external_tensor import ExternalTensor
    from git_theta_ext.model.layout import Layout


@runtime_checkable
class ExternalDataFormat(Format, Protocol):
    """A format whose files say where further tensors are, in files that do not say it themselves."""

    def external_tensors(self, layout: Layout) -> Sequence[ExternalTensor]:
        """Return these tensors. It is a pure function of ``layout``, with the limits of ``Format.parse``.

        The names differ from each other and from those of the parameters in the layout.

        Raises:
            FormatError: The layout is not one of this format.
        """
        ...
