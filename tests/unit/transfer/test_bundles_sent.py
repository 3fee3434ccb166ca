"""Bundles on remotes: what is sent, what need not be sent, and what comes back."""

import contextlib
from functools import partial

import pytest
from helpers import bundle_from
from many_tensors import COUNT, bundle_of, digests, entries, evolution, groups, holds, put, recoder
from test_ranges import Counting

from git_theta_ext.errors import MissingError, StoreError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.store.index import Index
from git_theta_ext.store.maintenance.recode import Recoder
from git_theta_ext.store.packs import writer
from git_theta_ext.store.packs.format import GATHERED, PART
from git_theta_ext.store.store import Store
from git_theta_ext.transfer import portions
from git_theta_ext.transfer.outgoing import PushSteps
from git_theta_ext.transfer.relay import relay
from git_theta_ext.transfer.remote_index import OpenedRemote, read_remote_index
from git_theta_ext.transfer.sync import fetch, push
from git_theta_ext.transfer.verify import verified
from git_theta_plugins.remotes.directory import open_remote


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens a store by its name."""
    with contextlib.ExitStack() as stack:
        yield lambda name: stack.enter_context(contextlib.closing(Store(tmp_path / name, threads=2)))


@pytest.fixture
def place(tmp_path):
    """Return a function that opens a remote by its name."""

    def place(name):
        root = str(tmp_path / name)
        return OpenedRemote(name, root, Counting(open_remote(root, {}, RemoteContext())))

    return place


def recoded(store, versions, going):
    """Recode what is pushed, as git theta does."""
    stored = {**store.stored_as(digests(versions)), **going.stored}
    wanted = [[one for one in group if one.digest in going.stored] for group in groups(versions)]
    Recoder(store, 4, going=(going.digests, going.there), stored=stored).run(wanted, done=lambda _: None)


def pushed(store, remote, versions):
    """Push the last version with deltas, as git theta does."""
    return push(store, remote, digests(versions[-1:]), PushSteps(partial(recoded, store, versions)))


def arrives(opened, remotes, items, name="clone"):
    """Whether a new clone gets some tensors."""
    clone = opened(name)
    fetch(clone, remotes, digests([items]))
    return holds(clone, [items])


def test_a_bundle_is_pushed_and_fetched_as_one(opened, place):
    (items,) = evolution()
    mine, theirs, remote = opened("mine"), opened("theirs"), place("remote")
    mine.put(items)
    assert len(push(mine, remote, digests([items])).packs) == 1
    assert push(mine, remote, digests([items])).packs == ()
    assert read_remote_index(mine, remote).held(digests([items])) == digests([items])
    fetch(theirs, [remote], digests([items]))
    assert [entry.digest for entry in entries(theirs)] == [bundle_of(items).digest]
    assert holds(theirs, [items])
    assert fetch(theirs, [remote], digests([items])).packs == 0
    assert push(theirs, remote, digests([items])).packs == ()


@pytest.mark.parametrize("there", ["another order", "alone", "more together"])
def test_what_a_remote_has_in_other_bundles_or_alone_is_not_sent(opened, place, monkeypatch, there):
    (items,), (others,) = evolution(), evolution(seed=1)
    mine, theirs, remote = opened("mine"), opened("theirs"), place("remote")
    mine.put(items)
    with monkeypatch.context() as patch:
        if there == "alone":
            bundle_from(patch, 1 << 20)
        theirs.put([*others[:20], *items[::-1]] if there == "more together" else items[::-1])
    push(theirs, remote, digests([items]))
    assert push(mine, remote, digests([items])).packs == ()
    assert verified(mine, remote, digests([items]), download=True) == digests([items])
    assert arrives(opened, [remote], items)


def test_tensors_of_which_a_remote_lacks_a_few_are_sent_with_their_bundle(opened, place):
    (items,) = evolution()
    mine, theirs, remote = opened("mine"), opened("theirs"), place("remote")
    mine.put(items)
    theirs.put(items[:40])
    push(theirs, remote, digests([items[:40]]))
    assert len(push(mine, remote, digests([items])).packs) == 1
    assert arrives(opened, [remote], items)


def test_a_few_tensors_of_a_pack_are_fetched_with_their_bundle_by_ranges(opened, place, monkeypatch):
    monkeypatch.setattr(portions, "REQUEST", 1500)
    monkeypatch.setattr(writer, "SMALLEST_LIMIT", 1 << 22)
    monkeypatch.setattr("git_theta_ext.store.bundled.LARGEST", 1 << 14)  # there are several bundles
    (items,) = evolution()
    mine, theirs, remote = opened("mine"), opened("theirs"), place("remote")
    mine.put(items)
    ((_, nbytes),) = push(mine, remote, digests([items])).packs
    held = next(entry for entry in entries(mine) if items[20][1] in {digest for _, _, digest in entry.bundle.members()})
    fetch(theirs, [remote], [items[20][1], items[21][1]])
    assert sum(remote.plugin.read) < nbytes / 2
    assert held.digest in {entry.digest for entry in entries(theirs)}
    assert holds(theirs, [items[20:22]])
    with pytest.raises(MissingError):
        theirs.read(items[-1][1], items[-1][0])
    fetch(theirs, [remote], digests([items]))
    assert holds(theirs, [items])


def test_tensors_come_from_remotes_that_bundle_them_differently(opened, place):
    (items,) = evolution()
    one, other = place("one"), place("other")
    for name, remote, part in (("mine", one, items[:40]), ("theirs", other, items[25:][::-1])):
        store = opened(name)
        store.put(part)
        push(store, remote, digests([part]))
    assert arrives(opened, [one, other], items)
    assert arrives(opened, [other, one], items, "again")
    with pytest.raises(MissingError):
        arrives(opened, [one], items, "half")


def test_deltas_of_earlier_bundles_are_pushed_and_bring_these(opened, place):
    versions = evolution(range(COUNT), range(5, 45), [3, 4, 50])
    mine, remote = opened("mine"), place("remote")
    sizes = []
    for at in range(len(versions)):
        mine.put(versions[at])
        sizes.append(sum(nbytes for _, nbytes in pushed(mine, remote, versions[: at + 1]).packs))
    assert sizes[1] < 0.8 * sizes[0]
    assert sizes[2] < 0.8 * sizes[0] * 40 / COUNT + 4000
    assert sizes[3] < 0.2 * sizes[0]
    for number, items in enumerate(versions):
        assert arrives(opened, [remote], items, f"clone-{number}")
    everything = digests(versions)
    assert verified(mine, remote, everything, download=True) == everything


def test_a_push_relies_on_parents_that_the_remote_has_in_another_bundle(opened, place):
    versions = evolution(range(COUNT), [3, 4])
    mine, theirs, remote = opened("mine"), opened("theirs"), place("remote")
    theirs.put(versions[0][::-1])
    push(theirs, remote, digests(versions[:1]))
    put(mine, versions)
    recoder(mine, versions).run(groups(versions))  # as git theta gc does
    pushed(mine, remote, versions[:2])
    pushed(mine, remote, versions)
    for number, items in enumerate(versions):
        assert arrives(opened, [remote], items, f"clone-{number}")


def test_a_first_push_of_a_store_that_was_recoded_brings_all_that_deltas_need(opened, place):
    versions = evolution(range(5, 45), range(COUNT), [3, 4, 50])
    mine, remote = opened("mine"), place("remote")
    put(mine, versions)
    recoder(mine, versions).run(groups(versions))
    assert {GATHERED, PART} <= {entry.encoding for entry in entries(mine)}
    push(mine, remote, digests(versions[-1:]))
    assert arrives(opened, [remote], versions[-1])
    push(mine, remote, digests(versions))
    for number, items in enumerate(versions):
        assert arrives(opened, [remote], items, f"clone-{number}")


def test_a_remote_with_packs_of_the_first_version_gets_deltas_of_them(opened, place, monkeypatch):
    versions = evolution(range(COUNT))
    mine, theirs, remote = opened("mine"), opened("theirs"), place("remote")
    with monkeypatch.context() as patch:
        bundle_from(patch, 1 << 20)
        theirs.put(versions[0])
        assert {path.read_bytes()[8] for _, path in theirs.pack_files()} == {1}
    push(theirs, remote, digests(versions[:1]))
    fetch(mine, [remote], digests(versions[:1]))
    mine.put(versions[1])
    pushed(mine, remote, versions)
    assert arrives(opened, [remote], versions[1])
    assert arrives(opened, [remote], versions[0], "old")


def test_bundles_of_a_remote_are_known_although_its_index_cannot_be_written(opened, place, monkeypatch):
    (items,) = evolution()
    mine, theirs, remote = opened("mine"), opened("theirs"), place("remote")
    for part in (items, items[:40]):  # two bundles have the first ones
        store = opened(f"of-{len(part)}")
        store.put(part)
        push(store, remote, digests([part]))
        mine.put(part)

    def full(*_, **__):
        raise StoreError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Index, "add_pack", full)
        index = read_remote_index(theirs, remote)
        assert index.held(digests([items])) == digests([items])


def test_bundles_pass_from_one_remote_to_another_without_other_tensors(opened, place):
    (items,) = evolution()
    mine, theirs, near, far = opened("mine"), opened("theirs"), place("near"), place("far")
    mine.put(items)
    push(mine, near, digests([items]))
    some = items[10:40]
    relayed = relay(theirs, [near], far, digests([some]))
    assert (relayed.left, relayed.packs) == (frozenset(), 1)
    assert entries(theirs) == []
    assert arrives(opened, [far], some)
    assert read_remote_index(opened("reader"), far).held(digests([items])) == digests([some])


def test_a_bundle_is_pushed_whole_if_the_remote_has_its_other_tensors(opened, place):
    (items,) = evolution()
    mine, theirs, remote = opened("mine"), opened("theirs"), place("remote")
    theirs.put(items[:20])
    push(theirs, remote, digests([items[:20]]))
    mine.put(items)
    push(mine, remote, digests([items[20:]]))
    assert [entry.digest for entry in entries(mine)] == [bundle_of(items).digest]
    assert arrives(opened, [remote], items)
