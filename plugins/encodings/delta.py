"""The difference of the bit patterns from those of a parent.

The parent may have fewer rows, for example if an embedding grew: bytes of a chunk without a counterpart in the parent
are coded as by the dense encoding. A payload is the residual; if dense bytes follow it, its size in eight bytes
precedes it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Fit, decode_dense, decode_residual, encode_dense, encode_residual, payload_size

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Chunk, TensorSource

_SIZE = struct.Struct("<Q")


class Delta:
    """Differences of bit patterns; lossless for any bytes."""

    name = "delta"
    needs = ("range",)

    def fit(self, target: TensorSource, parent: TensorSource) -> Fit | None:
        """Return an empty fit if both tensors have the same element type."""
        return Fit() if target.spec.dtype == parent.spec.dtype else None

    def encode(self, chunk: Chunk, data: memoryview) -> list[Buffer]:
        """Encode one chunk; see ``git_theta_ext.interfaces.Encoding``."""
        guess = _guess(chunk, data)
        missed = encode_residual(chunk.spec, data[: guess.nbytes], guess)
        if guess.nbytes == data.nbytes:
            return missed
        return [_SIZE.pack(payload_size(missed)), *missed, *encode_dense(chunk.spec, data[guess.nbytes :])]

    def decode(self, chunk: Chunk, payload: memoryview, out: memoryview) -> None:
        """Decode one chunk; see ``git_theta_ext.interfaces.Encoding``."""
        guess = _guess(chunk, out)
        if guess.nbytes < out.nbytes:
            if payload.nbytes < _SIZE.size:
                raise CorruptError("a delta is truncated")
            end = _SIZE.size + _SIZE.unpack_from(payload)[0]
            decode_dense(chunk.spec, payload[end:], out[guess.nbytes :])
            payload = payload[_SIZE.size : end]
        decode_residual(chunk.spec, payload, guess, out[: guess.nbytes])


ENCODING = Delta()


def _guess(chunk: Chunk, data: memoryview) -> memoryview:
    """Return the parent's bytes at the position of the chunk: as many as the chunk has, or fewer whole elements."""
    if len(chunk.bases) != 1 or chunk.bases[0].spec.dtype != chunk.spec.dtype:
        raise CorruptError("a delta has no parent of its element type")
    return chunk.bases[0].data[: data.nbytes]
