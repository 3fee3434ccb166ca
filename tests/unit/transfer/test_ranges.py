"""Some tensors of a shared pack: which bytes are fetched, and what becomes of them."""

import itertools

import numpy as np
import pytest
from helpers import packs_of
from hypothesis import given, settings
from hypothesis import strategies as st

from git_theta_ext.errors import MissingError, RemoteError, RemoteTimeoutError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.model.remote_keys import index_key, pack_key
from git_theta_ext.model.tensor import Digest, TensorSpec, tensor_digest
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs
from git_theta_ext.store.packs import writer
from git_theta_ext.store.packs.format import Entry, PackHeader, read_header, write_header
from git_theta_ext.store.packs.reader import read_head_of, read_pack_header
from git_theta_ext.store.store import Store
from git_theta_ext.transfer import extracts, portions, remote_index, retry
from git_theta_ext.transfer.offers import Offers
from git_theta_ext.transfer.portions import Portion, coalesced, pieces, portion
from git_theta_ext.transfer.records import heads_directory
from git_theta_ext.transfer.remote_index import OpenedRemote
from git_theta_ext.transfer.sync import fetch, push
from git_theta_plugins.remotes.directory import open_remote

GAP = 1000


@st.composite
def headers(draw):
    """A header of entries of any sizes, and the numbers of some of them."""
    sizes = draw(st.lists(st.integers(0, 3 * GAP), min_size=1, max_size=30))
    entries, at = [], 50
    for number, size in enumerate(sizes):
        entries.append(Entry(Digest(f"{number:064x}"), TensorSpec.of("U8", [size]), "dense", (size,), at))
        at += size
    numbers = draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1))
    return PackHeader(tuple(entries), 50), numbers


@given(headers())
def test_ranges_have_all_that_is_needed_and_little_else(case):
    header, numbers = case
    needed = [header.entries[number] for number in numbers]
    ranges = list(coalesced(needed, GAP))
    assert sorted(entry.digest for one in ranges for entry in one.entries) == sorted(entry.digest for entry in needed)
    for one in ranges:
        assert all(one.start <= entry.offset <= entry.offset + entry.stored <= one.end for entry in one.entries)
        assert {one.start, one.end} <= {at for e in one.entries for at in (e.offset, e.offset + e.stored)}
    for before, after in itertools.pairwise(ranges):
        assert after.start - before.end >= GAP
    # No choice of ranges costs less, if a request costs as much as a gap.
    cost = sum(one.end - one.start + GAP for one in ranges)
    assert cost <= sum(entry.stored + GAP for entry in needed)
    assert cost <= max(one.end for one in ranges) - min(one.start for one in ranges) + GAP


@given(headers(), st.integers(1, 2 * GAP))
def test_pieces_are_the_ranges(case, most):
    header, numbers = case
    ranges = list(coalesced([header.entries[number] for number in numbers], GAP))
    made = list(pieces(ranges, most))
    assert all(start < end <= start + most for _, start, end in made)
    for one in ranges:
        mine = [(start, end) for of, start, end in made if of is one]
        assert [at for pair in mine for at in pair] == sorted(at for pair in mine for at in pair)
        assert sum(end - start for start, end in mine) == one.end - one.start


@given(headers())
def test_a_portion_is_never_more_than_the_pack(case):
    header, numbers = case
    chosen = portion(header, numbers)
    assert chosen.nbytes <= header.pack_bytes
    assert portion(header, numbers, whole=True) == Portion(header.pack_bytes)


def tensors(count, seed=0, elements=1000):
    values = np.random.default_rng(seed).integers(0, 256, (count, elements), np.uint8)
    spec = TensorSpec.of("U8", [elements])
    return [(spec, tensor_digest(spec, value.data), value.tobytes()) for value in values]


def digests(items):
    return [digest for _, digest, _ in items]


class Counting:
    """A remote that counts bytes and can be told to send others."""

    def __init__(self, remote):
        self.remote = remote
        self.read = []
        self.fetched = []
        self.change = lambda data: data

    def __getattr__(self, name):
        return getattr(self.remote, name)

    def get(self, key, start=0, end=None):
        data = self.remote.get(key, start, end)
        if key.startswith("packs/"):
            data = self.change(data)
            self.read.append(len(data))
        return data

    def fetch(self, key, path, nbytes):
        self.fetched.append(nbytes)
        self.remote.fetch(key, path, nbytes)


