import logging
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import ConfigError, MissingError, RemoteError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.testing import RemoteTests
from git_theta_plugins.remotes import kvstore
from git_theta_plugins.remotes.kvstore import find_size, open_remote

KEY = "packs/ab/" + "ab" * 32


@pytest.fixture(scope="module")
def endpoint():
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").disabled = True
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket="models")
    yield url
    server.stop()


@pytest.fixture
def options(endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return {"endpoint": endpoint, "region": "us-east-1", "credentials": "environment"}


class TestS3(RemoteTests):
    @pytest.fixture
    def remote(self, options, tmp_path):
        return open_remote(f"s3://models/{tmp_path.name}", options, RemoteContext())


class TestS3ThatDoesNotTellSizes(RemoteTests):
    @pytest.fixture
    def remote(self, options, tmp_path, monkeypatch):
        monkeypatch.setattr(kvstore, "_SIZE", kvstore.re.compile("never said"))
        return open_remote(f"s3://models/silent/{tmp_path.name}/", options, RemoteContext())


class TestFile(RemoteTests):
    @pytest.fixture
    def remote(self, tmp_path):
        return open_remote(f"file://{tmp_path}/the%20ta", {}, RemoteContext())


def test_large_objects_are_fetched_in_pieces(options, tmp_path, monkeypatch):
    remote = open_remote("s3://models/pieces", options, RemoteContext())
    content = os.urandom(100_000)
    (tmp_path / "a").write_bytes(content)
    remote.put(KEY, tmp_path / "a")
    monkeypatch.setattr(kvstore, "_PIECE", 30_000)
    asked = []
    read = remote._read
    monkeypatch.setattr(remote, "_read", lambda key, start, end: asked.append((start, end)) or read(key, start, end))
    (tmp_path / "b").write_bytes(content[:25_000])
    remote.fetch(KEY, tmp_path / "b", len(content))
    assert (tmp_path / "b").read_bytes() == content
    assert asked[-3:] == [(25_000, 55_000), (55_000, 85_000), (85_000, 100_000)]


def test_prefixes_keep_remotes_in_one_bucket_apart(options, tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    open_remote("s3://models/left", options, RemoteContext()).put(KEY, tmp_path / "a")
    assert list(open_remote("s3://models/left", options, RemoteContext()).list("")) == [KEY]
    assert list(open_remote("s3://models/lef", options, RemoteContext()).list("")) == []


def test_a_bucket_that_does_not_exist_is_an_error(options, tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    remote = open_remote("s3://nobody", options, RemoteContext())
    with pytest.raises(RemoteError, match="NoSuchBucket"):
        list(remote.list(""))
    with pytest.raises(RemoteError, match="no such bucket"):
        remote.put(KEY, tmp_path / "a")
    with pytest.raises(MissingError):
        remote.get(KEY)


def test_messages_show_no_answers_of_the_server(options, tmp_path):
    with pytest.raises(RemoteError) as caught:
        list(open_remote("s3://nobody", options, RemoteContext()).list(""))
    assert "<?xml" not in str(caught.value)
    assert "http_response" not in str(caught.value)


def test_objects_larger_than_s3_takes_are_refused_before_reading(options, tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate((5 << 30) + 1)
    with pytest.raises(RemoteError, match="at most"):
        open_remote("s3://models/large", options, RemoteContext()).put(KEY, tmp_path / "a")


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:bucket",
        "ftp://host/x",
        "gs://",
        "file://",
        "s3://user:word@bucket/x",
        "s3://b/x?secret=1",
        "s3://B_/",
    ],
)
def test_bad_urls_are_refused(url):
    with pytest.raises(ConfigError) as caught:
        open_remote(url, {}, RemoteContext())
    assert "word" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="endpiont"):
        open_remote("s3://bucket", {"endpiont": "x"}, RemoteContext())


def test_google_storage_opens_without_a_request():
    assert open_remote("gs://bucket/prefix", {}, RemoteContext()) is not None


@given(st.integers(0, 1 << 45))
def test_sizes_are_found_by_asking_for_bytes(size):
    asked = []
    assert find_size(lambda position: asked.append(position) or position < size) == size
    assert len(asked) <= 2 * size.bit_length() + 2


def test_memory_in_flight_is_bounded():
    budget = kvstore._Budget(10)
    inside, go = Event(), Event()

    def first():
        with budget.taken(8):
            inside.set()
            go.wait(10)

    def second():
        with budget.taken(100):
            return go.is_set()

    with ThreadPoolExecutor(2) as executor:
        executor.submit(first)
        assert inside.wait(10)
        late = executor.submit(second)
        go.set()
        assert late.result(10)
