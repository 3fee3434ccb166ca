"""Tensors that are read one after another, and how they are chosen by name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from git_theta_ext.errors import UsageError
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.text import similar
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.model.tensor_pieces import JoinedTensor
    from git_theta_ext.store.store import Store


class Tensors(Protocol):
    """Tensors by name."""

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Element type and shape of each tensor, by name."""
        ...

    def streams(self, names: Sequence[str]) -> Iterator[Iterator[memoryview]]:
        """Yield each tensor's little-endian bytes, chunk by chunk.

        Take all chunks of a tensor before the next tensor, and then the end, since the last tensor is verified there.
        """
        ...


@dataclass(frozen=True)
class StoredTensors:
    """Tensors in a store.

    Attributes:
        store: The store, which has all of them.
        parameters: The tensors by name.
        advance: Called with the number of bytes that were read since the last call.
        joined: Further tensors, which are in several pieces.
    """

    store: Store
    parameters: Mapping[str, Parameter]
    advance: Callable[[int], None] = no_progress
    joined: Mapping[str, JoinedTensor] = field(default_factory=dict)

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Element type and shape of each tensor, by name."""
        joined = {name: tensor.spec for name, tensor in self.joined.items()}
        return {name: parameter.spec for name, parameter in self.parameters.items()} | joined

    def streams(self, names: Sequence[str]) -> Iterator[Iterator[memoryview]]:
        """Yield each tensor's bytes; see ``Tensors``.

        Raises:
            MissingError: The store lacks a tensor.
            CorruptError: A stored tensor is damaged.
        """
        wanted = [self.parameters[name] for name in names if name not in self.joined]
        pieces = self.store.read_ahead([(parameter.digest, parameter.spec) for parameter in wanted])
        chunks = (piece.data for piece in pieces)
        for name in names:
            if name in self.joined:
                yield self._joined(self.joined[name])
            else:
                yield self._first(chunks, self.parameters[name].spec.nbytes)
        for _ in chunks:
            raise AssertionError("bytes are left over")  # pragma: no cover

    def _joined(self, tensor: JoinedTensor) -> Iterator[memoryview]:
        for _, chunk in tensor.chunks(lambda _, piece: self.store.read(piece.digest, piece.spec)):
            self.advance(chunk.nbytes)
            yield chunk

    def _first(self, chunks: Iterator[memoryview], nbytes: int) -> Iterator[memoryview]:
        while nbytes > 0:
            chunk = next(chunks)
            nbytes -= chunk.nbytes
            self.advance(chunk.nbytes)
            yield chunk


def each(tensors: Tensors, names: Sequence[str]) -> Iterator[tuple[str, TensorSpec, Iterator[memoryview]]]:
    """Yield name, spec and bytes of tensors, each of which is verified when the last one was taken."""
    specs = tensors.specs
    for name, stream in zip(names, tensors.streams(names), strict=True):
        yield name, specs[name], stream


def chosen(names: Iterable[str], patterns: Sequence[str], *, place: str, hint: str) -> list[str]:
    """Return the names that match a pattern; all of them if there are no patterns.

    Args:
        names: Names of parameters.
        patterns: Names or globs.
        place: What has the parameters, for messages.
        hint: The command that lists them.

    Raises:
        UsageError: A pattern matches no name.
    """
    everything = list(names)
    if not patterns:
        return everything
    for pattern in patterns:
        if not any(pattern == name or fnmatchcase(name, pattern) for name in everything):
            near = similar(pattern, everything)
            raise UsageError(
                f"{place} has no parameter {pattern!r}", hint=f"did you mean {near}?" if near is not None else hint
            )
    return [name for name in everything if any(p == name or fnmatchcase(name, p) for p in patterns)]
