import json
import os
import subprocess
import sys

import pytest
from servers import AZURE_ACCOUNT, AZURE_KEY, ID, SECRET, context, silent

from git_theta_ext.errors import MissingError, RemoteError
from git_theta_ext.testing import RemoteTests
from git_theta_ext.testing.remotes import Reports
from git_theta_plugins.remotes import _objects
from git_theta_plugins.remotes.object_store import open_remote

KEY = "packs/ab/" + "ab" * 32


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)


def opened(url, endpoint, report=silent, **options):
    if url.startswith("s3:"):
        options.setdefault("region", "us-east-1")
    return open_remote(url, {"endpoint": endpoint, **options}, context(report=report))


@pytest.fixture
def report():
    return Reports()


class TestS3(RemoteTests):
    @pytest.fixture
    def remote(self, moto, tmp_path, report):
        return opened(f"s3://models/{tmp_path.name}", moto, report, credentials="environment")


def test_a_server_can_be_named_in_the_environment(moto, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    remote = open_remote(f"s3://models/{tmp_path.name}", {"region": "us-east-1"}, context())
    assert list(remote.list("packs/")) == []


class TestS3ThatChecksSignatures(RemoteTests):
    @pytest.fixture
    def remote(self, rclone, tmp_path):
        return opened(f"s3://models/{tmp_path.name}", rclone)

    @pytest.mark.skip(reason="this server writes although the request forbids it, which is harmless")
    def test_a_pack_is_put_once(self, remote, tmp_path): ...

    @pytest.mark.skip(reason="this server writes although the request forbids it, which is harmless")
    def test_a_published_entry_stays_as_it_is(self, remote, tmp_path): ...


def use_google(monkeypatch, url):
    account = {"disable_oauth": True, "gcs_base_url": url, **dict.fromkeys(("client_email", "private_key"), "")}
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps({**account, "private_key_id": ""}))


class TestGoogle(RemoteTests):
    @pytest.fixture
    def remote(self, google, tmp_path, monkeypatch):
        use_google(monkeypatch, google)
        return opened(f"gs://models/google/{tmp_path.name}", google)


class TestAzure(RemoteTests):
    @pytest.fixture
    def remote(self, azurite, tmp_path):
        return opened(f"az://models/{tmp_path.name}", azurite, account=AZURE_ACCOUNT)


@pytest.mark.parametrize("server", ["moto", "rclone", "google", "azurite"])
def test_a_large_object_goes_in_parts_unless_it_is_there(server, request, tmp_path, monkeypatch):
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(_objects, "_PART", 30_000)
    scheme = {"google": "gs", "azurite": "az"}.get(server, "s3")
    options = {"account": AZURE_ACCOUNT} if scheme == "az" else {}
    if scheme == "gs":
        use_google(monkeypatch, request.getfixturevalue(server))
    remote = opened(f"{scheme}://models/parts-{server}", request.getfixturevalue(server), **options)
    content = os.urandom(100_000)
    (tmp_path / "a").write_bytes(content)
    assert remote.put(KEY, tmp_path / "a") is True
    assert remote.put(KEY, tmp_path / "a") is False
    assert remote.get(KEY) == content


def test_an_upload_in_parts_shows_progress_and_can_be_stopped(moto, tmp_path, report, monkeypatch):
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(_objects, "_PART", 30_000)
    monkeypatch.setattr(_objects, "_PARTS_AT_ONCE", 1)
    remote = opened("s3://models/stopped", moto, report)
    (tmp_path / "a").write_bytes(os.urandom(100_000))
    report.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        remote.put(KEY, tmp_path / "a")
    assert list(remote.list("")) == []
    report.error, report.taken = None, []
    assert remote.put(KEY, tmp_path / "a") is True
    assert report.taken == [(KEY, 0), (KEY, 0), (KEY, 30_000), (KEY, 40_000)]


def test_prefixes_keep_remotes_in_one_bucket_apart(moto, tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    opened("s3://models/left", moto).put(KEY, tmp_path / "a")
    assert list(opened("s3://models/left", moto).list("")) == [KEY]
    assert list(opened("s3://models/lef", moto).list("")) == []
    assert list(opened("s3://models/left%20and right", moto).list("")) == []


def test_objects_without_a_prefix_are_at_the_top_of_the_bucket(rclone, tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    opened("s3://models", rclone).put(KEY, tmp_path / "a")
    assert KEY in list(opened("s3://models/", rclone).list("packs/"))


def test_a_bucket_that_does_not_exist_is_an_error(moto, tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    remote = opened("s3://nobody", moto)
    for call in (lambda: list(remote.list("")), lambda: remote.put(KEY, tmp_path / "a")):
        with pytest.raises(RemoteError, match=r"NoSuchBucket.*no such bucket") as caught:
            call()
        assert "<" not in caught.value.message
    with pytest.raises(MissingError):
        remote.get(KEY)


def test_a_wrong_secret_is_an_error_that_says_which_was_tried(rclone, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(RemoteError, match=r"403 Forbidden \(SignatureDoesNotMatch\), with AWS_ACCESS_KEY_ID"):
        list(opened("s3://models", rclone).list(""))


@pytest.mark.soak
@pytest.mark.parametrize("server", ["moto", "rclone", "azurite"])
def test_large_objects_go_and_come_in_little_memory(server, request, tmp_path):
    url = request.getfixturevalue(server)
    where = f"az://models/large{AZURE_ACCOUNT}" if server == "azurite" else "s3://models/large"
    options = {"endpoint": url, **({"account": AZURE_ACCOUNT} if server == "azurite" else {"region": "us-east-1"})}
    code = f"""
import pathlib, resource
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes.object_store import open_remote
remote = open_remote({where!r}, {options!r}, RemoteContext())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert remote.put({KEY!r}, pathlib.Path("large"))
remote.fetch({KEY!r}, pathlib.Path("back"), 200_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    with (tmp_path / "large").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(1_000_000))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 120_000
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()
