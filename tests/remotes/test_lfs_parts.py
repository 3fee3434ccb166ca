"""Packs that are larger than an LFS server takes are divided into several objects."""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import closing

import numpy as np
import pytest
from benchmarks.faults import Fault
from lfs_packs import KEY, NAME, PACK, opened, pointer, published

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, RemoteError
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.store import Store
from git_theta_ext.transfer.remote_index import OpenedRemote
from git_theta_ext.transfer.sync import fetch, push
from git_theta_ext.transfer.verify import verified
from git_theta_plugins.remotes._lfs_packs import MAX_PARTS

pytestmark = pytest.mark.usefixtures("impatient")

SIZES = [120_000, 120_000, 60_000]
PARTS = [PACK[:120_000], PACK[120_000:240_000], PACK[240_000:]]
OIDS = [hashlib.sha256(part).hexdigest() for part in PARTS]
LIST = f"parts/{NAME[:2]}/{NAME[2:]}"


@pytest.fixture
def divided(url, local, pack):
    remote = opened(url, local, partsize="120000")
    published(remote, pack)
    return remote


def listed(host):
    """Return the files of the index but the index entries, by path."""
    bare = ["git", "-C", str(host.root / "git" / "models.git")]
    names = subprocess.check_output([*bare, "ls-tree", "-r", "--name-only", "refs/theta/index"], text=True).split()
    return {
        name: subprocess.check_output([*bare, "cat-file", "blob", f"refs/theta/index:{name}"])
        for name in names
        if not name.startswith("heads/")
    }


def fresh(url, tmp_path, **options):
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "fresh")], check=True)
    return opened(url, tmp_path / "fresh", **options)


def test_every_part_is_an_object_with_a_pointer(host, url, divided, pack, tmp_path):
    assert host.stored() == set(OIDS)
    lines = "".join(f"{oid} {size}\n" for oid, size in zip(OIDS, SIZES, strict=True))
    expected = {f"objects/{oid[:2]}/{oid[2:]}": pointer(oid, size) for oid, size in zip(OIDS, SIZES, strict=True)}
    assert listed(host) == {LIST: f"git-theta parts 1\n{lines}".encode(), **expected}
    assert not divided.put(KEY, pack)
    clone = fresh(url, tmp_path)  # whatever its own setting is
    assert set(clone.list("")) == {KEY, f"index/{NAME}"}
    assert clone.keep([KEY]) == {KEY}
    assert clone.get(KEY, 119_995, 240_005) == PACK[119_995:240_005]
    assert clone.get(KEY, 299_990, 400_000) == PACK[299_990:]


@pytest.mark.parametrize("begun", [0, 5, 120_000, 130_000, 300_000])
def test_downloads_continue_within_a_part(host, url, divided, tmp_path, begun):
    reports = []
    clone, path = fresh(url, tmp_path, report=lambda key, nbytes: reports.append(nbytes)), tmp_path / "got"
    path.write_bytes(PACK[:begun])
    host.faults = [Fault("GET /objects", cut_down=cut) for cut in (1, 50_000)]
    clone.fetch(KEY, path, len(PACK))
    assert path.read_bytes() == PACK
    assert sum(request.down for request in host.requests("GET /objects")) == len(PACK) - begun
    assert reports == sorted(reports)
    assert reports[-1:] == ([len(PACK)] if begun < len(PACK) else [])


def test_servers_without_ranges_send_one_part_again(host, url, divided, tmp_path):
    host.ranges = False
    (tmp_path / "got").write_bytes(PACK[:130_000])
    fresh(url, tmp_path).fetch(KEY, tmp_path / "got", len(PACK))
    assert (tmp_path / "got").read_bytes() == PACK
    assert sum(request.down for request in host.requests("GET /objects")) == sum(SIZES[1:])


def test_a_lost_part_is_uploaded_again_and_no_other(host, url, divided, pack, tmp_path):
    (host.objects / OIDS[1]).unlink()
    assert divided.keep([KEY]) == set()
    with pytest.raises(MissingError):
        divided.fetch(KEY, tmp_path / "got", len(PACK))
    assert list(divided.list("")) == []
    before = len(host.requests("PUT "))
    assert not divided.put(KEY, pack)  # the server has some of it, so that the bytes there are compared
    assert [request.up for request in host.requests("PUT ")[before:]] == [SIZES[1]]
    assert divided.keep([KEY]) == {KEY}


