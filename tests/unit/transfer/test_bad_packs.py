"""Packs whose names are right and whose tensors are not: never believed, never handed on, and no obstacle."""

from pathlib import Path

import numpy as np
import pytest
from helpers import dense_payload, make_pack, packs_of

from git_theta_ext.errors import MissingError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.packs.format import Entry
from git_theta_ext.store.store import DeltaHint, Store
from git_theta_ext.transfer.remote_index import OpenedRemote, read_remote_index
from git_theta_ext.transfer.sync import fetch, push
from git_theta_plugins.remotes.directory import open_remote


def tensors(*seeds, elements=3000):
    made = []
    for seed in seeds:
        values = np.random.default_rng(seed).standard_normal(elements).astype("<f4")
        spec = TensorSpec.of("F32", values.shape)
        made.append((spec, tensor_digest(spec, values.data), values.tobytes()))
    return made


def digests(items):
    return {digest for _, digest, _ in items}


def holds(store, items):
    return all(bytes(store.read(digest, spec)) == data for spec, digest, data in items)


def entry(item, data=None, encoding="dense", bases=()):
    payload = dense_payload(item[0], data) if data is not None else b"\0"
    return Entry(item[1], item[0], encoding, (len(payload),), bases=tuple(base[1] for base in bases)), payload


def bad(item):
    return entry(item, bytes(len(item[2])))


def good(item):
    return entry(item, item[2])


@pytest.fixture
def opened(tmp_path):
    stores = []

    def store(name):
        stores.append(Store(tmp_path / name, threads=2))
        return stores[-1]

    yield store
    for each in stores:
        each.close()


@pytest.fixture
def place(tmp_path):
    return lambda name="origin": OpenedRemote(
        name, str(tmp_path / name), open_remote(str(tmp_path / name), {}, RemoteContext())
    )


def give(place, *entries):
    """Put a pack on a remote, and return its name."""
    name, data = make_pack(*entries)
    path = Path(place.url + "-pack")
    path.write_bytes(data)
    place.plugin.put(pack_key(name), path)
    path.unlink()
    return name


def adopt(store, *entries):
    name, data = make_pack(*entries)
    store.root.mkdir(exist_ok=True)
    (store.root / "come").write_bytes(data)
    store.adopt(name, store.root / "come")
    return name


def test_what_leans_on_something_that_is_not_here_does_not_count_when_it_comes(opened, place):
    """A remote cannot keep the true tensor from being stored by an entry that nobody could decode when it came."""
    base, public, harmless = tensors(1, 2, 3)
    origin, mine = place(), opened("mine")
    give(origin, good(harmless), entry(public, None, "delta", [base]))
    fetch(mine, [origin], digests([harmless]))
    mine.put([base, public])
    assert holds(mine, [base, public, harmless])
    push(mine, origin, digests([base, public]))
    theirs = opened("theirs")
    fetch(theirs, [origin], digests([base, public, harmless]))
    assert holds(theirs, [base, public, harmless])


def test_an_honest_difference_counts_once_its_base_has_come(opened, place):
    old, other = tensors(1, 2)
    new = (old[0], tensor_digest(old[0], bytes(4) + old[2][4:]), bytes(4) + old[2][4:])
    author, mine, origin, later = opened("author"), opened("mine"), place(), place("later")
    author.put([old])
    author.put([new, other], hints={new[1]: DeltaHint("delta", old[1], old[0])})
    push(author, origin, digests([old, new, other]))
    (base,) = packs_of(author, [old[1]])
    later.plugin.put(pack_key(base), author.pack_path(base))
    Path(origin.url, pack_key(base)).unlink()
    with pytest.raises(MissingError):
        fetch(mine, [origin], digests([new, other]))
    assert mine.touch_and_find_missing(digests([new])) == digests([new])
    fetch(mine, [later], digests([new]))
    assert holds(mine, [old, new])


@pytest.mark.parametrize("at", ["base", "magic"])
def test_a_damaged_pack_of_this_store_is_named_if_nobody_has_its_tensors(opened, place, at):
    old, new = tensors(1, 2)
    mine, origin = opened("mine"), place()
    mine.put([old])
    name = adopt(mine, entry(new, None, "delta", [old]))
    path = mine.pack_path(name)
    data = bytearray(path.read_bytes())
    data[data.index(bytes.fromhex(old[1])) if at == "base" else 0] ^= 1
    path.unlink()
    path.write_bytes(data)
    mine.index.drop_pack(str(mine.root), name)
    mine.refresh()
    with pytest.raises(MissingError, match=f"damaged packs of this store: {name}$") as caught:
        fetch(mine, [origin], digests([new]))
    assert caught.value.hint == "git theta fsck --full --repair"


