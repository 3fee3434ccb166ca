"""Start ssh as git does."""

from __future__ import annotations

import shlex
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from git_theta_ext.errors import ConfigError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.interfaces import GitCommands

    from ._ssh_address import Address

# The program sftp passes the same: a RemoteCommand or a forwarding of ssh's configuration would end the session.
_OPTIONS = (
    "ForwardX11=no",
    "ForwardAgent=no",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
    "RequestTTY=no",
)
_PUTTY = ("plink", "putty", "tortoiseplink")
_VARIANTS = (*_PUTTY, "simple", "auto")


@dataclass(frozen=True)
class SshCommand:
    """How ssh is started.

    Attributes:
        program: The command line up to the options, and whether it is one for a shell.
        variant: The options that it understands: those of ``ssh`` or of one of PuTTY's programs.
        folder: The directory that it is started in; None for the current one.
        environment: Its environment; None for that of this process.
    """

    program: str = "ssh"
    shell: bool = False
    variant: str = "ssh"
    folder: Path | None = None
    environment: Mapping[str, str] | None = None

    def line(self, address: Address) -> list[str]:
        """Return the command line that starts the SFTP server on a host.

        Raises:
            ConfigError: The program does not understand ssh's options.
        """
        variant = self._understood(address) if self.variant == "auto" else self.variant
        if variant == "simple":
            raise ConfigError(
                f"{self.program} does not understand the options of ssh, of which SFTP needs -s",
                hint="git config ssh.variant ssh, if it does",
            )
        options = [] if variant in _PUTTY else [f"-o{option}" for option in _OPTIONS]
        return self._argv([*self._arguments(address.destination, address.port, *options, "-s"), "sftp"])

    def start(self, address: Address) -> subprocess.Popen[bytes]:
        """Start the SFTP server on a host.

        Raises:
            ConfigError: The program cannot be asked for the server.
            RemoteError: There is no such program.
        """
        pipe = subprocess.PIPE
        with self._starting():
            return subprocess.Popen(
                self.line(address),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                bufsize=0,
                cwd=self.folder,
                env=self.environment,
            )

    def run(self, destination: str, port: int | None, command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command on a host, and return its output.

        Raises:
            RemoteError: There is no such program as this.
        """
        with self._starting():
            return subprocess.run(
                self._argv([*self._arguments(destination, port), command]),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                cwd=self.folder,
                env=self.environment,
            )

    def test(self, address: Address) -> str:
        """Return the command line with which a user can test a connection."""
        program = self.program if self.shell else shlex.quote(self.program)
        quiet = [] if self.variant in _PUTTY else ["-T"]
        return f"{program} {shlex.join(self._arguments(address.destination, address.port, *quiet))}"

    def _understood(self, address: Address) -> str:
        """Find out as git does whether a program understands ssh's options."""
        devnull = subprocess.DEVNULL
        done = subprocess.run(
            self._argv(self._arguments(address.destination, address.port, "-G")),
            stdin=devnull,
            stdout=devnull,
            stderr=devnull,
            check=False,
            cwd=self.folder,
            env=self.environment,
        )
        return "simple" if done.returncode else "ssh"

    def _arguments(self, destination: str, port: int | None, *options: str) -> list[str]:
        batch = ["-batch"] if self.variant == "tortoiseplink" else []
        ports = [] if port is None else ["-P" if self.variant in _PUTTY else "-p", str(port)]
        return [*batch, *ports, *options, destination]

    @contextmanager
    def _starting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RemoteError(
                f"cannot start {self.program}: {error.strerror or error}",
                hint="install the ssh client of OpenSSH, or set the program: git config core.sshCommand COMMAND",
            ) from error

    def _argv(self, arguments: list[str]) -> list[str]:
        if not self.shell:
            return [self.program, *arguments]
        # Arguments are passed beside the command, so the shell does not interpret them.
        return ["/bin/sh", "-c", f'{self.program} "$@"', self.program, *arguments]


def ssh_command(git: GitCommands | None) -> SshCommand:
    """Choose the program as git does: by ``GIT_SSH_COMMAND``, ``core.sshCommand`` or ``GIT_SSH``, else ``ssh``."""
    if git is None:
        return SshCommand()
    environment = git.environment()
    # Of a key that is set more than once, the last value counts.
    listed = git.run("config", "-z", "--get-regexp", r"^(core\.sshcommand|ssh\.variant)$", check=False)
    settings = dict(item.partition("\n")[::2] for item in listed.decode(errors="surrogateescape").split("\0"))
    line = environment.get("GIT_SSH_COMMAND") or settings.get("core.sshcommand")
    program = line or environment.get("GIT_SSH") or "ssh"
    named = environment.get("GIT_SSH_VARIANT") or settings.get("ssh.variant") or "auto"
    variant = named if named in _VARIANTS else "ssh"
    if variant == "auto":
        variant = _variant_of(program, shell=bool(line))
    return SshCommand(program, bool(line), variant, git.folder, environment)


def _variant_of(program: str, *, shell: bool) -> str:
    try:
        first = shlex.split(program)[0] if shell else program
    except (ValueError, IndexError):
        return "auto"
    name = PurePath(first).name.lower().removesuffix(".exe")
    return name if name in ("ssh", "plink", "tortoiseplink") else "auto"
