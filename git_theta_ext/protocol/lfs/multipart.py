"""Uploads in parts as Hugging Face has them, for objects of more than 5 GB.

The headers of the upload action are no headers: ``chunk_size``, and the signed address of each part under its number.
The parts are sent with PUT, and then their ETags with POST to the address of the action.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol.lfs.batch import check_address
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.protocol.lfs.batch import Action
    from git_theta_ext.protocol.lfs.pointer import Pointer

_MAX_PARTS = 10_000
_MAX_ETAG = 1024


@dataclass(frozen=True)
class Part:
    """A part of an object: its address, and the bytes from ``start`` up to ``end``."""

    href: str
    start: int
    end: int


def parts_of(action: Action, pointer: Pointer) -> list[Part]:
    """Return the parts of an upload, in order.

    Raises:
        ProtocolError: The parts are not those of an object of this size.
    """
    where = f"object {pointer.oid}"
    numbered = {int(name): href for name, href in action.header.items() if name.isascii() and name.isdigit()}
    size = action.header.get("chunk_size", "")
    if not (size.isascii() and size.isdigit() and len(size) < 19 and int(size)):  # noqa: PLR2004 - digits of 2^60
        raise ProtocolError(f"{where}: the LFS server gives no size of parts")
    step = int(size)
    count = max(1, -(-pointer.size // step))
    if count > _MAX_PARTS or set(numbered) != set(range(1, count + 1)):
        raise ProtocolError(f"{where}: the LFS server gives {len(numbered)} parts of {step} bytes for {pointer.size}")
    return [
        Part(check_address(numbered[n], where), (n - 1) * step, min(n * step, pointer.size))
        for n in range(1, count + 1)
    ]


def completion(pointer: Pointer, etags: Sequence[str | None]) -> bytes:
    """Return the body of the request that joins the parts.

    Raises:
        ProtocolError: An answer to a part had no ETag.
    """
    parts = []
    for number, etag in enumerate(etags, 1):
        if not etag or len(etag) > _MAX_ETAG:
            raise ProtocolError(f"object {pointer.oid}: the server gives no ETag for part {number}")
        parts.append({"partNumber": number, "etag": etag})
    return json.dumps({"oid": pointer.oid, "parts": parts}).encode()
