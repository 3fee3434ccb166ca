"""Where an LFS server is, and who the user is there."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

from git_theta_ext.errors import ConfigError, ProtocolError, RemoteError
from git_theta_ext.interfaces import redacted
from git_theta_ext.protocol.lfs.batch import read_authentication
from git_theta_ext.protocol.lfs.endpoints import is_http, lfs_url, ssh_address, without_user

from ._credentials import configured_headers, from_git, from_netrc, from_url, report
from ._hugging_face_tokens import token_of_environment, token_of_login, wants_token
from ._lfs_ssh import authenticate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import GitCommands
    from git_theta_ext.protocol.lfs.batch import Operation

    from ._credentials import Credential
    from ._git_settings import GitSettings

STORE_HINT = "git config theta.remote.NAME.url URL stores parameters elsewhere: s3://…, ssh://… or a directory"

_ANONYMOUS: dict[str, str] = {}


@dataclass
class Endpoint:
    """The server for an operation.

    Attributes:
        url: Its address.
        headers: The headers that identify the user.
        credential: Where they come from; None if that is not known.
        ssh: Whether they come from ``git-lfs-authenticate``.
        guessed: Whether the host with ssh does not say where its server is.
        expires: When the headers expire, in seconds since 1970.
        tried: Where credentials came from that the server refused.
        worked: Whether the server has given a valid answer.
        shared: Whether the headers are those for uploads, although the operation is another.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=lambda: _ANONYMOUS)
    credential: Credential | None = None
    ssh: bool = False
    guessed: bool = False
    expires: float | None = None
    tried: tuple[str, ...] = ()
    worked: bool = False
    shared: bool = False

    @property
    def over(self) -> bool:
        """Whether the time of the headers is over."""
        return self.expires is not None and self.expires <= time.time()

    @property
    def expired(self) -> bool:
        """Whether another login can be had for one that the server accepted, and now refuses."""
        renewable = self.ssh or (self.credential is not None and self.credential.filled is not None)
        return self.worked and renewable


