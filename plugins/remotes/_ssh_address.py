"""Read the URL of a directory on a host that is reached by ssh."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from git_theta_ext.errors import ConfigError
from git_theta_ext.protocol.ssh import is_destination

_URL = re.compile(
    r"(?:ssh|sftp)://(?:(?P<user>[^/@]*)@)?(?P<host>\[[^\]/]*\]|[^/:]*)(?::(?P<port>[0-9]{1,5}))?(?P<path>/.*)",
    re.IGNORECASE | re.DOTALL,
)
_HOME = "/~/"
_LARGEST_PORT = 0xFFFF


@dataclass(frozen=True)
class Address:
    """A directory on a host.

    Attributes:
        user: The user to log in as; None for ssh's choice.
        host: Name or number of the host, or an alias of ssh's configuration. It cannot be taken for an option.
        port: The port; None for ssh's choice.
        path: The directory: absolute, or relative to the user's home directory.
    """

    user: str | None
    host: str
    port: int | None
    path: bytes

    @property
    def destination(self) -> str:
        """The argument of ssh."""
        return self.host if self.user is None else f"{self.user}@{self.host}"


def parse_address(url: str) -> Address:
    """Parse ``ssh://[user@]host[:port]/path`` or ``sftp://…``; a path that starts with ``/~/`` is in the user's home.

    As in git's URLs, ``%20`` stands for a space, and no other character of the path is special.

    Raises:
        ConfigError: It is something else, has a password, or a host or user that could be taken for something else.
    """
    match = _URL.fullmatch(url)
    # A password, or an at sign in a path, must not be printed.
    if match is None or ":" in (match["user"] or ""):
        raise _error("the URL is not ssh://[user@]host[:port]/path without a password")
    user = None if match["user"] is None else unquote(match["user"])
    host, port = unquote(match["host"]).strip("[]"), int(match["port"] or 0)
    if not is_destination(user, host):
        raise _error(f"{host[:80]!r}, or the user before it, is not a name that ssh takes")
    path = unquote(match["path"], errors="surrogateescape")
    if "\0" in path or port > _LARGEST_PORT:
        raise _error(f"port {port} or the path is not valid")
    absolute = path.removeprefix(_HOME) if path.startswith(_HOME) else path
    if not absolute.strip("/"):
        raise _error(f"the URL names no directory on {host}")
    return Address(user, host, port or None, absolute.rstrip("/").encode(errors="surrogateescape"))


def _error(message: str) -> ConfigError:
    return ConfigError(message, hint="git config theta.remote.NAME.url ssh://HOST/DIRECTORY")
