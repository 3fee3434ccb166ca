"""A host of git repositories with an LFS server, as a thread: git over HTTP by ``git http-backend``, and strict LFS.

It checks what it gets: the size and the SHA-256 of uploads, the token of each action, the media types. Faults are
injected by rules. ``log`` has each request.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

from benchmarks.lfs_handler import Handler
from benchmarks.lfs_locks import Locks

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.faults import Fault, Request


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
        running: The number of requests that are being answered.
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
        self.running = 0
        self.lock = threading.Lock()
        host = self

        class OfThis(Handler):
            site = host

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), OfThis)
        self._server.daemon_threads = True
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

    def close(self) -> None:
        """Stop the server."""
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
