"""Servers for tests of remotes, on the loopback interface."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, cast

from benchmarks.ports import free_port

from git_theta_ext.interfaces import RemoteContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from http.server import BaseHTTPRequestHandler

    from git_theta_ext.interfaces import GitCommands

ID, SECRET = "theta-key", "theta-secret"
AZURE_ACCOUNT = "devstoreaccount1"
# Everybody's: the key of Azure's emulator.
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

GIFTLESS_LOGIN = "the key that signs who a user is, of 32 bytes or more"
GIFTLESS_ACTIONS = "the key that signs what an action may do, of 32 bytes or more"
_SERVE_GIFTLESS = """\
from giftless.app import init_app
from werkzeug.serving import WSGIRequestHandler, make_server
WSGIRequestHandler.protocol_version = "HTTP/1.1"
server = make_server("127.0.0.1", 0, init_app(), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Git:
    """What remotes see of a repository."""

    def __init__(self, folder: Path) -> None:
        self.common_dir = folder

    def environment(self) -> dict[str, str]:
        return dict(os.environ)


def silent(key: str, nbytes: int) -> None:
    """Take a report of a remote that nobody watches."""


def context(folder: Path = Path(os.devnull), report: Callable[[str, int], None] = silent) -> RemoteContext:
    """Return what a remote is opened for: a repository in a directory, by default one that cannot be written."""
    return RemoteContext(git=cast("GitCommands", Git(folder)), report=report)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing: clients end connections when they want."""


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve requests in threads, and give the address."""
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def running(*command: str) -> Iterator[str]:
    """Run a server, which gets its port for the word ``PORT``, and give the address."""
    port = free_port()
    words = [word.replace("PORT", str(port)) for word in command]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not _listens(port):
            assert process.poll() is None, words
            assert time.monotonic() < end, words
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def giftless(folder: Path, adapters: Mapping[str, object], **environment: str) -> Iterator[str]:
    """Run giftless, whose users log in by JSON web tokens, and give the address of a repository's LFS server.

    Args:
        folder: Where its configuration is written.
        adapters: How objects are transferred.
        environment: Variables for the server.
    """
    # It takes tokens that expired up to 10 seconds ago, so that these are valid for less than 2 seconds.
    actions = {"private_key": GIFTLESS_ACTIONS, "default_lifetime": -8}
    settings = {
        "LEGACY_ENDPOINTS": False,
        "AUTH_PROVIDERS": [{"factory": "giftless.auth.jwt:factory", "options": {"private_key": GIFTLESS_LOGIN}}],
        "PRE_AUTHORIZED_ACTION_PROVIDER": {"factory": "giftless.auth.jwt:factory", "options": actions},
        "TRANSFER_ADAPTERS": adapters,
    }
    configuration = folder / "giftless.yaml"
    configuration.write_text(json.dumps(settings))  # which is YAML as well
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE_GIFTLESS],
        env={**os.environ, **environment, "GIFTLESS_CONFIG_FILE": str(configuration)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/team/models.git/info/lfs"
        process.terminate()


def make_container(url: str) -> None:
    """Create a container by a request that the account's key signs."""
    sent = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in sent.items())]
    lines += [f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/models", "restype:container"]
    digest = hmac.new(base64.b64decode(AZURE_KEY), "\n".join(lines).encode(), hashlib.sha256).digest()
    sent["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"
    connection = HTTPConnection(url.removeprefix("http://"))
    connection.request("PUT", f"/{AZURE_ACCOUNT}/models?restype=container", headers={**sent, "Content-Length": "0"})
    assert connection.getresponse().status == 201
    connection.close()
