"""Send requests by obstore: time limits, retries, busy servers, and errors that people understand."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from git_theta_ext.errors import MissingError, RemoteError, RemoteTimeoutError
from git_theta_ext.protocol.lfs.retry import LONGEST_WAIT, backoff

from ._object_errors import read_failure
from ._retry_after import seconds_to_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._object_errors import Failure

Result = TypeVar("Result")

IN_FLIGHT = 1 << 25
"""The most bytes that are being uploaded at one time."""

_SLOWEST = 1 << 18
"""The rate in bytes per second at which all that is being uploaded gets through within the additional time."""

_REQUEST_SECONDS = 600
"""The longest time of one request, after which a slow download is resumed by another one."""

_CONNECT_SECONDS = 30
_RETRIES = 4
_SIGNED = timedelta(minutes=5)
WAIT_LONGER = "git config theta.remote.NAME.timeout SECONDS waits longer; received bytes are kept"
_PUBLIC = "git config theta.remote.NAME.credentials anonymous, if it is public; otherwise check the credentials"


@dataclass(frozen=True)
class Connection:
    """What obstore needs to access objects.

    Attributes:
        reading: A store whose requests end after the time that the server may be silent.
        writing: A store for uploads. It waits longer, because the server is silent until it has a whole part.
        tried: Which credentials are used, for messages.
    """

    reading: Any
    writing: Any
    tried: str


def client_options(timeout: float, *, plain: bool, writing: bool) -> dict[str, Any]:
    """Return the arguments of a store of obstore for its time limits and retries.

    Args:
        timeout: Time that the server may be silent, in seconds.
        plain: Whether the server may have no TLS.
        writing: Whether the store is for uploads.
    """
    silence = timeout + (IN_FLIGHT / _SLOWEST if writing else 0)
    return {
        "client_options": {
            "allow_http": plain,
            "connect_timeout": timedelta(seconds=min(timeout, _CONNECT_SECONDS)),
            "read_timeout": timedelta(seconds=silence),
            "timeout": timedelta(seconds=max(_REQUEST_SECONDS, silence)),
        },
        "retry_config": {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=timeout),
            "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=5), "base": 2},
        },
    }


class Requests:
    """Sends requests to one server.

    Args:
        url: The URL of the remote, for messages.
        timeout: Time that the server may be silent, in seconds.
        connect: Makes the connection, before the first request. It may send requests, too.
        address: Returns the URL of an object by its name, signed for the method HEAD.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        connect: Callable[[], Connection],
        address: Callable[[Connection, str], str],
    ) -> None:
        self.url = url
        self.timeout = timeout
        self._connect = connect
        self._address = address
        self._lock = Lock()

    @property
    def connection(self) -> Connection:
        """The connection."""
        with self._lock:
            return self._connected

    @cached_property
    def _connected(self) -> Connection:
        return self._connect()

    def run(self, action: Callable[[], Result], name: str, *, reads: bool = False) -> Result:
        """Send requests, and send them again while the server is busy.

        Args:
            action: Sends them.
            name: Name of the object that they are about.
            reads: Whether the object should exist.

        Raises:
            MissingError: The object should exist and does not.
            RemoteError: The server cannot be reached or refuses.
            RemoteTimeoutError: The server is silent or busy for too long.
        """
        from obstore.exceptions import BaseError

        began, failures = time.monotonic(), 0
        while True:
            try:
                return action()
            except (BaseError, OSError, NotImplementedError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of a local file
                failure = read_failure(error)
                if not failure.busy:
                    raise self._explained(failure, name if reads else None) from error
                asked = self._asked_pause(name)
                limit = self.timeout if asked is None else LONGEST_WAIT
                failures, waited = failures + 1, time.monotonic() - began
                wait = max(asked or 0.0, backoff(failures, random.random()))  # noqa: S311 - no secret
                if waited + wait > limit:
                    raise RemoteTimeoutError(
                        f"{self.url}: the server is busy: {failure.reason} after {waited:.0f} seconds"
                        + (f"; it asks to wait for {asked:.0f} more" if asked else ""),
                        hint="try again later; what is complete is kept",
                    ) from error
            time.sleep(wait)

    def _asked_pause(self, name: str) -> float | None:
        try:
            return seconds_to_wait(self._address(self.connection, name))
        except Exception:  # noqa: BLE001 - some credentials cannot sign addresses; then the server is not asked
            return None

    def _explained(self, failure: Failure, reads: str | None) -> MissingError | RemoteError:
        if failure.missing and reads is not None:
            return MissingError(f"{reads} is not in {self.url}")
        if failure.no_credentials:
            # Another try would ask the metadata server of a cloud again, which is silent on other machines.
            return RemoteTimeoutError(
                f"{self.url}: no credentials in the environment, in the provider's files or on this machine: "
                f"{failure.reason}",
                hint=_PUBLIC,
            )
        if failure.silent:
            return RemoteTimeoutError(f"{self.url}: no answer for {self.timeout:g} seconds", hint=WAIT_LONGER)
        message, hint = failure.reason, None
        if failure.missing:
            message, hint = f"{message}: there is no such bucket", "git config theta.remote.NAME.url URL, or create it"
        elif failure.denied:
            message = f"{message}, {self.connection.tried}"
            hint = _PUBLIC
        elif failure.wrong_region:
            hint = "git config theta.remote.NAME.region REGION"
        return RemoteError(f"{self.url}: {message}", hint=hint)


def signed_address(connection: Connection, name: str) -> str:
    """Return the signed URL of an object for the method HEAD."""
    import obstore

    return str(obstore.sign(connection.reading, "HEAD", name, _SIGNED))
