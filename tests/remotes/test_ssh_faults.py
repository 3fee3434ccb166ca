"""Connections that end, hosts that are full or silent, and servers that lie."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from sftp_server import Server, names, packet, status

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, RemoteTimeoutError, ThetaError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.protocol.sftp.packets import FREE_SPACE, Attributes, Code, Kind, string, u32, u64
from git_theta_plugins.remotes import _sftp_connection, _sftp_directory, _sftp_session
from git_theta_plugins.remotes._ssh_command import SshCommand
from git_theta_plugins.remotes.ssh import open_remote

KEY = "packs/ab/" + "ab" * 32
OTHER = "packs/cd/" + "cd" * 32
CONTENT = random.Random(1).randbytes(700_000)
OPENSSH = Path("/usr/lib/openssh/sftp-server")


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Return a function that opens a directory of a server in this process."""

    def serve(server, **options):
        monkeypatch.setattr(SshCommand, "start", server.start)
        return open_remote(f"ssh://somewhere{tmp_path}/theta", options, RemoteContext())

    return serve


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


def files(folder):
    return {path for path in (folder / "theta").rglob("*") if path.is_file()}


def test_a_system_without_poll_is_said_to_be_before_anything_is_started(serve, monkeypatch):
    monkeypatch.setattr(_sftp_connection, "_poll", None)
    server = Server()
    with pytest.raises(RemoteError, match=r"need poll\(2\)"):
        list(serve(server).list("packs/"))
    assert server.processes == []


@pytest.mark.parametrize("seed", range(12))
def test_a_fetch_goes_on_after_the_connection_ended(serve, source, tmp_path, seed):
    serve(Server()).put(KEY, source)
    path, draw = tmp_path / "part", random.Random(seed)
    for _ in range(5):
        remote = serve(Server(sends=draw.choice([3, 9, 100, 300, 50_000, 100_000])))
        with pytest.raises(RemoteError, match="the connection ended"):
            remote.fetch(KEY, path, len(CONTENT))
        assert not path.exists() or CONTENT.startswith(path.read_bytes())
    serve(Server()).fetch(KEY, path, len(CONTENT))
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("takes", [1, 9, 60, 200, 400, 600, 1000, 100_000, 500_000, 700_500, 701_500])
def test_an_upload_whose_connection_ends_is_not_visible_and_can_be_repeated(serve, source, tmp_path, takes):
    remote = serve(Server(takes=takes))
    (tmp_path / "theta").mkdir()
    with suppress(RemoteError):  # it may have its name already when the connection ends
        remote.put(KEY, source)
    again = serve(Server())
    assert set(again.list("")) <= {KEY}
    again.put(KEY, source)
    assert again.get(KEY) == CONTENT


def test_a_new_connection_replaces_one_that_ended(serve, source):
    server = Server(sends=400, errors=b"Connection to somewhere closed by remote host.\n")
    remote = serve(server)
    with pytest.raises(RemoteError, match="closed by remote host"):
        remote.put(KEY, source)
    server.sends = None
    assert remote.put(KEY, source)
    assert len(server.processes) == 2


def test_a_login_that_was_refused_is_not_repeated(serve, source):
    server = Server(sends=0, errors=b"git@somewhere: Permission denied (publickey).\n")
    remote = serve(server)
    with ThreadPoolExecutor(8) as executor:
        failures = [executor.submit(remote.put, KEY, source).exception() for _ in range(8)]
    assert {type(failure.__cause__ or failure).__name__ for failure in failures} == {"RefusedError"}
    assert all("Permission denied (publickey)" in failure.message for failure in failures)
    assert all("ssh -T somewhere" in failure.hint for failure in failures)
    assert len(server.processes) == 1


