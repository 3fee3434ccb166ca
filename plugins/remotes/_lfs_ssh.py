"""Ask a host with ssh where its LFS server is, and for the headers that identify the user there."""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import RemoteError

from ._ssh_command import ssh_command

if TYPE_CHECKING:
    from git_theta_ext.interfaces import GitCommands
    from git_theta_ext.protocol.lfs.batch import Operation
    from git_theta_ext.protocol.lfs.endpoints import SshAddress


_NOT_FOUND = 127
_UNKNOWN = re.compile(rb"not found|not recognized|unknown command|no such command|is not allowed", re.IGNORECASE)
_SHOWN = 300


def authenticate(git: GitCommands, address: SshAddress, operation: Operation) -> bytes | None:
    """Run ``git-lfs-authenticate`` on a host, with the ssh that git uses.

    Returns:
        What it prints, or None if the host has no such program.

    Raises:
        RemoteError: The connection or the program failed.
    """
    command = f"git-lfs-authenticate {quote(address.path)} {operation}"
    done = ssh_command(git).run(address.destination, address.port, command)
    if done.returncode == 0:
        return done.stdout
    if done.returncode == _NOT_FOUND or _UNKNOWN.search(done.stderr):
        return None
    words = " ".join(done.stderr.decode(errors="replace").split())[:_SHOWN]
    raise RemoteError(
        f"ssh {address.destination} git-lfs-authenticate failed: {words or f'exit code {done.returncode}'}",
        hint="git ls-remote tries the connection",
    )