@pytest.fixture(autouse=True)
def _requests_cost_little(monkeypatch, unbundled):
    monkeypatch.setattr(retry, "_WAITS", (0, 0))
    monkeypatch.setattr(portions, "REQUEST", 1500)
    monkeypatch.setattr(extracts, "_PIECE", 700)
    monkeypatch.setattr(writer, "SMALLEST_LIMIT", 1 << 20)


@pytest.fixture
def remote(tmp_path):
    root = str(tmp_path / "remote")
    return OpenedRemote("origin", root, Counting(open_remote(root, {}, RemoteContext())))


def names(store):
    return {path.name for _, path in store.pack_files()}


def clean(store):
    """Whether a store has nothing unfinished, and no pack with an entry that is not what it says."""
    unfinished = [path for name in ("tmp", "incoming") for path in (store.root / name).glob("*")]
    held = {entry.digest for _, path in store.pack_files() for entry in read_pack_header(path).entries}
    return unfinished == [] and store.touch_and_find_missing(held) == set()


def test_tensors_of_a_shared_pack_are_fetched_by_their_ranges(mine, theirs, remote):
    items = tensors(100)
    mine.put(items)
    plan = push(mine, remote, digests(items))
    ((shared, nbytes),) = plan.packs
    wanted = [items[3], items[4], items[50]]
    fetched = fetch(theirs, [remote], digests(wanted))
    assert fetched.packs == 1
    assert fetched.nbytes == sum(remote.plugin.read) < 0.05 * nbytes
    assert remote.plugin.fetched == []
    assert all(theirs.read(digest, spec) == data for spec, digest, data in wanted)
    assert theirs.touch_and_find_missing(digests(items)) == set(digests(items)) - set(digests(wanted))
    (name,) = names(theirs)
    assert name != shared
    assert clean(theirs)
    assert fetch(theirs, [remote], digests(wanted)).packs == 0
    # The remote's pack is still fetched if most of it is needed, and then nothing refers to the other one.
    fetch(theirs, [remote], digests(items))
    assert shared in names(theirs)


@pytest.mark.parametrize("wanted", [slice(0, 100), slice(0, 80)])
def test_a_pack_of_which_most_is_needed_is_fetched_whole(mine, theirs, remote, wanted):
    items = tensors(100)
    mine.put(items)
    ((name, nbytes),) = push(mine, remote, digests(items)).packs
    assert fetch(theirs, [remote], digests(items[wanted])).nbytes == nbytes
    assert names(theirs) == {name}


def test_a_delta_brings_the_range_of_its_base(mine, theirs, remote):
    old = tensors(50, seed=1, elements=4000)
    after = [(spec, data[:-1] + bytes([data[-1] ^ 1])) for spec, _, data in old]
    new = [(spec, tensor_digest(spec, data), data) for spec, data in after]
    mine.put(old)
    blobs = [
        blob
        for (spec, digest, data), (other, parent, before) in zip(new, old, strict=True)
        for blob in coded_blobs(
            digest,
            DeltaHint("delta", parent, other),
            lambda spec=spec, data=data: MemorySource(spec, data),
            lambda other=other, before=before: MemorySource(other, before),
        )
    ]
    mine.write([blobs], loose=False)
    push(mine, remote, digests(old + new))
    spec, digest, data = new[20]
    fetch(theirs, [remote], [digest])
    assert theirs.read(digest, spec) == data
    assert theirs.touch_and_find_missing(digests(old)) == set(digests(old)) - {old[20][1]}
    assert sum(remote.plugin.read) < 0.1 * sum(len(data) for _, _, data in old)


