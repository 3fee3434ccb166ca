"""The conformance suite of encodings. Subclass ``EncodingTests`` in a pytest module of your own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.errors import CorruptError
from git_theta_ext.model.tensor import TensorSpec

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Encoding

_SPECS = ("F32", "BF16", "F16", "F64", "F8_E4M3", "F4", "I64", "BOOL", "C64", "C128", "opaque24:x", "opaque272:Q8_0")


class EncodingTests:
    """Subclass it in a test module, and say which encoding is meant by overriding ``encoding``."""

    encoding: Encoding

    def round_trip(self, spec: TensorSpec, data: bytes) -> list[bytes]:
        """Encode and decode one chunk against bases of the same size; return the payload's pieces."""
        bases = [bytes(reversed(data))] * self.encoding.bases
        pieces = [bytes(memoryview(piece).cast("B")) for piece in self.encoding.encode(spec, memoryview(data), bases)]
        out = bytearray(len(data))
        self.encoding.decode(spec, memoryview(b"".join(pieces)), memoryview(out), bases)
        assert out == data
        return pieces

    def test_every_type_comes_back(self) -> None:
        """Any bytes at all, not only sensible numbers."""
        for name in _SPECS:
            for elements in (8, 96, 40_000):
                spec = TensorSpec.of(name, (elements,))
                self.round_trip(spec, bytes(spec.nbytes))
                self.round_trip(spec, bytes(i * i % 251 for i in range(spec.nbytes)))

    def test_encoding_is_deterministic(self) -> None:
        """Equal tensors give equal packs."""
        spec = TensorSpec.of("F32", (5000,))
        data = bytes(i * 7 % 256 for i in range(spec.nbytes))
        assert self.round_trip(spec, data) == self.round_trip(spec, data)

    def test_a_payload_grows_by_little_over_its_tensor(self) -> None:
        """The bound that pack headers are checked against."""
        spec = TensorSpec.of("U8", (100_000,))
        data = blake3(b"random").digest(spec.nbytes)
        assert sum(map(len, self.round_trip(spec, data))) <= spec.nbytes + 1024

    def test_a_damaged_payload_is_refused_or_decodes_to_something_of_the_same_size(self) -> None:
        """Digests find what decodes wrongly; a decoder must not crash or run away."""
        spec = TensorSpec.of("BF16", (3000,))
        data = bytes(i % 13 for i in range(spec.nbytes))
        payload = b"".join(self.round_trip(spec, data))
        bases = [bytes(reversed(data))] * self.encoding.bases
        damaged = [payload[:cut] for cut in (0, 1, 3, len(payload) // 2, len(payload) - 1)]
        damaged += [
            payload[:at] + bytes([payload[at] ^ 255]) + payload[at + 1 :] for at in range(min(40, len(payload)))
        ]
        damaged.append(payload + b"x")
        for bad in damaged:
            out = memoryview(bytearray(spec.nbytes))
            with suppress(CorruptError):
                self.encoding.decode(spec, memoryview(bad), out, bases)
