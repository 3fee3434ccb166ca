"""OpenSSH's server on the loopback interface, with keys of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SSHD = Path("/usr/sbin/sshd")
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp {sftp}
SetEnv PATH={path}
"""
CLIENT = """\
Host theta-host
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/user
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
"""


class NoServerError(Exception):
    """There is no server, or it does not start."""


@dataclass(frozen=True)
class Sshd:
    """A running server.

    Attributes:
        folder: Its keys and configuration. The client's knows the server as ``theta-host``.
        pid: Its process.
    """

    folder: Path
    pid: int

    @property
    def command(self) -> str:
        """A client that may log in."""
        return f"ssh -F {self.folder}/client"

    def stranger(self) -> str:
        """Return a client with a key that the server does not accept."""
        text = (self.folder / "client").read_text()
        (self.folder / "stranger").write_text(text.replace(f"{self.folder}/user\n", f"{self.folder}/host\n"))
        return f"ssh -F {self.folder}/stranger"


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """Run a server for a block. Its users find programs in ``bin`` in the directory first.

    Raises:
        NoServerError: It is not installed, or does not start.
    """
    if not SSHD.exists() or shutil.which("ssh") is None:
        raise NoServerError("OpenSSH's server is not installed (on Debian: apt-get install openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        _key(folder / name)
    port = free_port()
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    values = {"port": port, "folder": folder, "user": getpass.getuser(), "sftp": SFTP_SERVER, "path": path}
    (folder / "server").write_text(SERVER.format(**values))
    (folder / "client").write_text(CLIENT.format(**values))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "server"], stderr=log)
    try:
        _wait(port, process, folder / "log")
        yield Sshd(folder, process.pid)
    finally:
        process.terminate()
        process.wait()


def _key(path: Path) -> None:
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise NoServerError(f"OpenSSH's server does not start: {log.read_text()[-300:]}")