@settings(deadline=None, max_examples=15)
@given(case=st.data())
def test_any_entries_become_a_pack_with_their_bytes(tmp_path_factory, case):
    folder = tmp_path_factory.mktemp("extract")
    sizes = case.draw(st.lists(st.integers(0, 3000), min_size=2, max_size=12))
    items = [tensors(1, seed, size)[0] for seed, size in enumerate(sizes)]
    mine, theirs = Store(folder / "mine"), Store(folder / "theirs")
    mine.put(items)
    (name,) = names(mine)
    header = read_pack_header(mine.pack_path(name))
    numbers = case.draw(st.sets(st.integers(0, len(header.entries) - 1), min_size=1))
    ranges = list(coalesced([header.entries[number] for number in numbers], case.draw(st.integers(1, 2000))))
    place = OpenedRemote("mine", "mine", open_remote(str(mine.root), {}, RemoteContext()))
    new, failures = extracts.bring_ranges(theirs, name, ranges, [place])
    assert failures == []
    got = read_pack_header(theirs.pack_path(new))
    whole, part = mine.pack_path(name).read_bytes(), theirs.pack_path(new).read_bytes()
    assert len(part) == got.pack_bytes
    assert {e.digest: part[e.offset : e.offset + e.stored] for e in got.entries} == {
        e.digest: whole[e.offset : e.offset + e.stored] for e in (header.entries[number] for number in numbers)
    }
    mine.close()
    theirs.close()


def short(data):
    return data[:-1]


def flipped(data):
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize("change", [short, flipped, lambda data: data + b"x", lambda _: b""])
def test_after_wrong_ranges_the_whole_pack_is_fetched(mine, theirs, remote, change):
    items = tensors(100)
    mine.put(items)
    ((name, nbytes),) = push(mine, remote, digests(items)).packs
    remote.plugin.change = change
    fetch(theirs, [remote], digests(items[:2]))
    assert remote.plugin.fetched == [nbytes]
    assert names(theirs) == {name}
    assert all(theirs.read(digest, spec) == data for spec, digest, data in items[:2])
    assert clean(theirs)


def test_wrong_ranges_of_a_pack_that_is_wrong_too_are_an_error_and_leave_nothing(mine, theirs, remote, tmp_path):
    items = tensors(100)
    mine.put(items)
    ((name, _),) = push(mine, remote, digests(items)).packs
    path = tmp_path / "remote" / pack_key(name)
    data = bytearray(path.read_bytes())
    data[read_pack_header(path).entries[0].offset + 30] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(MissingError, match=name):
        fetch(theirs, [remote], digests(items[:1]))
    assert names(theirs) == set()
    assert clean(theirs)


@pytest.mark.parametrize("spoil", [None, b"x", b""])
def test_a_download_of_ranges_that_was_interrupted_is_resumed(mine, theirs, remote, spoil):
    items = tensors(100)
    mine.put(items)
    push(mine, remote, digests(items))
    wanted = [*items[2:4], *items[60:63]]

    def fail(data):
        if len(remote.plugin.read) > 2:
            raise RemoteError("the connection is gone")
        return data

    remote.plugin.change = fail
    real, remote.plugin.remote.fetch = remote.plugin.remote.fetch, lambda *_: fail(b"")
    with pytest.raises(RemoteError, match="the connection is gone"):
        fetch(theirs, [remote], digests(wanted))
    assert names(theirs) == set()
    (part,) = (theirs.root / "incoming").glob("*.part")
    if spoil is not None:  # as after a power cut
        part.write_bytes(spoil + part.read_bytes()[len(spoil) :] if spoil else b"")
    before, remote.plugin.change, remote.plugin.remote.fetch = sum(remote.plugin.read), lambda data: data, real
    remote.plugin.fetched.clear()
    nbytes = fetch(theirs, [remote], digests(wanted)).nbytes
    again = sum(remote.plugin.read) - before
    if spoil is None:  # a piece that came at the same time as the error was not written
        assert nbytes - before <= again < nbytes - before + 700 * extracts._AT_ONCE < nbytes
    else:
        assert again == nbytes
    assert remote.plugin.fetched == []
    assert all(theirs.read(digest, spec) == data for spec, digest, data in wanted)
    assert clean(theirs)


