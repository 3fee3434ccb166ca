"""The conformance suite of encodings. Subclass ``EncodingTests`` in a pytest module of your own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Base, Chunk
from git_theta_ext.interfaces.encodings import RESERVED_NAMES
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Encoding

_SPECS = ("F32", "BF16", "F16", "F64", "F8_E4M3", "F4", "I64", "BOOL", "C64", "C128", "opaque24:x", "opaque272:Q8_0")
_NO_PARAMETERS: tuple[object, ...] = (
    *(None, True, "x", b"", [], {}),
    *(-1, 0, 1 << 63, 10**400, 1e308, 5e-324, float("nan"), float("inf")),
)


class EncodingTests:
    """What every encoding must do; subclass it and override ``encoding``.

    Attributes:
        encoding: The encoding.
        specs: Names of element types that it takes.
        params: As its ``fit`` gives them.
        grows: Whether the parent may end before the chunk, as if a tensor grew.
    """

    encoding: Encoding
    specs: tuple[str, ...] = _SPECS
    params: Mapping[str, Any] = {}
    grows = True

    def spec(self, name: str, elements: int) -> TensorSpec:
        """Return a spec with a number of elements; override it if the shape matters."""
        return TensorSpec.of(name, (elements,))

    def whole_bases(self, spec: TensorSpec) -> tuple[Base, ...]:
        """Return the bases after the parent that fit ``params``."""
        assert len(self.encoding.needs) <= 1, f"override whole_bases for {spec}"
        return ()

    def chunk(self, spec: TensorSpec, parent: bytes, offset: int = 0) -> Chunk:
        """Return a chunk that is coded against the parent's bytes at the same position."""
        parents = (Base(spec, memoryview(parent)), *self.whole_bases(spec)) if self.encoding.needs else ()
        return Chunk(spec, offset, parents, self.params)

    def round_trip(self, chunk: Chunk, data: bytes) -> list[bytes]:
        """Encode and decode one chunk; return the payload's pieces."""
        pieces = [bytes(memoryview(piece).cast("B")) for piece in self.encoding.encode(chunk, memoryview(data))]
        out = bytearray(len(data))
        self.encoding.decode(chunk, memoryview(b"".join(pieces)), memoryview(out))
        assert out == data
        return pieces

    def samples(self) -> Iterator[tuple[TensorSpec, bytes]]:
        """Yield specs and bytes: zeros, small numbers and any bytes."""
        for name in self.specs:
            for elements in (8, 96, 40_000):
                spec = self.spec(name, elements)
                yield spec, bytes(spec.nbytes)
                yield spec, bytes(i * i % 251 for i in range(spec.nbytes))
                yield spec, blake3(name.encode()).digest(spec.nbytes)

    def test_the_name_is_not_one_that_packs_use(self) -> None:
        """Packs have entries without bytes under some names, which no encoding is found by."""
        assert self.encoding.name not in RESERVED_NAMES

    def test_every_type_comes_back(self) -> None:
        """Any bytes come back, not only plausible numbers."""
        for spec, data in self.samples():
            self.round_trip(self.chunk(spec, bytes(reversed(data))), data)

    def test_what_the_parent_holds_already_comes_back(self) -> None:
        for spec, data in self.samples():
            self.round_trip(self.chunk(spec, data), data)

    def test_what_changed_here_and_there_comes_back(self) -> None:
        for spec, data in self.samples():
            parent = bytearray(data)
            parent[::97] = bytes(byte ^ 1 for byte in parent[::97])
            self.round_trip(self.chunk(spec, bytes(parent)), data)

    def test_a_parent_that_ends_early_will_do(self) -> None:
        """An embedding may have grown. Encodings that need a parent of the same shape are skipped."""
        if not (self.encoding.needs and self.grows):
            return
        for spec, data in self.samples():
            for elements in (0, 8, spec.elements // 16 * 8):
                self.round_trip(self.chunk(spec, data[: elements * spec.dtype.bits // 8]), data)

    def test_a_later_chunk_comes_back(self) -> None:
        """Chunks begin anywhere in a row, and the last one is shorter."""
        for name in self.specs:
            whole = self.spec(name, 3 * 524_288 // 2)
            data = blake3(name.encode()).digest(whole.nbytes)[whole.chunk_bytes :][: whole.chunk_bytes]
            self.round_trip(self.chunk(whole, data[::-1], whole.chunk_bytes), data)

    def test_encoding_is_deterministic(self) -> None:
        """Equal tensors give equal packs."""
        spec = self.spec(self.specs[0], 5000)
        data = bytes(i * 7 % 256 for i in range(spec.nbytes))
        chunk = self.chunk(spec, bytes(reversed(data)))
        assert self.round_trip(chunk, data) == self.round_trip(chunk, data)

    def test_pieces_outlive_the_next_call(self) -> None:
        """A writer keeps the pieces of many chunks at a time."""
        spec = self.spec(self.specs[0], 5000)
        data = bytes(i * 7 % 256 for i in range(spec.nbytes))
        chunk = self.chunk(spec, bytes(reversed(data)))
        pieces = [memoryview(piece).cast("B") for piece in self.encoding.encode(chunk, memoryview(data))]
        before = list(map(bytes, pieces))
        self.encoding.encode(self.chunk(spec, data), memoryview(bytes(reversed(data))))
        assert list(map(bytes, pieces)) == before

    def test_a_payload_grows_by_little_over_its_tensor(self) -> None:
        """The bound that pack headers are checked against."""
        for name in self.specs:
            spec = self.spec(name, 80_000)
            data = blake3(b"random").digest(spec.nbytes)
            pieces = self.round_trip(self.chunk(spec, blake3(b"other").digest(spec.nbytes)), data)
            assert sum(map(len, pieces)) <= spec.nbytes + spec.nbytes // 64 + 1024

    def test_a_damaged_payload_is_refused_or_decodes_to_something_of_the_same_size(self) -> None:
        """Digests detect wrong results; a decoder must not crash or run without end."""
        spec = self.spec(self.specs[0], 3000)
        data = bytes(i % 13 for i in range(spec.nbytes))
        parent = bytearray(data)
        parent[::50] = bytes(len(parent[::50]))
        for parent_bytes in (bytes(reversed(data)), bytes(parent)):
            chunk = self.chunk(spec, parent_bytes)
            payload = b"".join(self.round_trip(chunk, data))
            damaged = [payload[:cut] for cut in (0, 1, 3, len(payload) // 2, len(payload) - 1)]
            damaged += [
                payload[:at] + bytes([payload[at] ^ flip]) + payload[at + 1 :]
                for at in range(min(80, len(payload)))
                for flip in (1, 128, 255)
            ]
            damaged.append(payload + b"x")
            for bad in damaged:
                with suppress(CorruptError):
                    self.encoding.decode(chunk, memoryview(bad), memoryview(bytearray(spec.nbytes)))

    def test_damaged_parameters_are_refused_or_decode_to_something_of_the_same_size(self) -> None:
        """They are read from the header of a pack, which is not trusted."""
        spec = self.spec(self.specs[0], 96)
        data = bytes(i % 13 for i in range(spec.nbytes))
        chunk = self.chunk(spec, bytes(reversed(data)))
        payload = memoryview(b"".join(self.round_trip(chunk, data)))
        damaged = [{**self.params, name: value} for name in self.params for value in _NO_PARAMETERS]
        damaged += [{key: value for key, value in self.params.items() if key != name} for name in self.params]
        for params in damaged:
            with suppress(CorruptError):
                self.encoding.decode(replace(chunk, params=params), payload, memoryview(bytearray(spec.nbytes)))

    def test_bases_that_do_not_fit_are_refused_or_decode_to_something_of_the_same_size(self) -> None:
        """The header of a pack names them, and is not trusted."""
        spec = self.spec(self.specs[0], 96)
        data = bytes(i % 13 for i in range(spec.nbytes))
        chunk = self.chunk(spec, bytes(reversed(data)))
        payload = memoryview(b"".join(self.round_trip(chunk, data)))
        for at, base in enumerate(chunk.bases):
            for bad in _misfits(base):
                bases = (*chunk.bases[:at], bad, *chunk.bases[at + 1 :])
                with suppress(CorruptError):
                    self.encoding.decode(replace(chunk, bases=bases), payload, memoryview(bytearray(spec.nbytes)))

    def test_a_chunk_without_its_bases_is_refused(self) -> None:
        """The header of a pack may name fewer bases than the encoding needs."""
        spec = self.spec(self.specs[0], 96)
        data = bytes(spec.nbytes)
        chunk = self.chunk(spec, data)
        payload = memoryview(b"".join(self.round_trip(chunk, data)))
        for count in range(len(chunk.bases)):
            with pytest.raises(CorruptError):
                self.encoding.decode(
                    replace(chunk, bases=chunk.bases[:count]), payload, memoryview(bytearray(spec.nbytes))
                )


def _misfits(base: Base) -> Iterator[Base]:
    """Yield tensors of other types, shapes and sizes than an encoding expects."""
    data = bytes(base.data)
    others = ("I32", "F4", "F8_E4M3", "F64", "C64", "opaque24:x")
    yield from (Base(TensorSpec.of(name, base.spec.shape), base.data) for name in others)
    for shape in ((), (0,), (base.spec.elements,), (*base.spec.shape, 1), tuple(n + 8 for n in base.spec.shape)):
        spec = TensorSpec(base.spec.dtype, shape)
        yield Base(spec, base.data)
        yield Base(spec, memoryview(data * (spec.nbytes // len(data) + 1))[: spec.nbytes])
    yield from (Base(base.spec, memoryview(cut)) for cut in (b"", data[:-1], data + b"x"))
