"""pkt-line, the framing of git's wire protocols: a length of four hexadecimal digits, then the payload.

Source: git's ``Documentation/gitprotocol-common``. ``0000`` is the flush packet; the other special lengths belong to
protocols that are not used here.
"""

from __future__ import annotations

import binascii
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from git_theta_ext.errors import ProtocolError
from git_theta_ext.records import NamedTuple, dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

MAX_PACKET = 65520
"""Maximum size of a packet in bytes, including its length."""
MAX_PAYLOAD = 65516
"""Maximum size of the payload of a packet in bytes."""
FLUSH: Final = b"0000"

_HEADER = 4


class PayloadPart(NamedTuple):
    """A payload, or the part of it that was received. It is a tuple, because a checkpoint comes in very many of them.

    Attributes:
        data: A view of the buffer that was passed to the decoder.
        last: Whether the payload ends here.
    """

    data: memoryview
    last: bool


@dataclass(frozen=True, slots=True)
class Flush:
    """A flush packet."""


_FLUSHED = Flush()


class Decoder:
    """Split a stream of packets into payloads without copying them.

    A payload that spans two buffers is returned as two parts. So only an incomplete length is kept between calls, and
    the caller may reuse its buffer.
    """

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    @property
    def idle(self) -> bool:
        """Whether the stream may end here: no packet is incomplete."""
        return not self._header and not self._left

    def feed(self, data: Buffer) -> list[PayloadPart | Flush]:
        """Process the next bytes of the stream.

        Args:
            data: Any number of bytes; the returned parts are views of them.

        Raises:
            ProtocolError: A length is not a hexadecimal number, or not a valid packet length.
        """
        view = memoryview(data).cast("B")
        end = len(view)
        at = 0
        packets: list[PayloadPart | Flush] = []
        while at < end:
            if self._left:
                stop = at + self._left
                self._left = max(stop - end, 0)
                packets.append(PayloadPart(view[at:stop], not self._left))
                at = stop
                continue
            take = _HEADER - len(self._header)
            header = self._header + bytes(view[at : at + take])
            at += take
            if len(header) < _HEADER:
                self._header = header
                break
            self._header = b""
            if header == FLUSH:
                packets.append(_FLUSHED)
                continue
            self._left = _payload_length(header)
            if not self._left:
                packets.append(PayloadPart(view[:0], last=True))
        return packets


def encode(payload: bytes) -> bytes:
    """Return one packet.

    Raises:
        ProtocolError: The payload is longer than ``MAX_PAYLOAD``.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"a payload of {len(payload)} bytes exceeds the limit of {MAX_PAYLOAD}")
    return b"%04x%b" % (len(payload) + _HEADER, payload)


def encode_list(lines: Iterable[bytes]) -> bytes:
    """Return text lines as packets, each with a newline, followed by the flush packet that ends the list."""
    return b"".join([*(encode(line + b"\n") for line in lines), FLUSH])


def encode_content(data: Buffer) -> bytes:
    """Return bytes of any length as packets, followed by the flush packet that ends them."""
    view = memoryview(data).cast("B")
    parts: list[Buffer] = []
    for start in range(0, len(view), MAX_PAYLOAD):
        piece = view[start : start + MAX_PAYLOAD]
        parts += (b"%04x" % (len(piece) + _HEADER), piece)
    parts.append(FLUSH)
    return b"".join(parts)


@lru_cache(16)  # nearly all packets of a file have the same
def _payload_length(header: bytes) -> int:
    try:
        length = int.from_bytes(binascii.unhexlify(header), "big")
    except ValueError as error:
        raise ProtocolError(f"invalid packet length {header!r}") from error
    if not _HEADER <= length <= MAX_PACKET:
        raise ProtocolError(f"invalid packet length {header!r}")
    return length - _HEADER
