"""Files of torch.distributed.checkpoint: `.distcp`, a row of zip files, one a tensor.

See https://docs.pytorch.org/docs/stable/distributed.checkpoint.html. The names of the tensors are in another file,
`.metadata`. Here they are named by their position, which another run may change, so versions of a file are mixed in a
merge only if this index is there for both, and has the same places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Layout, Literal, Part, moved

from . import _zip
from ._literal_content import LiteralContent
from ._zip_rows import archives, is_row
from .torch_zip import FORMAT as TORCH_ZIP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, Field, Segment, TensorSpec

    from ._dcp_index import DcpIndex


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

    def read_index(self, data: bytes) -> DcpIndex:
        """Read the file ``.metadata``.

        Raises:
            FormatError: It is damaged.
        """
        from ._dcp_index import DcpIndex

        return DcpIndex(data)

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the archives would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the facts of each archive, after its number."""
        return {
            f"{number:06}/{key}": value
            for number, part in enumerate(_archive_layouts(layout))
            for key, value in TORCH_ZIP.facts(part).items()
        }

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout if it has these facts, else None."""
        return layout if facts == self.facts(layout) else None

    def partial(self, layout: Layout) -> Mapping[str, str]:
        """Return the storages that are not one tensor each."""
        return {
            f"{number:06}.{name}": reason
            for number, part in enumerate(_archive_layouts(layout))
            for name, reason in TORCH_ZIP.partial(part).items()
        }


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


def _archive_layouts(layout: Layout) -> Iterator[Layout]:
    """Yield the layout of each archive."""
    content = LiteralContent(layout)
    ends = iter([end for _, end in archives(content)])
    end = next(ends, layout.nbytes)
    segments: list[Segment] = []
    for at, segment in layout.located():
        begin, stop = at, at + segment.nbytes
        while isinstance(segment, Literal) and begin < end < stop:
            segments.append(Literal(segment.data[begin - at : end - at]))
            yield Layout(tuple(segments))
            segments, begin, end = [], end, next(ends, layout.nbytes)
        segments.append(Literal(segment.data[begin - at :]) if isinstance(segment, Literal) else segment)
        if stop == end:
            yield Layout(tuple(segments))
            segments, end = [], next(ends, layout.nbytes)