@pytest.mark.parametrize("silent", [True, False])
def test_the_whole_pack_is_asked_for_after_its_ranges_were_refused_but_not_of_a_silent_remote(
    mine, theirs, remote, silent
):
    items = tensors(100)
    mine.put(items)
    ((_, nbytes),) = push(mine, remote, digests(items)).packs

    def refuse(_):
        raise RemoteTimeoutError("no answer") if silent else RemoteError("no ranges")

    remote.plugin.change = refuse
    if silent:
        with pytest.raises(RemoteError, match="no answer"):
            fetch(theirs, [remote], digests(items[2:4]))
        assert remote.plugin.fetched == []
    else:
        fetch(theirs, [remote], digests(items[2:4]))
        assert remote.plugin.fetched == [nbytes]


def larger(entries):
    return [Entry(e.digest, e.spec, e.encoding, (2 * e.chunks[0],)) for e in entries]


def huge(entries):
    """Return entries of which some, but not most of the pack, claim to have gigabytes."""
    bomb = TensorSpec.of("U8", [1 << 33])
    return [
        Entry(e.digest, bomb, "dense", (1 << 19,) * (1 << 14)) if at % 25 == 4 else e for at, e in enumerate(entries)
    ]


def empty(entries):
    return [Entry(e.digest, e.spec, e.encoding, (0,)) for e in entries]


@pytest.mark.parametrize("lie", [larger, huge, empty])
def test_a_head_that_lies_about_its_pack_costs_no_more_than_the_pack(mine, theirs, remote, tmp_path, lie):
    items = tensors(100)
    mine.put(items)
    ((name, nbytes),) = push(mine, remote, digests(items)).packs
    entry = tmp_path / "remote" / index_key(name)
    head = write_header(lie(read_header(read_head_of(mine.pack_path(name))).entries))
    entry.unlink()
    entry.write_bytes(head)
    with pytest.raises(MissingError):
        fetch(theirs, [remote], digests(items[3:5]))
    assert sum(remote.plugin.read) <= nbytes
    assert names(theirs) == set()
    assert clean(theirs)


def test_a_remote_that_sends_whole_objects_is_asked_for_whole_packs(mine, theirs, remote):
    items = tensors(100)
    mine.put(items)
    ((_, nbytes),) = push(mine, remote, digests(items)).packs
    remote.plugin.ranged = False
    assert fetch(theirs, [remote], digests(items[:1])).nbytes == nbytes
    assert remote.plugin.read == []


def test_a_remote_that_turns_out_to_send_whole_objects_is_asked_for_the_rest_by_whole_packs(mine, theirs, remote):
    items = tensors(100)
    mine.put(items)
    ((_, nbytes),) = push(mine, remote, digests(items)).packs

    def notice(data):
        remote.plugin.ranged = False
        return data

    remote.plugin.change = notice
    fetch(theirs, [remote], digests([*items[:2], items[70]]))
    assert len(remote.plugin.read) <= extracts._AT_ONCE
    assert remote.plugin.fetched == [nbytes]
    assert clean(theirs)


def test_what_came_by_ranges_is_pushed_elsewhere_as_a_pack_of_its_own(mine, theirs, remote, tmp_path):
    items = tensors(100)
    mine.put(items)
    push(mine, remote, digests(items))
    fetch(theirs, [remote], digests(items[:2]))
    assert push(theirs, remote, digests(items[:2])).packs == ()
    other = OpenedRemote("other", "other", open_remote(str(tmp_path / "other"), {}, RemoteContext()))
    assert [name for name, _ in push(theirs, other, digests(items[:2])).packs] == list(names(theirs))
    assert packs_of(theirs, [items[0][1]]) == names(theirs)
    assert not (heads_directory(theirs.root, remote.url) / min(names(theirs))).exists()
    assert min(names(theirs)) not in remote_index.read_remote_index(theirs, remote).headers


def test_what_will_be_fetched_is_known_before(mine, theirs, remote):
    items = tensors(100)
    mine.put(items)
    push(mine, remote, digests(items))
    packs, complete = Offers(theirs, [remote]).choose(digests(items[:2]))
    assert complete
    assert sum(one.nbytes for one in packs.values()) == fetch(theirs, [remote], digests(items[:2])).nbytes
