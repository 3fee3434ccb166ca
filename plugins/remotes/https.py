"""A directory on a web server, for reading only.

The server sends files; it need not know anything of git theta. What there is to read is in the file ``theta-keys.txt``,
one path a line, or else in the pages in which the server lists the directories ``packs``, ``index`` and ``heads``.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from git_theta_ext.errors import ConfigError, RemoteError, RemoteTimeoutError
from git_theta_ext.interfaces import RemoteType, check_key, require

from ._object_options import refuse_secrets, refuse_unknown
from ._objects import ObjectStore
from ._requests import WAIT_LONGER, Connection, Requests, client_options
from ._timeout import timeout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.interfaces import RemoteContext

LIST = "theta-keys.txt"
_LARGEST_PAGE = 1 << 28
_READERS = 8
_ABSENT = (403, 404, 410)  # a server that lists no directories answers 403
_LINK = re.compile(r"""href\s*=\s*["']?(?:[^"'>\s]*/)?([0-9a-f]{64}|[0-9a-f]{2}/)["'>\s]""", re.IGNORECASE)
_KEY = re.compile(r"(?:\./)?(packs/[0-9a-f]{2}/[0-9a-f]{64}|(?:index|heads)/[0-9a-f]{64})")


def open_remote(url: str, options: Mapping[str, Any], context: RemoteContext) -> Web:
    """Open a directory at ``https://host/directory``.

    Args:
        url: The URL, without credentials.
        options: ``timeout``, the time in seconds that a server may be silent.
        context: What takes reports.

    Raises:
        ConfigError: The URL or an option is not valid.
        LibraryError: obstore is not installed.
    """
    parts = urlsplit(url)
    refuse_secrets(url)
    refuse_unknown(url, options, frozenset({"timeout"}))
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ConfigError(f"{url} is not https://host/directory", hint="git config theta.remote.NAME.url URL")
    require("obstore", f"the remote {url}")
    return Web(url.rstrip("/"), timeout_of(url, options), context.report)


REMOTE = RemoteType(("https", "http"), open_remote)


class Web(ObjectStore):
    """See ``Remote`` and ``ReadOnlyRemote``.

    Args:
        url: URL of the directory, without a slash at the end.
        timeout: Time that the server may be silent, in seconds.
        report: See ``RemoteContext``.
    """

    def __init__(self, url: str, timeout: float, report: Callable[[str, int], None]) -> None:
        requests = Requests(url, timeout, partial(_connect, url, timeout), lambda _, name: f"{url}/{name}")
        super().__init__(requests, "", report)

    def _keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of objects that start with ``prefix``."""
        listed = self._page(LIST)
        keys = (
            self._pages(prefix)
            if listed is None
            else (match[1] for match in map(_KEY.fullmatch, listed.split()) if match)
        )
        yield from (key for key in keys if key.startswith(prefix))

    def put(self, key: str, path: Path) -> bool:
        """Refuse: there is no way to write.

        Raises:
            RemoteError: Always.
        """
        del path
        check_key(key)
        raise self.read_only_error()

    def read_only_error(self) -> RemoteError:
        """Return the error for a push; see ``ReadOnlyRemote``."""
        return RemoteError(
            f"{self._url} is a web server, from which parameters can only be read: nothing is uploaded",
            hint="git config theta.remote.NAME.url URL, of a store that takes uploads",
        )

    def _pages(self, prefix: str) -> Iterator[str]:
        folders = ["index/", "heads/"]
        if "packs/".startswith(prefix) or prefix.startswith("packs/"):
            packs = self._page("packs/")
            if packs is None:
                raise RemoteError(
                    f"{self._url} has neither a file {LIST} nor a page that lists packs/",
                    hint=f"on the server: find . -type f | tee {LIST}",
                )
            folders += [f"packs/{name}" for name in _links(packs) if name.endswith("/")]
        wanted = [folder for folder in folders if folder.startswith(prefix) or prefix.startswith(folder)]
        with ThreadPoolExecutor(_READERS) as executor:
            for folder, page in zip(wanted, executor.map(self._page, wanted), strict=True):
                yield from (folder + name for name in _links(page or "") if not name.endswith("/"))

    def _page(self, name: str) -> str | None:
        """Return the text of a page, or None if the server does not have it."""
        address = f"{self._url}/{name}"
        try:
            with urlopen(address, timeout=self._requests.timeout) as response:  # noqa: S310 - open_remote checks it
                data: bytes = response.read(_LARGEST_PAGE + 1)
        except HTTPError as error:
            if error.code in _ABSENT:
                return None
            raise RemoteError(f"{address}: {error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, TimeoutError):
                raise RemoteTimeoutError(
                    f"{self._url}: no answer for {self._requests.timeout:g} seconds", hint=WAIT_LONGER
                ) from error
            raise RemoteError(f"{address}: {reason}") from error
        if len(data) > _LARGEST_PAGE:
            raise RemoteError(f"{address} has more than {_LARGEST_PAGE} bytes")
        return data.decode(errors="replace")


def _connect(url: str, timeout: float) -> Connection:
    from obstore.store import HTTPStore

    store = HTTPStore(url, **client_options(timeout, plain=url.startswith("http:"), writing=False))
    return Connection(store, store, "without credentials")


def _links(page: str) -> Iterator[str]:
    """Yield the names in a page's links that can be part of a key: packs, and directories of packs."""
    return (match[1].lower() for match in _LINK.finditer(page))
