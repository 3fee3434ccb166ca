"""Ask a host with ssh where its LFS server is, and for the headers that identify the user there."""

from __future__ import annotations

import re
import subprocess
from pathlib import PurePath
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import RemoteError

if TYPE_CHECKING:
    from git_theta_ext.interfaces import GitCommands
    from git_theta_ext.protocol.lfs.batch import Operation
    from git_theta_ext.protocol.lfs.endpoints import SshAddress

    from ._git_settings import GitSettings

_NOT_FOUND = 127
_UNKNOWN = re.compile(rb"not found|not recognized|unknown command|no such command|is not allowed", re.IGNORECASE)
_PUTTY = frozenset({"plink", "putty", "tortoiseplink"})
_SHOWN = 300


def authenticate(git: GitCommands, settings: GitSettings, address: SshAddress, operation: Operation) -> bytes | None:
    """Run ``git-lfs-authenticate`` on a host, with the ssh that git uses.

    Returns:
        What it prints, or None if the host has no such program.

    Raises:
        RemoteError: The connection or the program failed.
    """
    line = settings.environment.get("GIT_SSH_COMMAND") or settings.text("core.sshcommand")
    program = settings.environment.get("GIT_SSH") or "ssh"
    port = "-P" if PurePath(program).stem.lower() in _PUTTY else "-p"
    arguments = [port, str(address.port)] if address.port else []
    arguments += [address.destination, f"git-lfs-authenticate {quote(address.path)} {operation}"]
    # The arguments are passed beside the command line of the setting, so that the shell does not read them.
    command = ["sh", "-c", f'{line} "$@"', line, *arguments] if line else [program, *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=git.folder,
            env=settings.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise RemoteError(f"cannot start ssh: {error}", hint="git config core.sshCommand COMMAND") from error
    if done.returncode == 0:
        return done.stdout
    if done.returncode == _NOT_FOUND or _UNKNOWN.search(done.stderr):
        return None
    words = " ".join(done.stderr.decode(errors="replace").split())[:_SHOWN]
    raise RemoteError(
        f"ssh {address.destination} git-lfs-authenticate failed: {words or f'exit code {done.returncode}'}",
        hint="git ls-remote tries the connection",
    )