@pytest.mark.parametrize(("size", "count"), [("200000", 2), ("300000", 1)])
def test_another_division_replaces_one_with_lost_parts(host, url, divided, pack, tmp_path, size, count):
    (host.objects / OIDS[1]).unlink()
    other = fresh(url, tmp_path, partsize=size)
    assert other.keep([KEY]) == set()
    published(other, pack)
    assert listed(host)[LIST].count(b"\n") == 1 + count
    assert opened(url, tmp_path / "local").get(KEY) == PACK


def test_a_server_that_takes_parts_of_an_object_gets_these(host, url, local, pack):
    host.part = 50_000
    published(opened(url, local, partsize="120000"), pack)
    sizes = [request.up for request in host.requests(r"PUT /objects/[0-9a-f]+/\d")]
    assert sorted(sizes) == sorted([50_000, 50_000, 20_000] * 2 + [50_000, 10_000])
    assert b"".join((host.objects / oid).read_bytes() for oid in OIDS) == PACK


def test_lists_that_lie_are_refused(host, url, divided, tmp_path):
    wrong = {
        "size": f"git-theta parts 1\n{OIDS[0]} 120000\n{OIDS[1]} 120000\n",
        "kind": f"git-theta parts 1\n{OIDS[0][:40]} 300000\n",
        "text": "no list",
    }
    bare = host.root / "git" / "models.git"
    for kind, text in wrong.items():
        stream = f"commit refs/theta/index\ncommitter a <a@x> 0 +0000\ndata 0\nM 644 inline {LIST}\ndata {len(text)}\n"
        command = ["git", "-C", str(bare), "fast-import", "--quiet", "--force"]
        subprocess.run(command, input=f"{stream}{text}\n".encode(), check=True)
        with pytest.raises(CorruptError if kind == "size" else MissingError):
            fresh(url, tmp_path).fetch(KEY, tmp_path / "got", len(PACK))
        assert not (tmp_path / "got").exists()


def test_a_proxy_that_takes_no_large_requests_is_answered_with_the_setting(host, url, local, pack):
    host.faults = [Fault("PUT ", 413)]
    with pytest.raises(RemoteError, match="status 413") as caught:
        opened(url, local).put(KEY, pack)
    assert "theta.remote.NAME.partSize" in caught.value.hint


def test_a_pack_of_too_many_parts_names_a_size_that_works(url, local, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1024 * MAX_PARTS + 1))
    with pytest.raises(ConfigError) as caught:
        opened(url, local, partsize="1k").put(KEY, path)
    assert caught.value.hint.endswith(" 1025")


def test_a_pack_with_a_poisoned_part_is_replaced_by_one_of_other_parts(host, url, local, tmp_path):
    spec = TensorSpec.of("F32", [100_000])
    data = np.random.default_rng(0).normal(size=spec.elements).astype("<f4").tobytes()
    digest = tensor_digest(spec, data)

    def place():
        return OpenedRemote("origin", url, opened(url, local, partsize="100000"))

    with closing(Store(tmp_path / "mine")) as store:
        store.put([(spec, digest, data)])
        push(store, place(), [digest])
        first = host.stored()
        last = min((host.objects / oid for oid in first), key=lambda path: path.stat().st_size)
        last.write_bytes(last.read_bytes()[:-1] + b"?")
        assert verified(store, place(), [digest], download=True) == set()
        push(store, place(), [digest])
    assert len(host.stored() - first) == len(first)  # an object of its name would not be uploaded
    with closing(Store(tmp_path / "theirs")) as store:
        fetch(store, [OpenedRemote("origin", url, fresh(url, tmp_path))], [digest])
        assert bytes(store.read(digest, spec)) == data


def test_a_large_tensor_is_pushed_and_fetched_whole_and_in_ranges(host, url, local, tmp_path):
    spec = TensorSpec.of("F32", [1_000_000])
    data = [np.random.default_rng(seed).normal(size=spec.elements).astype("<f4").tobytes() for seed in range(2)]
    digests = [tensor_digest(spec, one) for one in data]
    with closing(Store(tmp_path / "mine")) as store:
        store.put(list(zip([spec] * 2, digests, data, strict=True)))
        plan = push(store, OpenedRemote("origin", url, opened(url, local, partsize="1000000")), digests)
        assert len(plan.packs) == 1
    assert len(host.stored()) == -(-plan.nbytes // 1_000_000)
    for number, wanted in enumerate([digests, digests[1:]]):
        host.log.clear()
        with closing(Store(tmp_path / f"store-{number}")) as store:
            fetch(store, [OpenedRemote("origin", url, opened(url, local))], wanted)
            assert all(bytes(store.read(one, spec)) == data[digests.index(one)] for one in wanted)
        down = sum(request.down for request in host.requests("GET /objects"))
        assert down < (0.6, 1.01)[wanted is digests] * plan.nbytes