def test_of_a_fetched_pack_the_good_part_is_kept_and_the_bad_one_is_not_handed_on(opened, place):
    items = tensors(1, 2, 3)
    mine, origin = opened("mine"), place()
    name = give(origin, *map(good, items[:2]), bad(items[2]))
    with pytest.raises(MissingError, match=name):
        fetch(mine, [origin], digests(items))
    assert mine.touch_and_find_missing(digests(items)) == digests(items[2:])
    assert holds(mine, items[:2])
    assert not mine.has_pack(name)


def test_what_is_known_to_be_bad_is_not_fetched_again_and_another_pack_is(opened, place):
    (item,) = tensors(1)
    mine, origin, backup = opened("mine"), place(), place("backup")
    name = give(origin, bad(item))
    with pytest.raises(MissingError):
        fetch(mine, [origin], digests([item]))
    give(backup, good(item))
    fetched = []
    real = origin.plugin.fetch
    origin.plugin.fetch = lambda key, path: fetched.append(key) or real(key, path)
    fetch(mine, [origin, backup], digests([item]))
    assert holds(mine, [item])
    assert fetched == []
    assert read_remote_index(mine, origin).held(digests([item])) == set()
    assert mine.verdicts.bad_entries() == {(name, item[1])}


def test_a_bad_pack_is_never_uploaded(opened, place):
    item, other = tensors(1, 2)
    mine, origin = opened("mine"), place()
    name = adopt(mine, bad(item), good(other))
    with pytest.raises(MissingError, match="neither in the store nor on origin"):
        push(mine, origin, digests([item, other]))
    assert not list(origin.plugin.list("packs/"))
    push(mine, origin, digests([other]))
    assert pack_key(name) not in set(origin.plugin.list("packs/"))
    mine.put([item])
    push(mine, origin, digests([item, other]))
    assert pack_key(name) not in set(origin.plugin.list("packs/"))
    theirs = opened("theirs")
    fetch(theirs, [origin], digests([item, other]))
    assert holds(theirs, [item, other])


@pytest.mark.parametrize("fetched", [True, False])
def test_a_bad_pack_on_the_remote_does_not_keep_the_true_tensor_from_being_uploaded(opened, place, fetched):
    (item,) = tensors(1)
    mine, origin = opened("mine"), place()
    name = give(origin, bad(item))
    if fetched:
        with pytest.raises(MissingError):
            fetch(mine, [origin], digests([item]))
    else:
        assert adopt(mine, bad(item)) == name
    mine.put([item])
    assert push(mine, origin, digests([item])).packs != ()
    assert push(mine, origin, digests([item])).packs == ()
    theirs = opened("theirs")
    fetch(theirs, [origin], digests([item]))
    assert holds(theirs, [item])


def test_a_file_that_was_damaged_is_fetched_again(opened, place):
    items = tensors(1, 2)
    mine, origin = opened("mine"), place()
    mine.put(items)
    push(mine, origin, digests(items))
    (name,) = packs_of(mine, digests(items))
    path = mine.pack_path(name)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-3] + b"\0\0\0")
    mine.reader.close()
    with mine.index.transaction() as db:
        db.execute("UPDATE blobs SET verdict = 0")
    fetch(mine, [origin], digests(items))
    assert path.read_bytes() == data
    assert holds(mine, items)


def test_a_push_decodes_nothing_of_a_store_that_is_borrowed_from_but_what_it_uploads(opened, place, tmp_path):
    items = tensors(1, 2, elements=70_000)
    lender, origin = opened("lender"), place()
    lender.put(items)
    push(lender, origin, digests(items[:1]))
    borrower = Store(tmp_path / "borrower", [lender.root], threads=1)
    decoded, decode = [], borrower.decoder.decode
    borrower.decoder.decode = lambda blobs, digest, *rest: decoded.append(str(digest)) or decode(blobs, digest, *rest)
    push(borrower, origin, digests(items))
    assert set(decoded) == digests(items[1:])
    borrower.close()
