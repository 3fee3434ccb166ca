"""The remote on giftless, an LFS server of others: it stores anonymously, ignores ranges, and checks no bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(find_spec("giftless") is None, reason="giftless is not installed")

CONFIGURATION = """\
AUTH_PROVIDERS: ["giftless.auth.allow_anon:read_write"]
TRANSFER_ADAPTERS:
  basic:
    factory: giftless.transfer.basic_streaming:factory
    options:
      storage_class: giftless.storage.local_storage:LocalStorage
      storage_options: {{path: {store}}}
"""
SERVE = """\
from giftless.app import init_app
from werkzeug.serving import WSGIRequestHandler, make_server
WSGIRequestHandler.protocol_version = "HTTP/1.1"
server = make_server("127.0.0.1", 0, init_app(), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def giftless(tmp_path: Path, store: Path) -> Iterator[str]:
    """Return the URL of a repository's LFS server."""
    configuration = tmp_path / "giftless.yaml"
    configuration.write_text(CONFIGURATION.format(store=store))
    with subprocess.Popen(
        [sys.executable, "-c", SERVE],
        env={**os.environ, "GIFTLESS_CONFIG_FILE": str(configuration)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/team/models.git/info/lfs"
        process.terminate()


def test_push_clone_and_repair(two: Repo, url: str, giftless: str, store: Path, tmp_path: Path) -> None:
    two.git("theta", "install", "--global")
    (two.path / ".lfsconfig").write_text(f"[lfs]\n\turl = {giftless}\n")
    two.commit("say where the server is")
    two.git("remote", "add", "origin", url)
    two.git("push", "--quiet", "origin", "main")
    objects = [path for path in store.rglob("*") if path.is_file()]
    assert objects
    Repo(tmp_path).git("clone", "--quiet", url, "clone")
    assert Repo(tmp_path / "clone").problems(MODEL, model(2)) == []
    # Wrong bytes of the right size: the server takes them for the object, and offers no upload.
    for path in objects:
        path.write_bytes(bytes(path.stat().st_size))
    refused = Repo(tmp_path).run("clone", "--quiet", url, "second", check=False)
    assert "tensors are not in the store" in refused.stderr
    assert Repo(tmp_path / "second").read().startswith(b"git-theta")
    for path in objects:
        path.unlink()
    two.git("theta", "push", "--all", "origin")
    Repo(tmp_path).git("clone", "--quiet", url, "third")
    assert Repo(tmp_path / "third").problems(MODEL, model(2)) == []
