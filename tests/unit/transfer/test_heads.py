"""What is cached of a remote's packs, and the index of it."""

import os
import shutil

import pytest

from git_theta_ext.errors import StoreError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.index import Index
from git_theta_ext.store.packs import format as packs_format
from git_theta_ext.transfer import heads
from git_theta_ext.transfer.offers import Offers
from git_theta_ext.transfer.records import heads_directory, record_path
from git_theta_ext.transfer.remote_index import HeldDigests, OpenedRemote, known_index, read_remote_index
from git_theta_ext.transfer.sync import fetch, push
from git_theta_plugins.remotes.directory import open_remote

SPEC = TensorSpec.of("F32", (100,))


def item(seed):
    data = bytes([seed]) * SPEC.nbytes
    return SPEC, tensor_digest(SPEC, data), data


ITEMS = [item(seed) for seed in range(5)]
DIGESTS = [digest for _, digest, _ in ITEMS]


@pytest.fixture
def remote(tmp_path):
    return OpenedRemote("origin", str(tmp_path / "remote"), open_remote(str(tmp_path / "remote"), {}, RemoteContext()))


@pytest.fixture
def pushed(mine, remote):
    """Three pushes of one tensor each, whose packs the index has."""
    for one in ITEMS[:3]:
        mine.put([one])
        push(mine, remote, [one[1]])
    read_remote_index(mine, remote)


@pytest.fixture
def parsed(monkeypatch):
    """The paths of the heads that are read."""
    paths = []
    real = heads.read_pack_header
    monkeypatch.setattr(heads, "read_pack_header", lambda path: paths.append(path) or real(path))
    return paths


@pytest.mark.usefixtures("pushed")
def test_a_push_reads_the_heads_of_new_packs_only(mine, remote, parsed):
    mine.put(ITEMS[3:4])
    push(mine, remote, DIGESTS[:4])
    assert len(parsed) == 1
    assert read_remote_index(mine, remote).held(DIGESTS) == set(DIGESTS[:4])
    assert len(parsed) == 1


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("listed", [True, False])
def test_a_head_that_is_fetched_is_parsed_once(remote, theirs, monkeypatch, listed):
    if not listed:
        shutil.rmtree(theirs.root.parent / "remote" / "index")
    parsed = []
    real = packs_format._parse
    monkeypatch.setattr(packs_format, "_parse", lambda head, nbytes: parsed.append(bytes(head)) or real(head, nbytes))
    read_remote_index(theirs, remote)
    assert len(parsed) == len(set(parsed)) == 3


@pytest.mark.usefixtures("pushed")
def test_a_fetch_reads_the_heads_of_new_packs_and_of_those_that_it_fetches(mine, theirs, remote, parsed):
    fetch(theirs, [remote], DIGESTS[:2])
    mine.put(ITEMS[3:4])
    push(mine, remote, DIGESTS[3:4])
    parsed.clear()
    fetch(theirs, [remote], DIGESTS[3:4])
    assert {path.name for path in parsed} == {path.name for path in mine.root.glob("packs/*/*")} - {
        at.pack for several in mine.locations(DIGESTS[:3]).values() for at in several
    }
    assert not Offers(theirs, [remote]).have(DIGESTS[4:])


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("damage", ["removed", "overwritten"])
def test_an_index_that_is_lost_is_made_again(mine, remote, damage):
    before = read_remote_index(mine, remote)
    path = record_path(mine.root, remote.url, "sqlite3")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(b"no database" * 1000)
    again = read_remote_index(mine, remote)
    assert again.packs == before.packs
    assert again.held(DIGESTS) == known_index(mine.root, remote.url).held(DIGESTS) == set(DIGESTS[:3])


@pytest.mark.usefixtures("pushed")
def test_an_index_that_is_damaged_while_it_is_open_is_made_again(mine, remote, monkeypatch):
    index = read_remote_index(mine, remote)
    real = Index.locations
    damaged = [True]

    def locations(self, digests):
        if damaged.pop() if damaged else False:
            self._renew()
        return real(self, digests)

    monkeypatch.setattr(Index, "locations", locations)
    assert index.held(DIGESTS) == set(DIGESTS[:3])


def test_a_remote_is_read_although_its_index_cannot_be_written(mine, theirs, remote, monkeypatch):
    mine.put(ITEMS[:2])
    push(mine, remote, DIGESTS[:2])

    def full(*_, **__):
        raise StoreError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Index, "add_pack", full)
        assert read_remote_index(theirs, remote).held(DIGESTS) == set(DIGESTS[:2])
    fetch(theirs, [remote], DIGESTS[:2])
    assert theirs.touch_and_find_missing(DIGESTS) == set(DIGESTS[2:])


@pytest.mark.usefixtures("pushed")
def test_packs_that_are_gone_from_a_remote_are_not_relied_on(mine, remote):
    (gone,) = {location.pack for location in mine.locations(DIGESTS[:1])[DIGESTS[0]]}
    (mine.root.parent / "remote" / pack_key(gone)).unlink()
    assert read_remote_index(mine, remote).held(DIGESTS) == set(DIGESTS[1:3])
    old = heads_directory(mine.root, remote.url) / gone
    os.utime(old, (1000, 1000))
    read_remote_index(mine, remote)
    assert not old.exists()
    assert gone not in Index(record_path(mine.root, remote.url, "sqlite3")).pack_names("")
    assert push(mine, remote, DIGESTS[:3]).packs


@pytest.mark.usefixtures("pushed")
def test_what_a_remote_has_is_looked_up_when_it_is_asked_for(mine, remote):
    there = HeldDigests(read_remote_index(mine, remote))
    assert [digest in there for digest in DIGESTS] == [True, True, True, False, False]
    assert there.among(DIGESTS) == set(DIGESTS[:3])
