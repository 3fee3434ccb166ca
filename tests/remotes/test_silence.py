import os
import socket
import subprocess
import sys
import time

import pytest

from git_theta_ext.errors import ConfigError, RemoteError, RemoteTimeoutError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.transfer.retry import retried
from git_theta_plugins.remotes.kvstore import open_remote

KEY = "packs/ab/" + "ab" * 32


@pytest.fixture
def mute():
    """Return the address of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def remote(mute):
    options = {"endpoint": mute, "region": "us-east-1", "credentials": "anonymous", "timeout": "0.2"}
    return open_remote("s3://models/x", options, RemoteContext())


@pytest.mark.parametrize(
    "call",
    [
        lambda remote, path: list(remote.list("packs/")),
        lambda remote, path: remote.get(KEY, 0, 100),
        lambda remote, path: remote.put(KEY, path),
        lambda remote, path: remote.fetch(KEY, path.with_name("b"), 100),
        lambda remote, path: remote.publish({KEY: path}),
    ],
    ids=["list", "get", "put", "fetch", "publish"],
)
def test_a_server_that_never_answers_is_an_error_with_the_setting(remote, tmp_path, call):
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(RemoteTimeoutError, match=r"no answer for 0\.2 seconds") as caught:
        call(remote, tmp_path / "a")
    assert "theta.remote.NAME.timeout" in caught.value.hint
    assert not (tmp_path / "b").exists()


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


@pytest.mark.parametrize("timeout", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(timeout):
    with pytest.raises(ConfigError, match="timeout"):
        open_remote("s3://models/x", {"timeout": timeout}, RemoteContext())


def test_log_lines_of_the_sdk_do_not_reach_standard_error(tmp_path):
    code = """
import os, sys
from git_theta_ext.errors import RemoteError
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes.kvstore import open_remote
try:
    options = {"endpoint": "http://127.0.0.1:1", "region": "us-east-1"}
    list(open_remote("s3://models/x", options, RemoteContext()).list(""))
except RemoteError as error:
    print("our own words", file=sys.stderr)
"""
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "word"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **keys, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "our own words\n"
