"""Addresses: the LFS server that belongs to a git remote, and the settings of git that apply to a URL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from git_theta_ext.protocol.ssh import is_destination
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

_PORTS = {"http": 80, "https": 443}
_SCP = re.compile(r"(?:([^@/:\s]+)@)?(\[[0-9A-Fa-f:.]+\]|[^@/:\s\[\]]+):(?!//)(.+)", re.DOTALL)
_SSH_SCHEMES = frozenset({"ssh", "git+ssh", "ssh+git"})


@dataclass(frozen=True)
class SshAddress:
    """A repository on a host with ssh.

    Attributes:
        user: Name of the user; None for the default of ssh.
        host: Name or address of the host, without brackets.
        port: The port; None for the default of ssh.
        path: Path of the repository.
    """

    user: str | None
    host: str
    port: int | None
    path: str

    @property
    def destination(self) -> str:
        """The argument of ssh."""
        return f"{self.user}@{self.host}" if self.user else self.host


def ssh_address(address: str) -> SshAddress | None:
    """Return the parts of an ``ssh://`` URL or of ``user@host:path``, by the rules of git; None for other addresses."""
    if "://" in address:
        try:
            parts = urlsplit(address)
            if parts.scheme not in _SSH_SCHEMES or not parts.hostname:
                return None
            user = unquote(parts.username) if parts.username else None
            return _safe(SshAddress(user, parts.hostname, parts.port, unquote(parts.path)))
        except ValueError:
            return None
    match = _SCP.fullmatch(address)
    if match is None or "/" in address[: address.find(":")]:
        return None
    return _safe(SshAddress(match[1], match[2].strip("[]"), None, match[3]))


def _safe(address: SshAddress) -> SshAddress | None:
    """Refuse what ssh or the program at the other end would take as an option."""
    return address if is_destination(address.user, address.host) and not address.path.startswith("-") else None


def is_http(address: str) -> bool:
    """Return whether an address is a URL of ``http`` or ``https`` with a host."""
    try:
        parts = urlsplit(address)
        return parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def lfs_url(address: str) -> str | None:
    """Return the URL of the LFS server that belongs to the address of a git remote; None if there is no rule."""
    if is_http(address):
        parts = urlsplit(address)
        path = parts.path.rstrip("/")
        suffix = "/info/lfs" if path.endswith(".git") else ".git/info/lfs"
        return urlunsplit((parts.scheme, parts.netloc, path + suffix, "", ""))
    if (ssh := ssh_address(address)) is not None:
        host = f"[{ssh.host}]" if ":" in ssh.host else ssh.host
        return lfs_url(f"https://{host}/{ssh.path.lstrip('/')}")
    return None


def without_user(url: str) -> str:
    """Return a URL without its user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def instead_of(address: str, rules: Iterable[tuple[str, str]]) -> str:
    """Return an address after ``url.<base>.insteadOf``: the longest prefix counts.

    Args:
        address: The address.
        rules: Base and prefix.
    """
    fitting = [(prefix, base) for base, prefix in rules if prefix and address.startswith(prefix)]
    prefix, base = max(fitting, key=lambda rule: len(rule[0]), default=("", ""))
    return base + address[len(prefix) :]


def match_length(pattern: str, url: str) -> int | None:
    """Return how well the URL of a setting ``http.<url>.*`` fits a URL, as a length; None if it does not.

    The scheme, the host and the port must be the same, but a part of the host may be ``*``. The path must be the first
    components of the other path. A user must be the same if the pattern has one.
    """
    try:
        have, want = urlsplit(url), urlsplit(pattern)
        if want.scheme.lower() != have.scheme.lower() or _port(want) != _port(have):
            return None
    except ValueError:
        return None
    if want.username and want.username != have.username:
        return None
    names, stars = (have.hostname or "").split("."), (want.hostname or "").split(".")
    if len(names) != len(stars) or any(star not in {"*", name} for star, name in zip(stars, names, strict=True)):
        return None
    path = want.path.rstrip("/") + "/"
    if not (have.path.rstrip("/") + "/").startswith(path):
        return None
    return len(path) * 4 + 2 * ("*" not in stars) + bool(want.username)


def same_origin(one: str, other: str) -> bool:
    """Return whether two URLs have the same scheme, host and port."""
    return origin(one) == origin(other)


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL of ``http`` or ``https``."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", _port(parts)


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS.get(parts.scheme, 0)
