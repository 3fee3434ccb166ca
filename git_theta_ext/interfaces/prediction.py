"""The half of an encoding that most encodings of updates have in common: a prediction, and what it misses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.coding.residual import decode_residual, encode_residual

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from git_theta_ext.interfaces.encodings import Chunk


class PredictingEncoding:
    """Encodes what a prediction misses; a subclass adds ``name``, ``needs``, ``fit`` and ``predict``.

    Such an encoding is lossless whatever it predicts. The closer the prediction, the smaller the payload: one byte if
    every bit is right.
    """

    def predict(self, chunk: Chunk, out: memoryview) -> None:
        """Write the prediction of one chunk to ``out``; see ``Predictor``."""
        raise NotImplementedError

    def encode(self, chunk: Chunk, data: memoryview) -> list[Buffer]:
        """Encode one chunk; see ``Encoding``."""
        predicted = memoryview(bytearray(data.nbytes))
        self.predict(chunk, predicted)
        return encode_residual(chunk.spec, data, predicted)

    def decode(self, chunk: Chunk, payload: memoryview, out: memoryview) -> None:
        """Decode one chunk; see ``Encoding``."""
        predicted = memoryview(bytearray(out.nbytes))
        self.predict(chunk, predicted)
        decode_residual(chunk.spec, payload, predicted, out)
