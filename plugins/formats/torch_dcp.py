"""Files of torch.distributed.checkpoint: `.distcp`, a row of zip files, one a tensor.

See https://docs.pytorch.org/docs/stable/distributed.checkpoint.html. The names of the tensors are in another file,
`.metadata`. Here they are named by their position, which another run may change, so versions are not mixed in a merge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Literal, moved

from . import _zip
from ._part import Part
from ._zip_rows import archives, is_row
from .torch_zip import FORMAT as TORCH_ZIP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, Field, Layout, TensorSpec


class TorchDcpFormat:
    """Finds the storages in each archive of a row."""

    name = "torch_dcp"
    mergeable = False

    def detect(self, data: Content) -> bool:
        """Return whether the file is a row of archives, and the first holds a ``data.pkl``."""
        return (_zip.first_name(data) or "").endswith("/data.pkl") and is_row(data)

    def parse(self, data: Content) -> list[Field]:
        """Find the storages and their checksums, named by the number of their archive, as in ``000012.tensor``.

        Raises:
            FormatError: An archive is damaged; the message says which.
            NotSplittable: Some bytes belong to no archive.
        """
        return list(_fields(data))

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the archives would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return all bytes outside the tensors."""
        return {"archives": b"".join(part.data for part in layout.segments if isinstance(part, Literal))}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the archives would have to be rewritten."""


FORMAT = TorchDcpFormat()


def _fields(data: Content) -> Iterator[Field]:
    for number, (start, end) in enumerate(archives(data)):
        part = Part(data, start, end)
        try:
            fields = TORCH_ZIP.parse(part)
        except FormatError as error:
            raise FormatError(f"archive {number} at byte {start}: {error.message}") from error
        for field in fields:
            if field.end > part.nbytes:
                raise FormatError(f"archive {number} at byte {start}: a parameter ends outside of it")
            yield moved(field, start, f"{number:06}.")
