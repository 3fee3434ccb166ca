"""Who the user is for an LFS server: what git knows, and nothing of it is ever printed."""

from __future__ import annotations

import base64
import netrc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from git_theta_ext.errors import RemoteError, RepositoryError
from git_theta_ext.protocol.lfs.endpoints import without_user

if TYPE_CHECKING:
    from git_theta_ext.interfaces import GitCommands

    from ._git_settings import GitSettings

_SILENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "GCM_INTERACTIVE": "never"}


@dataclass(frozen=True)
class Credential:
    """A user name and a password, and where they come from.

    Attributes:
        source: For messages.
        user: The user name.
        password: The password or token.
        filled: What ``git credential`` printed, to approve or reject it.
        bearer: Whether the password is a token without a user name.
    """

    source: str
    user: str
    password: str
    filled: bytes | None = None
    bearer: bool = False

    def header(self) -> dict[str, str]:
        """Return the header that identifies the user."""
        if self.bearer:
            return {"Authorization": f"Bearer {self.password}"}
        pair = f"{self.user}:{self.password}".encode(errors="surrogateescape")
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def __repr__(self) -> str:
        return f"Credential({self.source})"


def configured_headers(settings: GitSettings, url: str) -> dict[str, str]:
    """Return the headers of ``http.<url>.extraHeader``, in which continuous integration has its tokens."""
    lines = (line.partition(":") for line in settings.for_url("extraheader", url))
    return {name.strip(): value.strip() for name, colon, value in lines if colon and name.strip()}


def from_url(url: str) -> Credential | None:
    """Return the user and password in a URL."""
    parts = urlsplit(url)
    if parts.username is None or parts.password is None:
        return None
    return Credential("the address of the remote", unquote(parts.username), unquote(parts.password))


def from_netrc(settings: GitSettings, url: str) -> Credential | None:
    """Return what the file ``~/.netrc`` has for the host of a URL."""
    home, host = settings.environment.get("HOME"), urlsplit(url).hostname
    if not home or not host:
        return None
    try:
        known = netrc.netrc(str(Path(home) / ".netrc")).authenticators(host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    return Credential("~/.netrc", known[0], known[2] or "") if known else None


def from_git(git: GitCommands, url: str, realm: str | None, *, ask: bool = True) -> Credential:
    """Ask ``git credential``, which asks its helpers, and then the user.

    Args:
        git: The local repository.
        url: The URL.
        realm: What the server says about the credential.
        ask: Whether the user may be asked.

    Raises:
        RemoteError: It knows none.
    """
    lines = [f"url={without_user(url)}"]
    if (user := urlsplit(url).username) is not None:
        lines.append(f"username={unquote(user)}")
    if realm:
        lines.append(f"wwwauth[]={realm}")
    data = "".join(f"{line}\n" for line in lines if not set(line) & set("\n\0")).encode(errors="surrogateescape")
    try:
        filled = git.run("credential", "fill", input=data, env=None if ask else _SILENT)
    except RepositoryError as error:
        raise RemoteError(
            f"{without_user(url)} asks for a user name and a password: {error.message}",
            hint="set up a credential helper, see git help credentials; git ls-remote tries it",
        ) from error
    fields = dict(line.partition("=")[::2] for line in filled.decode(errors="surrogateescape").splitlines())
    user = fields.get("username", "")
    return Credential(f"the credential of user {user!r} from git credential", user, fields.get("password", ""), filled)


def report(git: GitCommands | None, credential: Credential, *, accepted: bool) -> None:
    """Tell ``git credential`` whether the server accepted what it gave."""
    if git is not None and credential.filled is not None:
        git.run("credential", "approve" if accepted else "reject", input=credential.filled, check=False)
