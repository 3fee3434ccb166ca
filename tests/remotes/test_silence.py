import socket
import time

import pytest

from git_theta_ext.errors import RemoteError, RemoteTimeoutError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.transfer.retry import retried
from git_theta_plugins.remotes import https, object_store

KEY = "packs/ab/" + "ab" * 32


@pytest.fixture
def mute():
    """Return the address of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(params=["s3", "gs", "az", "https"])
def remote(mute, request):
    options = {"endpoint": mute, "credentials": "anonymous", "timeout": "0.2"}
    if request.param == "https":
        return https.open_remote(f"{mute}/x", {"timeout": "0.2"}, RemoteContext())
    if request.param == "az":
        options["account"] = "models"
    return object_store.open_remote(f"{request.param}://models/x", options, RemoteContext())


@pytest.mark.parametrize(
    "call",
    [
        lambda remote, path: list(remote.list("packs/")),
        lambda remote, path: remote.get(KEY, 0, 100),
        lambda remote, path: remote.fetch(KEY, path.with_name("b"), 100),
    ],
    ids=["list", "get", "fetch"],
)
def test_a_server_that_never_answers_is_an_error_with_the_setting(remote, tmp_path, call):
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(RemoteTimeoutError, match=r"no answer for 0\.2 seconds") as caught:
        call(remote, tmp_path / "a")
    assert "theta.remote.NAME.timeout" in caught.value.hint
    assert not (tmp_path / "b").exists()


def test_a_server_that_takes_an_object_and_never_answers_is_an_error(mute, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    options = {"endpoint": mute, "credentials": "anonymous", "timeout": "0.2", "region": "us-east-1"}
    remote = object_store.open_remote("s3://models/x", options, RemoteContext())
    for upload in (lambda: remote.put(KEY, tmp_path / "a"), lambda: remote.publish({KEY: tmp_path / "a"})):
        with pytest.raises(RemoteTimeoutError, match=r"no answer for 0\.2 seconds"):
            upload()


def test_silence_is_not_tried_again_and_other_failures_are(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for kind, times in ((RemoteTimeoutError, 1), (RemoteError, 3)):
        tries = []

        def fail(kind=kind, tries=tries):
            tries.append(kind)
            raise kind("no")

        with pytest.raises(kind):
            retried(fail)
        assert len(tries) == times
