"""Find the tensors in a file: the interface of checkpoint formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.model.content import Content
    from git_theta_ext.model.fields import Field
    from git_theta_ext.model.layout import Layout
    from git_theta_ext.model.tensor import TensorSpec


class NotSplittable(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by ``Format.parse`` if a file is well-formed but its tensors cannot be found in place.

    The message says why. The file is then stored in the format ``opaque``.
    """


class NotedFields(list["Field"]):
    """Fields with a note for the user, such as about a damaged checkpoint in an archive; the note may be empty."""

    def __init__(self, fields: Iterable[Field], note: str) -> None:
        super().__init__(fields)
        self.note = note


class Format(Protocol):
    """Finds the tensors in the bytes of a checkpoint. It never serialises a checkpoint again.

    Attributes:
        name: The name in manifests and in ``theta-format=`` attributes.
        mergeable: Whether one file may mix the tensors of two versions.
    """

    name: str
    mergeable: bool

    def detect(self, data: Content) -> bool:
        """Return whether the content looks like the format; fast, and raises nothing."""
        ...

    def parse(self, data: Content) -> Sequence[Field]:
        """Find the tensors and the checksums of tensors, in any order; ``NotedFields`` have a note for the user, too.

        It is a pure function of ``data``. It executes nothing from the file, and bounds every size before it uses it.

        Args:
            data: The whole file. Read only the parts that are needed.

        Raises:
            FormatError: The bytes break the format; the message names the parameter if there is one. The file is then
                stored in the format ``opaque``, or refused if ``theta.strict`` is set.
            NotSplittable: The file is well-formed, but compressed or of an older kind.
        """
        ...

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> Layout | None:
        """Lay out other parameters in the same way as ``layout``, for merges in which both sides add some.

        Returns:
            A layout with exactly these parameters, or None if the format cannot do that.
        """
        ...

    def facts(self, layout: Layout) -> Mapping[str, bytes]:
        """Return what the literal bytes contain besides the places of tensors, such as metadata, by key.

        Merges compare and combine it. Leave out what changes whenever the same content is written again.

        Raises:
            FormatError: The layout is not one of this format.
        """
        ...

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout with other facts, taken from what ``facts`` returned for layouts of the format.

        Returns:
            A layout with the same parameters, or None if the format cannot do that.
        """
        ...


@runtime_checkable
class PartialFormat(Format, Protocol):
    """A format some of whose parameters are not the tensors that its library reads, so that they are not converted."""

    def partial(self, layout: Layout) -> Mapping[str, str]:
        """Return why parameters are not one tensor each in row-major order, such as ``is in Fortran order``.

        Raises:
            FormatError: The layout is not one of this format.
        """
        ...


@runtime_checkable
class TiedFormat(Format, Protocol):
    """A format in which a parameter may be a tensor under several names, such as tied weights."""

    def tied(self, layout: Layout) -> Mapping[str, str]:
        """Return the further names of tensors, each with the parameter that has the values.

        Raises:
            FormatError: The layout is not one of this format.
        """
        ...