class Endpoints:
    """The server of a git remote for each operation, for any number of threads.

    Args:
        git: The local repository.
        settings: Its settings.
        name: Name of the git remote.
        address: Its address.
    """

    def __init__(self, git: GitCommands, settings: GitSettings, name: str, address: str) -> None:
        self._git = git
        self._settings = settings
        self._name = name
        self._address = address
        self._known: dict[Operation, Endpoint] = {}
        self._refused: RemoteError | None = None
        self._lock = Lock()

    def get(self, operation: Operation) -> Endpoint:
        """Return the server for an operation.

        Raises:
            ConfigError: It has no valid address.
            RemoteError: A host with ssh could not be asked, or the server refused the user already.
        """
        with self._lock:
            if self._refused is not None:
                raise self._refused
            known = self._known.get(operation)
            if known is None or known.over:
                known = self._known[operation] = self._shared(operation) or self._discover(operation)
            return known

    def url(self, operation: Operation) -> str | None:
        """Return the address of the server by the settings or by that of the remote, without asking a host with ssh."""
        address, named = self._configured(operation)
        return address if named and ssh_address(address) is None else lfs_url(address)

    def log_in(self, operation: Operation, endpoint: Endpoint, challenge: str | None) -> None:
        """Find a credential after the server asked for one.

        A login may expire during a long push. Then the host with ssh or git gives another one.

        Raises:
            RemoteError: There is none, or the server refused the one that was sent.
        """
        with self._lock:
            if self._known.get(operation) is not endpoint:
                return  # another thread has just found one
            if endpoint.shared:
                self._known[operation] = self._discover(operation)
                return
            sent, tried = endpoint.credential, endpoint.tried
            if sent is not None:
                report(self._git, sent, accepted=False)
                tried += (sent.source,)
            elif endpoint.ssh or _identifies(endpoint.headers):
                tried += ("git-lfs-authenticate" if endpoint.ssh else "http.extraHeader",)
            if endpoint.expired:
                del self._known[operation]
                return
            if tried and not (sent and sent.bearer):
                self._refused = RemoteError(
                    f"{redacted(without_user(endpoint.url))} does not accept {' or '.join(tried)}",
                    hint="git ls-remote tries the credential; git help credentials says how to replace it",
                )
                raise self._refused
            candidates = self._candidates(endpoint.url, challenge)
            try:
                found = next(one for one in candidates if one is not None and one.source not in tried)
            except RemoteError as error:
                refused = f"; it does not accept {' or '.join(tried)}" if tried else ""
                told = RemoteError(error.message + refused, hint=error.hint)
                self._refused = self.no_server(endpoint, error.message) if endpoint.guessed else told
                raise self._refused from error
            headers = {**endpoint.headers, **found.header()}
            self._known[operation] = Endpoint(endpoint.url, headers, found, guessed=endpoint.guessed, tried=tried)

    def _candidates(self, url: str, challenge: str | None) -> Iterator[Credential | None]:
        """Yield credentials, in the order in which they are tried.

        Raises:
            RemoteError: Git knows none.
        """
        yield from_netrc(self._settings, url)
        if wants_token(url):
            environment = self._settings.environment
            yield token_of_environment(environment)
            with suppress(RemoteError):  # git itself uses it, and it may have more permissions than a token in a file
                yield from_git(self._git, url, challenge, ask=False)
            yield token_of_login(environment)
        yield from_git(self._git, url, challenge)

    def accepted(self, endpoint: Endpoint) -> None:
        """Note that the server gave a valid answer."""
        endpoint.guessed = False
        if endpoint.worked:
            return
        endpoint.worked = True
        if endpoint.credential is not None:
            report(self._git, endpoint.credential, accepted=True)

    def no_server(self, endpoint: Endpoint, why: str) -> RemoteError:
        """Return the error for a guessed address at which there is no server."""
        return RemoteError(
            f"{redacted(self._address)} has no LFS server: it has no git-lfs-authenticate, and at the usual place, "
            f"{redacted(endpoint.url)}, there is none ({why})",
            hint=f"{STORE_HINT}; git config lfs.url URL names an LFS server",
        )

    def _configured(self, operation: Operation) -> tuple[str, bool]:
        """Return the address to begin with, as git-lfs does, and whether it is that of an LFS server itself."""
        keys = [f"remote.{self._name}.lfsurl", "lfs.url"]
        if operation == "upload":
            keys = [f"remote.{self._name}.lfspushurl", "lfs.pushurl", *keys]
        named = self._settings.text(*keys)
        return (self._settings.rewritten(named), True) if named else (self._address, False)

    def _shared(self, operation: Operation) -> Endpoint | None:
        """Return the server for uploads if a host with ssh named it, because asking the host again takes a second.

        Who may upload may download. A server that knows better gets what the host says for downloads.
        """
        known = self._known.get("upload")
        if operation != "download" or known is None or not known.ssh or known.over:
            return None
        same = self._configured("upload") == self._configured("download")
        return replace(known, shared=True) if same else None

    def _discover(self, operation: Operation) -> Endpoint:
        address, named = self._configured(operation)
        if (ssh := ssh_address(address)) is not None:
            guess = lfs_url(address) or ""
            output = authenticate(self._git, ssh, operation)
            if output is not None:
                try:
                    given = read_authentication(output, guess, time.time())
                except ProtocolError as error:
                    raise RemoteError(f"{ssh.destination}: {error.message}", hint=STORE_HINT) from error
                return Endpoint(given.href, given.header, ssh=True, expires=given.expires)
            return Endpoint(guess, configured_headers(self._settings, guess), guessed=True)
        url = address if named else lfs_url(address)
        if url is None or not is_http(url):
            raise ConfigError(f"{redacted(address)} is not the address of an LFS server", hint=STORE_HINT)
        headers = configured_headers(self._settings, url)
        credential = from_url(url)
        if credential is not None and not _identifies(headers):
            return Endpoint(url, {**headers, **credential.header()}, credential)
        return Endpoint(url, headers)


def _identifies(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "authorization" for name in headers)
