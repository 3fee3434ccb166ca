"""The index of the remote on an LFS server: a ref of the git remote."""

from __future__ import annotations

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from lfs_packs import KEY, NAME, PACK, key_of, opened, pointer, published

from git_theta_ext.errors import CorruptError, MissingError, RemoteError
from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import MarkingRemote, RemoteContext
from git_theta_plugins.remotes._index_format import join_heads
from git_theta_plugins.remotes.lfs import open_remote

if TYPE_CHECKING:
    from git_theta_plugins.remotes.lfs import Lfs

pytestmark = pytest.mark.usefixtures("impatient")


def test_two_clients_that_push_at_once_lose_nothing(host, url, local, tmp_path):
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "second")], check=True)
    contents = [f"pack {number}".encode() for number in range(4)]
    clients = [opened(url, folder) for folder in (local, tmp_path / "second", local, local)]

    def push(client: Lfs, data: bytes) -> None:
        list(client.list("packs/"))  # all read the index before any of them adds to it
        path = tmp_path / data.decode()
        path.write_bytes(data)
        client.put(key_of(data), path)
        gate.wait()
        client.publish({key_of(data).replace("packs/", "index/").replace(f"/{key_of(data)[6:8]}/", "/"): path})

    gate = Barrier(4, timeout=120)
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(push, clients, contents))
    late = opened(url, local)
    assert sorted(late.list("packs/")) == sorted(map(key_of, contents))
    assert all(late.get(key.replace("packs/", "index/")[:6] + key[9:]) for key in map(key_of, contents))


def test_a_host_that_refuses_the_ref_gets_a_branch(host, url, local, remote, pack, tmp_path):
    bare = host.root / "git" / "models.git"
    hook = bare / "hooks" / "update"
    hook.write_text("#!/bin/sh\ncase $1 in refs/heads/*) ;; *) echo no; exit 1;; esac\n")
    hook.chmod(0o755)
    published(remote, pack)
    refs = subprocess.run(
        ["git", "-C", str(bare), "for-each-ref", "--format=%(refname)"], capture_output=True, check=True
    )
    assert refs.stdout.decode().split() == ["refs/heads/theta/index"]
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "second")], check=True)
    other = opened(url, tmp_path / "second")
    assert list(other.list("packs/")) == [KEY]
    (tmp_path / "second pack").write_bytes(b"second")
    other.put(key_of(b"second"), tmp_path / "second pack")
    other.publish({f"index/{key_of(b'second')[9:]}": tmp_path / "second pack"})
    assert set(opened(url, local).list("packs/")) == {KEY, key_of(b"second")}


def test_an_empty_repository_is_no_error_in_an_old_protocol(remote, pack, local):
    # Servers behind ssh speak it unless they pass on GIT_PROTOCOL.
    subprocess.run(["git", "-C", str(local), "config", "protocol.version", "0"], check=True)
    published(remote, pack)
    assert remote.keep([KEY]) == {KEY}


def test_a_host_that_refuses_both_says_why(host, remote, pack):
    hook = host.root / "git" / "models.git" / "hooks" / "update"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(RemoteError, match="takes no index of parameters: it refuses refs"):
        published(remote, pack)


def test_the_index_has_the_canonical_pointer_of_each_pack(host, remote, pack):
    published(remote, pack)
    bare = str(host.root / "git" / "models.git")
    at = f"refs/theta/index:packs/{NAME[:2]}/{NAME[2:]}"
    done = subprocess.run(["git", "-C", bare, "cat-file", "blob", at], capture_output=True, check=True)
    assert done.stdout == pointer(NAME, len(PACK))


