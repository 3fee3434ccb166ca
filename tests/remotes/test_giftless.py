"""The remote on giftless, an LFS server of others: it checks no bytes, ignores ranges, and its tokens expire soon."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model
from servers import AZURE_ACCOUNT, AZURE_KEY, GIFTLESS_LOGIN, ID, SECRET
from servers import giftless as running

from git_theta_ext.errors import RemoteError
from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes._http import Http
from git_theta_plugins.remotes.lfs import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from git_theta_plugins.remotes.lfs import Lfs

    Opened = Callable[..., Lfs]

pytestmark = pytest.mark.skipif(find_spec("giftless") is None, reason="giftless is not installed")


def key_of(data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    return f"packs/{name[:2]}/{name}"


def token(scope: str = "obj:team/*", *, seconds: int = 600) -> str:
    """Return a login."""
    import jwt

    return jwt.encode({"sub": "me", "scopes": scope, "exp": int(time.time()) + seconds}, GIFTLESS_LOGIN)


def remember(server: str, login: str, place: Path) -> str:
    """Write a file for git's helper of credentials; returns the setting of it."""
    place.write_text(server.replace("http://", f"http://_jwt:{login}@").partition("/team")[0] + "\n")
    return f"store --file={place}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def streaming(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server with files of its own."""
    options = {
        "storage_class": "giftless.storage.local_storage:LocalStorage",
        "storage_options": {"path": str(store)},
    }
    basic = {"factory": "giftless.transfer.basic_streaming:factory", "options": options}
    with running(tmp_path_factory.mktemp("giftless"), {"basic": basic}) as url:
        yield url


@pytest.fixture(scope="module")
def signing(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that signs URLs of S3."""
    options = {
        "storage_class": "giftless.storage.amazon_s3:AmazonS3Storage",
        "storage_options": {"bucket_name": "models", "path_prefix": "lfs", "endpoint": moto},
        "action_lifetime": 900,
    }
    basic = {"factory": "giftless.transfer.basic_external:factory", "options": options}
    keys = {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    with running(tmp_path_factory.mktemp("giftless"), {"basic": basic}, **keys) as url:
        yield url


@pytest.fixture(scope="module")
def azure(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that signs URLs of Azure, and takes uploads in parts."""
    pytest.importorskip("azure.storage.blob", exc_type=ImportError)
    connection = f"AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={azurite}"
    options = {
        "storage_class": "giftless.storage.azure:AzureBlobsStorage",
        "storage_options": {"connection_string": connection, "container_name": "models"},
        "action_lifetime": 900,
    }
    adapters = {
        "basic": {"factory": "giftless.transfer.basic_external:factory", "options": options},
        "multipart-basic": {
            "factory": "giftless.transfer.multipart:factory",
            "options": {**options, "max_part_size": 100_000},
        },
    }
    with running(tmp_path_factory.mktemp("giftless"), adapters) as url:
        yield url


@pytest.fixture
def opened(url: str, tmp_path: Path) -> Opened:
    """Return what opens a remote with an index on the host and packs on another server, and a login for that."""
    local = tmp_path / "local"

    def opened(server: str, login: str) -> Lfs:
        subprocess.run(["git", "init", "--quiet", str(local)], check=True)
        settings = {"lfs.url": server, "credential.helper": remember(server, login, tmp_path / "login")}
        for name, value in settings.items():
            subprocess.run(["git", "-C", str(local), "config", name, value], check=True)
        return open_remote(url, {}, RemoteContext("origin", url, Repository.discover(local)))

    return opened


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return the file of a pack that no server has."""
    path = tmp_path / "pack"
    path.write_bytes(os.urandom(300_000))
    return path


def test_push_clone_and_repair(two: Repo, url: str, streaming: str, store: Path, tmp_path: Path) -> None:
    two.git("theta", "install", "--global")
    two.git("config", "--global", "credential.helper", remember(streaming, token(), tmp_path / "login"))
    (two.path / ".lfsconfig").write_text(f"[lfs]\n\turl = {streaming}\n")
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
    assert "tensors and file layouts are not in the store" in refused.stderr
    assert "git theta push --all --verify" in refused.stderr
    assert Repo(tmp_path / "second").read().startswith(b"git-theta")
    two.git("theta", "push", "--all", "--verify", "origin")
    Repo(tmp_path).git("clone", "--quiet", url, "third")
    assert Repo(tmp_path / "third").problems(MODEL, model(2)) == []


def test_tokens_that_expire_before_they_are_used_are_replaced(
    streaming: str, opened: Opened, pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"PUT"}
    real = Http.request

    def slow(self, method, *args, **options):
        if method in late:
            late.remove(method)
            time.sleep(2.1)  # the server's clock counts whole seconds
        return real(self, method, *args, **options)

    monkeypatch.setattr(Http, "request", slow)
    remote, key = opened(streaming, token()), key_of(pack.read_bytes())
    assert remote.put(key, pack)
    assert late == set()
    assert remote.get(key, 299_990) == pack.read_bytes()[299_990:]


def test_a_user_who_may_only_read_is_told(streaming: str, opened: Opened, pack: Path) -> None:
    data = pack.read_bytes()
    assert opened(streaming, token()).put(key_of(data), pack)
    login = token("obj:team/*:read")
    reader = opened(streaming, login)
    pack.write_bytes(b"another pack")
    with pytest.raises(RemoteError, match=r"not authorized .*status 403, with the credential of user '_jwt'") as caught:
        reader.put(key_of(b"another pack"), pack)
    assert login not in f"{caught.value.message} {caught.value.hint}"


def test_a_login_that_expired_is_named_and_not_printed(streaming: str, opened: Opened, pack: Path) -> None:
    login = token(seconds=-60)
    with pytest.raises(RemoteError, match="does not accept the credential of user '_jwt' from git") as caught:
        opened(streaming, login).put(key_of(pack.read_bytes()), pack)
    assert login not in f"{caught.value.message} {caught.value.hint}"


def test_signed_urls_of_s3_take_uploads_and_ranges(
    signing: str, moto: str, opened: Opened, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Mapping[str, str]] = []
    real = Http.request

    def recorded(self, method, url, headers, *args, **options):
        if url.startswith(moto) and method == "PUT":
            sent.append(headers)
        return real(self, method, url, headers, *args, **options)

    monkeypatch.setattr(Http, "request", recorded)
    data = pack.read_bytes()
    remote = opened(signing, token())
    assert remote.put(key_of(data), pack)
    (headers,) = sent
    # S3 compares it with what it gets; moto does not.
    assert headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert "Authorization" not in headers
    assert not remote.put(key_of(data), pack)
    assert remote.get(key_of(data), 100_000, 100_010) == data[100_000:100_010]
    part = tmp_path / "part"
    part.write_bytes(data[:200_000])
    remote.fetch(key_of(data), part, len(data))
    assert part.read_bytes() == data


def test_signed_urls_of_azure_take_uploads_and_ranges(azure: str, opened: Opened, pack: Path, tmp_path: Path) -> None:
    data = pack.read_bytes()
    remote = opened(azure, token())
    assert remote.put(key_of(data), pack)
    assert not remote.put(key_of(data), pack)
    assert remote.get(key_of(data), 100_000, 100_010) == data[100_000:100_010]
    part = tmp_path / "part"
    part.write_bytes(data[:200_000])
    remote.fetch(key_of(data), part, len(data))
    assert part.read_bytes() == data
