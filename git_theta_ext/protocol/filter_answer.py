"""The answer to a request of git's filter protocol, without the state machine that reads requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.protocol.pktline import FLUSH, encode_content, encode_list

if TYPE_CHECKING:
    from typing_extensions import Buffer


def success(content: Buffer) -> bytes:
    """Return the answer to a request, given the converted content."""
    # The empty list at the end confirms the status that was sent first.
    return encode_list([b"status=success"]) + encode_content(content) + FLUSH