def test_damaged_packs_are_marked_for_everybody_once(host, url, remote, pack, tmp_path):
    published(remote, pack)
    assert remote.marked() == set()
    remote.mark([KEY, key_of(b"not there")])
    bare = ["git", "-C", str(host.root / "git" / "models.git"), "rev-parse", "refs/theta/index"]
    tip = subprocess.check_output(bare)
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "second")], check=True)
    other = opened(url, tmp_path / "second")
    assert other.marked() == remote.marked() == {KEY}
    assert isinstance(other, MarkingRemote)
    assert set(other.list("")) == {KEY, f"index/{NAME}"}
    other.mark([KEY])
    assert subprocess.check_output(bare) == tip
    other.unmark([KEY, key_of(b"not there")])
    again = opened(url, tmp_path / "second")
    assert other.marked() == again.marked() == set()
    assert set(again.list("")) == {KEY, f"index/{NAME}"}
    remote.unmark([KEY])  # its copy of the index is old
    assert remote.marked() == set()
    again.mark([KEY])
    assert opened(url, tmp_path / "second").marked() == {KEY}


def test_a_hostile_index_adds_nothing_but_errors(host, url, local, pack, tmp_path):
    (host.objects / NAME).write_bytes(PACK)
    other = hashlib.sha256(b"other").hexdigest()
    files = {
        f"packs/{NAME[:2]}/{NAME[2:]}": pointer(NAME, len(PACK) + 1),  # a lie about the size
        f"packs/{other[:2]}/{other[2:]}": pointer(NAME, len(PACK)),  # a lie about the name
        "packs/zz/x": b"not a pack",
        f"heads/{'0' * 64}": b"not index entries",
        f"heads/{'1' * 64}": join_heads({NAME: b"an entry"})[:-3],
    }
    lines = [f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n" for path, data in files.items()]
    stream = b"commit refs/theta/index\ncommitter a <a@x> 0 +0000\ndata 0\n" + b"".join(lines)
    bare = str(host.root / "git" / "models.git")
    subprocess.run(["git", "-C", bare, "fast-import", "--quiet"], input=stream, check=True)
    remote = opened(url, local)
    assert set(remote.list("packs/")) == {KEY, f"packs/{other[:2]}/{other}"}
    with pytest.raises(MissingError):
        remote.get(f"index/{NAME}")
    with pytest.raises(CorruptError, match=f"has {len(PACK) + 1} bytes instead of {len(PACK)}"):
        remote.fetch(KEY, tmp_path / "got", len(PACK))
    with pytest.raises(MissingError):
        remote.fetch(f"packs/{other[:2]}/{other}", tmp_path / "got", 5)
    assert not (tmp_path / "got").exists()
    assert remote.keep([KEY]) == set()


def test_a_repository_in_sha256_works_as_well(host, tmp_path, pack):
    kind = ["--object-format=sha256", "--quiet"]
    bare, local = host.root / "git" / "wide.git", tmp_path / "wide"
    subprocess.run(["git", "init", "--bare", *kind, str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "config", "http.receivepack", "true"], check=True)
    subprocess.run(["git", "init", *kind, str(local)], check=True)
    published(opened(f"{host.url}/wide.git", local), pack)
    assert list(opened(f"{host.url}/wide.git", local).list("packs/")) == [KEY]


def test_commands_with_a_work_tree_elsewhere_work(url, local, pack, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(local / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    remote = open_remote(url, {}, RemoteContext("origin", url, Repository.discover()))
    published(remote, pack)
    assert remote.keep([KEY]) == {KEY}


def test_a_damaged_copy_of_the_index_is_replaced(url, local, pack):
    remote = opened(url, local)
    published(remote, pack)
    (copy,) = (local / ".git" / "theta" / "remote-index").glob("*.git")
    (copy / "shallow.lock").write_bytes(b"")  # as a killed fetch leaves it
    (copy / "refs" / "theta" / "index.lock").write_bytes(b"")
    assert list(opened(url, local).list("packs/")) == [KEY]
    for path in copy.glob("objects/??/*"):
        path.chmod(0o600)
        path.write_bytes(b"damaged")
    assert list(opened(url, local).list("packs/")) == [KEY]
    assert opened(url, local).get(f"index/{NAME}") == b"an entry"
    (copy / "HEAD").unlink()
    assert list(opened(url, local).list("packs/")) == [KEY]
