"""The remote in a git repository: conformance, and what goes wrong between it and a server."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from servers import silent

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, RemoteError
from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.testing import RemoteTests
from git_theta_ext.testing.remotes import Reports
from git_theta_plugins.remotes import _blobs, _outbox
from git_theta_plugins.remotes._bare_repository import _messages
from git_theta_plugins.remotes.git import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_plugins.remotes.git import Git

PACK = os.urandom(300_000)
NAME = hashlib.sha256(PACK).hexdigest()
KEY = f"packs/{NAME[:2]}/{NAME}"


def git(folder: Path, *args: str, data: bytes = b"") -> str:
    command = ["git", "-C", str(folder), *args]
    return subprocess.run(command, check=True, input=data, stdout=subprocess.PIPE).stdout.decode()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Return a local repository."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "local")], check=True)
    return tmp_path / "local"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return the git remote, a repository on this machine."""
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "bare.git")], check=True)
    return tmp_path / "bare.git"


@pytest.fixture
def remote(bare: Path, local: Path) -> Git:
    """Return the remote of the local repository."""
    return opened(bare, local)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return the file of a pack."""
    path = tmp_path / "pack"
    path.write_bytes(PACK)
    return path


@pytest.fixture
def report() -> Reports:
    """Take what a remote reports."""
    return Reports()


def opened(url: Path | str, local: Path, report: Callable[[str, int], None] = silent, **options: str) -> Git:
    return open_remote(str(url), options, RemoteContext("origin", str(url), Repository.discover(local), report))


def published(remote: Git, pack: Path) -> str:
    name = hashlib.sha256(pack.read_bytes()).hexdigest()
    remote.put(f"packs/{name[:2]}/{name}", pack)
    (pack.parent / "entry").write_bytes(b"an entry")
    remote.publish({f"index/{name}": pack.parent / "entry"})
    return f"packs/{name[:2]}/{name}"


class TestGit(RemoteTests):
    @pytest.fixture
    def remote(self, bare, local, report):
        return opened(bare, local, report)


def test_progress_is_that_of_git(bare, local, pack, tmp_path, report):
    remote = opened(bare, local, report, partsize="100000")
    remote.put(KEY, pack)
    assert report.taken == [(KEY, 0)]  # it is only collected
    published(remote, pack)
    assert report.taken[-1] == (KEY, len(PACK))
    report.taken.clear()
    opened(bare, local, report).fetch(KEY, tmp_path / "got", len(PACK))
    assert all(key == KEY and nbytes <= len(PACK) for key, nbytes in report.taken)


def test_progress_is_no_message_of_git(tmp_path):
    text = (
        b"Enumerating objects: 5, done.\rCounting objects: 100% (5/5)\rCounting objects: 100% (5/5), done.\n"
        b"Writing objects:  40% (2/5), 1.50 MiB | 3.00 MiB/s\r"
        b"Writing objects: 100% (5/5), 12 bytes | 4.00 KiB/s, done.\n"
        b"Total 5 (delta 0), reused 0 (delta 0), pack-reused 0\nremote: Resolving deltas: 100% (1/1)\r"
        b"remote: error: no\nfatal: the remote end hung up"
    )
    (tmp_path / "text").write_bytes(text)
    taken = []
    with subprocess.Popen(["sh", "-c", f"cat {tmp_path}/text >&2"], stderr=subprocess.PIPE) as process:
        words = "".join(_messages(process, taken.append))
    assert words == "remote: error: no\nfatal: the remote end hung up"
    assert taken == [3 << 19, 12]


def test_large_packs_are_several_blobs(bare, local, pack, tmp_path):
    remote = opened(bare, local, partsize="100000")
    published(remote, pack)
    assert remote.get(KEY, 99_990, 200_010) == PACK[99_990:200_010]
    sizes = git(bare, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectsize)").split("\n")
    assert sizes.count("blob 100000") == 3
    (tmp_path / "got").write_bytes(b"x" * 150_000)  # the first part is not needed, the second one is
    other = opened(bare, local)
    other.fetch(KEY, tmp_path / "got", len(PACK))
    assert (tmp_path / "got").read_bytes() == b"x" * 150_000 + PACK[150_000:]


def test_nothing_is_visible_before_it_is_published_whole(bare, local, remote, pack, tmp_path, monkeypatch):
    monkeypatch.setattr(_outbox, "BATCH", 1)
    remote.put(KEY, pack)
    (tmp_path / "second").write_bytes(b"second")
    published(remote, tmp_path / "second")
    assert (
        git(bare, "rev-list", "--count", "--first-parent", "refs/theta/packs").strip() == "3"
    )  # and a commit of blobs
    assert KEY not in opened(bare, local).list("")
    published(remote, pack)
    assert KEY in opened(bare, local).list("")


def test_the_local_repository_keeps_no_copy(bare, local, pack, tmp_path):
    stale = local / ".git" / "theta" / "remote-index" / "tmp~stale"
    stale.mkdir(parents=True)
    os.utime(stale, (0, 0))
    remote = opened(bare, local)
    published(remote, pack)
    remote.fetch(KEY, tmp_path / "got", len(PACK))
    remote.get(KEY, 0, 10)
    del remote
    files = [path for path in (local / ".git").rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) < len(PACK)
    assert not list(stale.parent.glob("tmp~*"))


def test_memory_does_not_grow_with_a_pack(remote, tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(6 << 20)
    tracemalloc.start()
    try:
        key = published_large(remote, path)
        remote.fetch(key, tmp_path / "got", 6 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def published_large(remote: Git, path: Path) -> str:
    with path.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    remote.put(f"packs/{name[:2]}/{name}", path)
    remote.publish({f"index/{name}": Path(os.devnull)})
    return f"packs/{name[:2]}/{name}"


def test_clients_that_push_at_once_lose_nothing(bare, local, tmp_path):
    contents = [f"pack {number}".encode() for number in range(3)]
    clients = [opened(bare, local) for _ in contents]
    gate = Barrier(3, timeout=120)

    def push(client: Git, data: bytes) -> str:
        list(client.list("packs/"))  # all read the index before any of them adds to it
        folder = tmp_path / data.decode()
        folder.mkdir()
        (folder / "pack").write_bytes(data)
        gate.wait()
        return published(client, folder / "pack")

    with ThreadPoolExecutor(3) as executor:
        keys = list(executor.map(push, clients, contents))
    late = opened(bare, local)
    assert sorted(late.list("packs/")) == sorted(keys)
    assert [late.get(key) for key in keys] == contents


def allow(bare: Path, pattern: str) -> None:
    hook = bare / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ncase $1 in {pattern}) ;; *) exit 1;; esac\n")
    hook.chmod(0o755)


def test_a_host_that_refuses_the_refs_gets_branches(bare, local, remote, pack):
    allow(bare, "refs/heads/*")
    published(remote, pack)
    refs = git(bare, "for-each-ref", "--format=%(refname)").split()
    assert refs == ["refs/heads/theta/index", "refs/heads/theta/packs"]
    assert opened(bare, local).get(KEY, 5, 10) == PACK[5:10]
    assert opened(bare, local).keep([KEY]) == {KEY}


def test_a_host_that_refuses_both_says_why_and_the_next_try_sends_what_was_collected(bare, local, remote, pack):
    allow(bare, "none")
    for _ in range(2):
        with pytest.raises(RemoteError, match="takes no packs of parameters: it refuses refs"):
            published(remote, pack)
    allow(bare, "*")
    assert list(remote.list("")) == []
    published(remote, pack)
    assert opened(bare, local).get(KEY) == PACK


def forget_packs(bare: Path) -> None:
    git(bare, "update-ref", "-d", "refs/theta/packs")
    git(bare, "prune", "--expire=now")


def test_a_host_without_room_says_why_and_the_next_try_succeeds(bare, local, remote, pack):
    git(bare, "config", "receive.maxInputSize", "100000")
    with pytest.raises(RemoteError, match=r"cannot store packs of parameters: .*pack exceeds maximum allowed size"):
        published(remote, pack)
    hook = bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'the quota of team is exceeded'\nexit 1\n")
    hook.chmod(0o755)
    git(bare, "config", "receive.maxInputSize", "0")
    with pytest.raises(RemoteError, match="the quota of team is exceeded"):
        published(remote, pack)
    hook.unlink()
    published(remote, pack)
    assert opened(bare, local).get(KEY) == PACK


def test_what_the_server_lost_is_listed_when_somebody_else_sent_it_again(bare, local, pack, tmp_path):
    published(opened(bare, local), pack)
    forget_packs(bare)
    with pytest.raises(MissingError, match="has no blob"):
        opened(bare, local).fetch(KEY, tmp_path / "got", len(PACK))
    assert list(opened(bare, local).list("")) == []
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "other")], check=True)
    other = opened(bare, tmp_path / "other")
    assert other.keep([KEY]) == set()
    published(other, pack)
    again = opened(bare, local)
    assert KEY in set(again.list(""))
    assert again.get(KEY) == PACK


def test_what_the_server_lost_is_not_listed_and_sent_again(bare, local, pack, tmp_path):
    published(opened(bare, local), pack)
    (tmp_path / "second").write_bytes(b"second")
    forget_packs(bare)
    remote = opened(bare, local, partsize="100000")
    with pytest.raises(MissingError, match="has no blob"):
        remote.fetch(KEY, tmp_path / "got", len(PACK))
    assert not (tmp_path / "got").exists()
    assert remote.keep([KEY]) == set()
    assert list(remote.list("")) == []
    published(remote, pack)
    assert remote.keep([KEY]) == {KEY}
    assert opened(bare, local).get(KEY) == PACK


def test_one_missing_blob_does_not_keep_others_from_arriving(bare, local, pack, tmp_path):
    (tmp_path / "second").write_bytes(b"second")
    published(opened(bare, local), pack)
    forget_packs(bare)
    key = published(opened(bare, local), tmp_path / "second")
    remote = opened(bare, local)

    def get(wanted: str) -> bytes | None:
        try:
            return remote.get(wanted)
        except MissingError:
            return None

    with ThreadPoolExecutor(2) as executor:
        assert list(executor.map(get, [KEY, key])) == [None, b"second"]


def test_a_lying_index_is_an_error_and_is_put_right(bare, local, remote, pack, tmp_path):
    published(remote, pack)
    oid = git(bare, "hash-object", str(pack)).strip()
    path = f"parts/{NAME[:2]}/{NAME[2:]}"
    for size, error in ((len(PACK) - 1, "has 300000 bytes instead of 299999"), (10, "bytes instead of 10")):
        text = f"git-theta parts 1\n{oid} {size}\n".encode()
        stream = b"commit refs/theta/index\ncommitter a <a@x> 0 +0000\ndata 0\nfrom refs/theta/index^0\n"
        stream += f"M 100644 inline {path}\ndata {len(text)}\n".encode() + text + b"\n"
        git(bare, "fast-import", "--quiet", data=stream)
        reader = opened(bare, local)
        with pytest.raises(CorruptError, match=error):
            reader.fetch(KEY, tmp_path / "got", size)
        with pytest.raises(CorruptError, match=f"has {size} bytes instead of {len(PACK)}"):
            reader.fetch(KEY, tmp_path / "got", len(PACK))
        assert not (tmp_path / "got").exists()
    published(reader, pack)
    assert opened(bare, local).get(KEY) == PACK


def test_a_blob_that_is_larger_than_the_index_says_is_not_taken_whole(bare, local, remote, pack, tmp_path, monkeypatch):
    published(remote, pack)
    monkeypatch.setattr(_blobs, "_ROOM", -PACK_ROOM)
    monkeypatch.setattr(_blobs, "_LOOK_SECONDS", 0)
    with pytest.raises(CorruptError, match="sends more than"):
        opened(bare, local).fetch(KEY, tmp_path / "got", len(PACK))


PACK_ROOM = len(PACK)


def test_a_server_that_sends_no_single_objects_sends_all(bare, local, remote, pack, tmp_path):
    published(remote, pack)
    (tmp_path / "second").write_bytes(b"second")
    key = published(remote, tmp_path / "second")
    git(local, "config", "protocol.version", "0")
    reader = opened(bare, local)
    assert reader.get(KEY) == PACK
    git(bare, "update-ref", "-d", "refs/theta/packs")
    assert reader.get(key) == b"second"  # it came with the other one


def test_a_pack_that_is_truncated_meanwhile_is_not_sent(bare, local, remote, pack, monkeypatch):
    with monkeypatch.context() as patch:
        longer = SimpleNamespace(fstat=lambda fd: SimpleNamespace(st_size=os.fstat(fd).st_size + 1))
        patch.setattr(_outbox, "os", longer)
        with pytest.raises(RemoteError, match="truncated"):
            remote.put(KEY, pack)
    published(remote, pack)
    assert opened(bare, local).get(KEY) == PACK


def test_a_repository_in_sha256_works_as_well(tmp_path, pack):
    kind = ["--object-format=sha256", "--quiet"]
    bare, local = tmp_path / "wide.git", tmp_path / "wide"
    subprocess.run(["git", "init", "--bare", *kind, str(bare)], check=True)
    subprocess.run(["git", "init", *kind, str(local)], check=True)
    published(opened(bare, local), pack)
    assert opened(bare, local).get(KEY) == PACK


def test_settings_and_repositories_that_are_wrong_are_refused(bare, local):
    with pytest.raises(ConfigError, match="unknown setting endpoint"):
        opened(bare, local, endpoint="x")
    for size in ("0", "9 MB", "1000000g", "-1"):
        with pytest.raises(ConfigError, match="is not a size between"):
            opened(bare, local, partsize=size)
    with pytest.raises(ConfigError, match="there is none"):
        open_remote(str(bare), {}, RemoteContext("origin", str(bare)))


def test_a_remote_that_is_not_there_is_an_error(tmp_path, local, pack):
    with pytest.raises(RemoteError, match="does not appear to be a git repository"):
        published(opened(tmp_path / "nothing", local), pack)
