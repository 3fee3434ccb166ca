"""Files that say where the parameters of a model of several files are: the interface of their contents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from git_theta_ext.interfaces.formats import Format

if TYPE_CHECKING:
    from git_theta_ext.model.model_index import ModelIndex


@runtime_checkable
class IndexedFormat(Format, Protocol):
    """A format whose files do not have the names of their tensors; another file of the directory has them."""

    def read_index(self, data: bytes) -> ModelIndex:
        """Read the file with the names. It is a pure function of ``data``, with the limits of ``Format.parse``.

        Raises:
            FormatError: The file is damaged.
        """
        ...
