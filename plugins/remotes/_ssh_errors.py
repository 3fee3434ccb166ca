"""Explain why a connection over ssh ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import RemoteError, RemoteTimeoutError

if TYPE_CHECKING:
    from ._sftp_connection import Ended

# What OpenSSH writes, what it means, and what to do about it.
_REFUSALS = (
    (
        re.compile("host key|host identification has changed", re.IGNORECASE),
        "the key of the host is not trusted",
        "compare the key that this command shows with that of the host: {}",
    ),
    (
        re.compile("permission denied|too many authentication failures|no more authentication methods", re.IGNORECASE),
        "the host does not accept the login",
        "test the connection: {}",
    ),
    (
        re.compile("subsystem request failed", re.IGNORECASE),
        "the host offers no SFTP",
        "enable Subsystem sftp in the sshd_config of the host",
    ),
)
_NOISE = re.compile("Warning: Permanently added |debug[123]: |@+$")
_SHOWN_LINES = 3
_PRINTED = re.compile(rb"[\t\r\n -~]{4}")
_SHOWN_BYTES = 60


class RefusedError(RemoteError):
    """A host refuses, and would refuse again."""


def explain(ended: Ended, url: str, test: str) -> RemoteError:
    """Return the error for a connection that ended.

    Args:
        ended: How it ended.
        url: The URL of the remote, for messages.
        test: The command with which a user can test the connection.
    """
    lines = [line.strip() for line in ended.errors.splitlines()]
    words = "; ".join([line for line in lines if line and not _NOISE.match(line)][-_SHOWN_LINES:])
    if ended.silent:
        return RemoteTimeoutError(
            f"{url}: no answer for {ended.silent:g} seconds" + (f": {words}" if words else ""),
            hint="git config theta.remote.NAME.timeout SECONDS waits longer; received bytes are kept",
        )
    if _PRINTED.match(ended.began):
        text = ended.began[:_SHOWN_BYTES].decode(errors="replace").strip()
        return RefusedError(
            f"{url}: the host prints text in place of SFTP: {text!r}",
            hint=f"check the start-up files of the shell there: this must print nothing: {test} true",
        )
    if ended.broken:
        return RemoteError(f"{url}: the server breaks the SFTP protocol: {ended.broken}", hint=_test(test))
    for pattern, meaning, hint in _REFUSALS:
        if pattern.search(ended.errors):
            return RefusedError(f"{url}: {words}: {meaning}", hint=hint.format(test))
    return RemoteError(f"{url}: {words or 'the connection ended'}", hint=_test(test))


def _test(command: str) -> str:
    return f"test the connection: {command}"
