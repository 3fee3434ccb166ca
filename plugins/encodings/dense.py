"""A tensor on its own: planes of bytes, entropy-coded if that makes them smaller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import decode_dense, encode_dense

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Chunk, Fit, TensorSource


class Dense:
    """Exponent split and entropy coding; lossless for any bytes."""

    name = "dense"
    needs = ()

    def fit(self, target: TensorSource, parent: TensorSource) -> Fit | None:
        """Return None: this encoding does not use a parent."""
        del target, parent
        return None

    def encode(self, chunk: Chunk, data: memoryview) -> list[Buffer]:
        """Encode one chunk; see ``git_theta_ext.interfaces.Encoding``."""
        return encode_dense(chunk.spec, data)

    def decode(self, chunk: Chunk, payload: memoryview, out: memoryview) -> None:
        """Decode one chunk; see ``git_theta_ext.interfaces.Encoding``."""
        decode_dense(chunk.spec, payload, out)


ENCODING = Dense()
