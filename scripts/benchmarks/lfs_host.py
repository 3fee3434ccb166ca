"""A host of git repositories with an LFS server, as a thread: git over HTTP by ``git http-backend``, and strict LFS.

It checks what it gets: the size and the SHA-256 of uploads, the token of each action, the media types. Faults are
injected by rules. ``log`` has each request.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from benchmarks.lfs_handler import Handler
from benchmarks.lfs_locks import Locks

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.faults import Fault, Request


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.changed = threading.Condition()
        self.connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.changed:
            self.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.changed:
            self.connections -= 1
            self.changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print an error, unless a client ended its connection, as it may; stderr may be that of a command."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class LfsHost:
    """The host.

    Args:
        root: The directory of its repositories; ``objects`` in it has the LFS objects.

    Attributes:
        user: User name and password that requests must have; None if anyone may read and write.
        others: Further users and their passwords.
        locks: The locks of files.
        ranges: Whether downloads can be continued.
        rate: Bytes per second of all uploads together; None for no limit.
        part: Size of the parts of multipart uploads; None for plain uploads.
        faults: What goes wrong.
        log: The requests.
        closing: Set when the host ends, or ends what is silent.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = root / "objects"
        self.objects.mkdir(parents=True, exist_ok=True)
        self.user: tuple[str, str] | None = None
        self.others: dict[str, str] = {}
        self.locks = Locks()
        self.ranges = True
        self.rate: float | None = None
        self._free = 0.0
        self.part: int | None = None
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.tokens: set[str] = set()
        self.verified: set[str] = set()
        self.closing = threading.Event()
        self.lock = threading.Lock()
        host = self

        class OfThis(Handler):
            site = host

        self._server = _Server(("127.0.0.1", 0), OfThis)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the host."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def repository(self, name: str = "models.git") -> str:
        """Make a bare repository that everyone can push to; returns its URL."""
        path = self.root / "git" / name
        for command in (
            ("init", "--quiet", "--bare", "--initial-branch=main", str(path)),
            ("-C", str(path), "config", "http.receivepack", "true"),
        ):
            subprocess.run(["git", *command], check=True)
        return f"{self.url}/{name}"

    def requests(self, pattern: str) -> list[Request]:
        """Return the requests whose ``METHOD PATH`` matches."""
        return [request for request in self.log if re.search(pattern, f"{request.method} {request.path}")]

    def stored(self) -> set[str]:
        """Return the ids of the objects."""
        return {path.name for path in self.objects.iterdir() if "." not in path.name}

    def object_bytes(self, path: Path) -> bytes:
        """Return the bytes of an object."""
        return path.read_bytes()

    def wait(self, seconds: float = 60) -> bool:
        """Wait until what clients that have ended asked for is done, and return whether it is.

        It must not be called while a client keeps a connection open.
        """
        # Connections are accepted in their order, so the others are counted when this one is answered.
        with socket.create_connection(self._server.server_address[:2]) as last:
            last.sendall(b"GET /info/lfs/ HTTP/1.0\r\n\r\n")
            while last.recv(1 << 10):
                pass
        with self._server.changed:
            return self._server.changed.wait_for(lambda: not self._server.connections, seconds)

    def close(self) -> None:
        """Stop the server."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def token(self) -> str:
        """Return a new header that allows an action."""
        token = os.urandom(8).hex()
        self.tokens.add(token)
        return f"Bearer {token}"

    def delay(self, nbytes: int) -> None:
        """Wait until the line has carried so many bytes."""
        if self.rate is None:
            return
        with self.lock:
            self._free = max(self._free, time.monotonic()) + nbytes / self.rate
            until = self._free
        time.sleep(max(0.0, until - time.monotonic()))

    def fault(self, line: str) -> Fault | None:
        """Return what goes wrong with a request."""
        with self.lock:
            for fault in self.faults:
                if fault.times and re.search(fault.match, line):
                    fault.times -= 1
                    return fault
        return None
