"""Ports of servers that cannot choose one themselves."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress


def free_port() -> int:
    """Return a port of the loopback interface that is not in use.

    It is below those that the system gives to programs that do not care, so that none of them gets it meanwhile.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