@pytest.mark.skipif(not OPENSSH.exists(), reason="OpenSSH's SFTP server is not installed")
@pytest.mark.parametrize("count", [3, pytest.param(300, marks=pytest.mark.soak)])
def test_a_killed_client_leaves_no_half_object(tmp_path, count):
    code = f"""
import pathlib, sys
from types import SimpleNamespace
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes.ssh import open_remote
command = {{"GIT_SSH_COMMAND": "sh -c 'exec {OPENSSH} 9<>{tmp_path}/running'", "GIT_SSH_VARIANT": "ssh"}}
git = SimpleNamespace(folder=None, environment=lambda: command, run=lambda *_, **__: b"")
remote = open_remote("ssh://x{tmp_path}/theta", {{}}, RemoteContext(git=git))
print(flush=True)
for number in range(1000):
    key = f"packs/00/{{number:064x}}"
    remote.put(key, pathlib.Path("{tmp_path}/source"))
    pathlib.Path("{tmp_path}/part").unlink(missing_ok=True)
    remote.fetch(key, pathlib.Path("{tmp_path}/part"), 3000000)
"""
    content = random.Random(2).randbytes(3_000_000)
    (tmp_path / "source").write_bytes(content)
    os.mkfifo(tmp_path / "running")
    for _ in range(count):
        running = os.open(tmp_path / "running", os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(running, True)
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        child.stdout.read(1)
        time.sleep(random.random() / 5)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert os.read(running, 1) == b""  # the server may go on for a while
        os.close(running)
        assert content.startswith((tmp_path / "part").read_bytes() if (tmp_path / "part").exists() else b"")
        for path in files(tmp_path):
            assert path.name.startswith("tmp~") or path.read_bytes() == content
            path.unlink()


def test_two_clients_push_at_once(serve, source, tmp_path):
    (tmp_path / "theta").mkdir()
    clients = [serve(Server()) for _ in range(2)]
    keys = [f"packs/{number:02x}/{number:02x}" + "ab" * 31 for number in range(6)]
    with ThreadPoolExecutor(8) as executor:
        written = list(executor.map(lambda n: clients[n % 2].put(keys[n // 2], source), range(12)))
    assert any(written)
    for client in clients:
        assert sorted(client.list("")) == keys
    assert all((tmp_path / "theta" / key).read_bytes() == CONTENT for key in keys)
    assert not [path for path in files(tmp_path) if path.name.startswith("tmp~")]


@pytest.mark.parametrize(("room", "words"), [(0, "no space left"), (1 << 30, "the request failed")])
def test_a_full_disk_leaves_nothing_and_is_named(serve, source, tmp_path, room, words):
    server = Server()
    remote = serve(server)

    def full(kind, number, fields):
        if kind == Kind.WRITE:
            return status(number, Code.FAILURE)
        if kind == Kind.EXTENDED and fields.string() == FREE_SPACE:
            return packet(Kind.EXTENDED_REPLY, u32(number) + b"".join(map(u64, (1, 1, 9, room, room))) + bytes(48))
        return None

    server.override = full
    with pytest.raises(RemoteError, match=words) as caught:
        remote.put(KEY, source)
    assert "free" in caught.value.hint
    server.override = lambda *_: None
    with pytest.raises(MissingError):
        remote.get(KEY)
    assert files(tmp_path) == set()
    assert remote.put(KEY, source)


@pytest.mark.parametrize("silent", [Kind.INIT, Kind.EXTENDED, Kind.LSTAT, Kind.WRITE, Kind.READ, Kind.READDIR])
def test_a_host_that_says_nothing_is_an_error_with_the_setting(serve, source, tmp_path, silent):
    serve(Server()).put(KEY, source)
    remote = serve(Server(override=lambda kind, *_: b"" if kind == silent else None), timeout="0.3")

    def use():
        list(remote.list(""))
        remote.get(KEY)
        remote.put(OTHER, source)

    with pytest.raises(RemoteTimeoutError, match=r"no answer for 0\.3 seconds") as caught:
        use()
    assert "theta.remote.NAME.timeout" in caught.value.hint


def test_a_connection_that_has_nothing_to_do_may_be_silent(serve, source):
    server = Server()
    remote = serve(server, timeout="2.5")
    remote.put(KEY, source)
    time.sleep(2.7)
    assert remote.get(KEY, 0, 10) == CONTENT[:10]
    assert len(server.processes) == 1


def answers(wanted, answer):
    """Return a server that gives another answer to one kind of request."""
    return Server(override=lambda kind, number, fields: answer(number) if kind == wanted else None)


def _data(number, content):
    return packet(Kind.DATA, u32(number) + string(content))


ENDLESS = [(b"%064x" % number, Attributes(1, 0o100644, 1)) for number in range(50)]
LIES = {
    "a greeting": answers(Kind.INIT, lambda _: b"Welcome to this host.\n"),
    "another version": answers(Kind.INIT, lambda _: packet(Kind.VERSION, u32(6))),
    "a length of gigabytes": answers(Kind.READ, lambda _: u32(0xFFFFFFF0) + b"\x67"),
    "no length": answers(Kind.READ, lambda _: u32(0)),
    "an answer to nothing": answers(Kind.READ, lambda _: status(77777, 0)),
    "another kind of answer": answers(Kind.READ, lambda number: packet(Kind.HANDLE, u32(number) + string(b"h"))),
    "success without content": answers(Kind.READ, lambda number: status(number, 0)),
    "more than was asked for": answers(Kind.READ, lambda number: _data(number, bytes(262_000))),
    "a string longer than its packet": answers(Kind.OPEN, lambda number: packet(Kind.HANDLE, u32(number) + u32(900))),
    "an endless handle": answers(Kind.OPEN, lambda number: packet(Kind.HANDLE, u32(number) + string(bytes(300)))),
    "limits cut short": answers(Kind.EXTENDED, lambda number: packet(Kind.EXTENDED_REPLY, u32(number) + u64(9))),
    "attributes nobody knows": answers(Kind.LSTAT, lambda number: packet(Kind.ATTRS, u32(number) + u32(0x40))),
    "an endless listing": answers(Kind.READDIR, lambda number: names(number, *ENDLESS)),
    "an empty listing without an end": answers(Kind.READDIR, names),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_errors_that_name_the_remote(serve, source, tmp_path, monkeypatch, lie):
    monkeypatch.setattr(_sftp_session, "_MOST_ENTRIES", 1000)
    serve(Server()).put(KEY, source)
    remote = serve(LIES[lie], timeout="60")

    def use():
        remote.fetch(KEY, tmp_path / "b", len(CONTENT))
        list(remote.list(""))

    for _ in range(2):
        with pytest.raises(RemoteError, match="ssh://somewhere") as caught:
            use()
        assert not isinstance(caught.value, RemoteTimeoutError)
    assert not (tmp_path / "b").exists() or CONTENT.startswith((tmp_path / "b").read_bytes())


def test_a_connection_that_cannot_be_used_is_closed(serve):
    server = LIES["limits cut short"]
    remote = serve(server)
    with pytest.raises(RemoteError, match="ends too early"):
        list(remote.list(""))
    assert server.processes[-1].ended.wait(60)


def test_a_tree_without_end_is_an_error(serve, source, monkeypatch):
    monkeypatch.setattr(_sftp_directory, "_MOST_ENTRIES", 1000)
    serve(Server()).put(KEY, source)
    listed = set()

    def once(kind, number, fields):
        if kind == Kind.OPENDIR:
            listed.add(fields.string())
            return packet(Kind.HANDLE, u32(number) + string(b"%d" % len(listed)))
        if kind == Kind.READDIR:
            entries = [(b"%d" % n, Attributes(1, 0o040755, 1)) for n in range(9)]
            handle = fields.string()
            done = handle in seen
            seen.add(handle)
            return status(number, Code.END_OF_FILE) if done else names(number, *entries)
        return None

    seen = set()
    with pytest.raises(RemoteError, match="more than 1000 names"):
        list(serve(Server(override=once)).list(""))


def test_names_that_lead_elsewhere_are_not_listed(serve, source, tmp_path):
    serve(Server()).put(KEY, source)
    file, folder = Attributes(1, 0o100644, 1), Attributes(1, 0o040755, 1)
    bad = [b"../x", b"/etc/passwd", b"a/b", b"", b"\xff", b"a b", b"x" * 5000, b"tmp~/../../x", b"tmp~x"]
    queue = [names(0, *((name, kind) for name in bad for kind in (file, folder)), (b"good", file))[9:]]

    def lie(kind, number, _):
        if kind != Kind.READDIR:
            return None
        return packet(Kind.NAME, u32(number) + queue.pop()) if queue else status(number, Code.END_OF_FILE)

    server = Server(override=lie)
    remote = serve(server)
    assert list(remote.list("")) == ["good"]
    removed = []
    server.override = lambda kind, _, fields: removed.append(fields.string()) if kind == Kind.REMOVE else None
    remote.put(OTHER, source)
    root = os.fsencode(tmp_path / "theta")
    assert {path for path in removed if b"packs/cd/tmp~" not in path} == {root + b"/tmp~x"}


@pytest.mark.parametrize("size", [0, len(CONTENT) - 1, len(CONTENT) + 1, 1 << 60])
def test_another_size_than_was_listed_is_refused(serve, source, tmp_path, size):
    serve(Server()).put(KEY, source)
    lie = packet(Kind.ATTRS, u32(0) + Attributes(size, 0o100444, 1).encode())[9:]

    def larger(kind, number, fields):
        if kind == Kind.LSTAT and fields.string().endswith(b"ab" * 32):
            return packet(Kind.ATTRS, u32(number) + lie)
        return None

    with pytest.raises(CorruptError):
        serve(Server(override=larger)).fetch(KEY, tmp_path / "b", len(CONTENT))
    assert not (tmp_path / "b").exists()
    if size > len(CONTENT):
        assert serve(Server(override=larger)).get(KEY) == CONTENT
        with pytest.raises(CorruptError, match="ends after"):
            serve(Server(override=larger)).fetch(KEY, tmp_path / "b", size)
        assert (tmp_path / "b").read_bytes() == CONTENT


@pytest.mark.soak
def test_noise_from_a_server_is_an_error_or_an_answer(serve, source):
    serve(Server()).put(KEY, source)
    for seed in range(2000):
        draw = random.Random(seed)

        def noise(kind, number, _, draw=draw):
            if draw.random() > 0.2:
                return None
            size = draw.choice([0, 1, 8, 40, 300])
            kinds = [Kind.STATUS, Kind.HANDLE, Kind.DATA, Kind.NAME, Kind.ATTRS]
            return packet(draw.choice(kinds), u32(number) + u32(draw.choice([0, 1, 2, 4, size])) + draw.randbytes(size))

        remote = serve(Server(override=noise), timeout="1")
        for call in (
            lambda remote: list(remote.list("")),
            lambda remote: remote.get(KEY),
            lambda remote: remote.keep([KEY]),
        ):
            with suppress(ThetaError):
                call(remote)


def test_no_descriptor_is_left(serve, source):
    descriptors = Path("/proc/self/fd")
    before = set(descriptors.iterdir())
    for _ in range(5):
        remote = serve(Server())
        remote.put(KEY, source)
        del remote
    end = time.monotonic() + 60
    while time.monotonic() < end and set(descriptors.iterdir()) - before:
        time.sleep(0.01)
    assert set(descriptors.iterdir()) - before == set()
