from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import dense_payload, make_pack, packs_of
from pickled import PickledWorkers
from reports import Done

from git_theta_ext.cluster import jobs
from git_theta_ext.errors import RemoteError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.deltas.encode import MemorySource, coded_blobs
from git_theta_ext.store.packs.blobs import dense_blob
from git_theta_ext.store.packs.format import Entry
from git_theta_ext.store.store import DeltaHint, Store
from git_theta_ext.transfer import retry
from git_theta_ext.transfer.damaged import read_damaged
from git_theta_ext.transfer.places import RemotePlace
from git_theta_ext.transfer.remote_index import OpenedRemote
from git_theta_ext.transfer.sync import push
from git_theta_ext.transfer.verify import verified
from git_theta_plugins.remotes.directory import open_remote

SPEC = TensorSpec.of("U8", (1 << 18,))


def random(seed):
    return np.random.default_rng(seed).bytes(SPEC.nbytes)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(retry, "_WAITS", (0, 0))


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "theta", threads=2)
    yield store
    store.close()


@pytest.fixture
def place(tmp_path):
    return OpenedRemote("origin", str(tmp_path / "remote"), open_remote(str(tmp_path / "remote"), {}, RemoteContext()))


@pytest.fixture
def items(store, place):
    made = [(SPEC, tensor_digest(SPEC, data), data) for data in (random(n) for n in range(3))]
    store.put(made)
    push(store, place, [digest for _, digest, _ in made])
    return made


def on_remote(store, place, digest):
    (name,) = packs_of(store, [digest])
    return (store.root.parent / "remote") / pack_key(name)


def rewritten(path, change):
    data = path.read_bytes()
    path.unlink()  # it may be a link of the pack here
    path.write_bytes(change(data))


@pytest.mark.parametrize("download", [False, True])
def test_what_was_pushed_is_there(store, place, items, download):
    advance = Done()
    wanted = {digest for _, digest, _ in items}
    real = place.plugin.fetch

    def fetch(key, path, nbytes):
        for part in (nbytes // 2, nbytes):
            place.meter(key, part)
        real(key, path, nbytes)

    place.plugin.fetch = fetch
    assert verified(store, place, {*wanted, "f" * 64}, download=download, advance=advance) == wanted
    names = packs_of(store, wanted)
    assert advance.expected == sum(advance) == sum(store.pack_path(name).stat().st_size for name in names)
    assert len([nbytes for nbytes in advance if nbytes]) == len(names) * (1 + download)


@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:30] + b"\xff" + data[31:], lambda _: b""],
)
def test_a_pack_of_another_size_or_head_does_not_count(store, place, items, change):
    rewritten(on_remote(store, place, items[0][1]), change)
    assert verified(store, place, [digest for _, digest, _ in items]) == {items[1][1], items[2][1]}


def test_a_pack_that_is_gone_does_not_count_though_its_index_entry_is_there(store, place, items):
    on_remote(store, place, items[0][1]).unlink()
    assert items[0][1] not in verified(store, place, [items[0][1]])


def test_only_a_download_finds_other_bytes_of_the_same_size(store, place, items):
    rewritten(on_remote(store, place, items[0][1]), lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    wanted = {digest for _, digest, _ in items}
    assert verified(store, place, wanted) == wanted
    assert verified(store, place, wanted, download=True) == wanted - {items[0][1]}
    assert not list((store.root / "tmp").iterdir())


def test_a_tensor_without_its_base_does_not_count(store, place, items):
    data = bytes([9]) + items[0][2][1:]
    leaning = tensor_digest(SPEC, data)
    store.put([(SPEC, leaning, data)], hints={leaning: DeltaHint("delta", items[0][1], SPEC)})
    assert len(packs_of(store, [leaning])) == 2
    push(store, place, [leaning])
    assert verified(store, place, [leaning]) == {leaning}
    on_remote(store, place, items[0][1]).unlink()
    assert verified(store, place, [leaning]) == set()


def put_by_somebody_else(store, place, *items):
    """Put a pack on the remote that holds the same under another name; returns its name."""
    other = Store(store.root.parent / "other", threads=1)
    blobs = [dense_blob(digest, partial(MemorySource, spec, data)) for spec, digest, data in items]
    (name,) = other.write([blobs], loose=True)
    place.plugin.put(pack_key(name), other.pack_path(name))
    other.close()
    return name


def test_a_damaged_pack_gives_way_to_another_that_holds_the_same(store, place, items):
    wanted = {digest for _, digest, _ in items}
    name = put_by_somebody_else(store, place, *items[:2])
    rewritten(on_remote(store, place, items[0][1]), lambda data: data[:-1])
    assert verified(store, place, wanted, download=True) == wanted
    Path(place.url, pack_key(name)).unlink()
    assert verified(store, place, wanted, download=True) == wanted - {items[0][1]}
    assert not list((store.root / "tmp").iterdir())


def test_a_pack_that_was_never_here_counts_once_it_was_decoded(store, place, items):
    wanted = {digest for _, digest, _ in items[:2]}
    for digest in wanted:
        on_remote(store, place, digest).unlink()
    put_by_somebody_else(store, place, *items[:2])
    assert verified(store, place, wanted) == set()
    assert verified(store, place, wanted, download=True) == wanted
    assert verified(store, place, wanted) == wanted


def test_a_pack_that_was_dropped_here_since_it_was_pushed_counts(store, place, items):
    wanted = {digest for _, digest, _ in items}
    store.drop(packs_of(store, wanted))
    assert verified(store, place, wanted) == wanted


def bad(item):
    payload = dense_payload(SPEC, bytes(len(item[2])))
    return make_pack((Entry(item[1], SPEC, "dense", (len(payload),)), payload))


def test_a_pack_that_holds_something_else_does_not_count(store, place, items):
    digest = items[0][1]
    on_remote(store, place, digest).unlink()
    name, data = bad(items[0])
    (store.root / "made").write_bytes(data)
    place.plugin.put(pack_key(name), store.root / "made")
    assert verified(store, place, [digest]) == set()
    assert verified(store, place, [digest], download=True) == set()
    assert store.verdicts.bad_entries() == {(name, digest)}


def test_a_pack_of_the_same_name_that_was_not_decoded_yet_is_decoded_here(store, place, items):
    digests = [digest for _, digest, _ in items]
    on_remote(store, place, digests[0]).unlink()
    name, data = bad(items[0])
    for folder in ("made", "come"):
        (store.root / folder).write_bytes(data)
    place.plugin.put(pack_key(name), store.root / "made")
    store.adopt(name, store.root / "come")
    with store.index.transaction() as db:
        db.execute("UPDATE blobs SET verdict = 0")
    assert verified(store, place, digests) == set(digests[1:])


@pytest.fixture(params=[False, True])
def checked(request, place, tmp_path, monkeypatch):
    """Return a function that verifies tensors by downloading them, here or in a job for each pack."""
    monkeypatch.setattr(jobs, "_SMALLEST_JOB", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    where = RemotePlace("origin", place.url, place.url)

    def check(store, digests):
        by_jobs = (PickledWorkers(2), where) if request.param else None
        return verified(store, place, digests, download=True, jobs=by_jobs)

    return check


@pytest.fixture
def chain(store, place, items):
    """Return three versions of a tensor, of which the later ones are deltas of those before, each in a pack."""
    parent, versions = items[0], [items[0][1]]
    for n in (9, 10):
        data = bytes([n]) + parent[2][1:]
        tuned = SPEC, tensor_digest(SPEC, data), data
        store.put([tuned], hints={tuned[1]: DeltaHint("delta", parent[1], SPEC)})
        versions.append(tuned[1])
        push(store, place, versions)
        parent = tuned
    return versions


@pytest.fixture
def empty(tmp_path):
    store = Store(tmp_path / "empty", threads=1)
    yield store
    store.close()


def test_what_was_brought_may_lean_on_what_is_only_in_another_pack_that_was(empty, place, chain, checked):
    assert verified(empty, place, chain) == set()
    assert checked(empty, chain) == set(chain)
    assert list(empty.root.glob("tmp/*")) == []
    assert verified(empty, place, chain) == set(chain)


def test_what_an_earlier_check_found_sound_counts_for_what_depends_on_it(empty, chain, checked):
    assert checked(empty, chain[:2]) == set(chain[:2])
    assert checked(empty, chain) == set(chain)
    assert list(empty.root.glob("tmp/*")) == []


def test_damage_is_found_with_what_it_affects(store, empty, place, chain, items, checked):
    name = store.blobs([chain[1]])[chain[1]].path.name
    rewritten(store.root.parent / "remote" / pack_key(name), lambda data: data[:-9] + bytes(9))
    wanted = {*chain, items[1][1]}
    assert checked(empty, wanted) == {chain[0], items[1][1]}
    assert read_damaged(empty.root, place.url) == {name}


def test_packs_that_depend_on_each_other_are_checked_together(store, empty, place, checked):
    first, second = random(1), random(2)
    tuned = [bytes([9]) + data[1:] for data in (first, second)]
    digests = [tensor_digest(SPEC, data) for data in (first, second, *tuned)]
    blobs = [
        dense_blob(d, partial(MemorySource, SPEC, data)) for d, data in zip(digests[:2], (first, second), strict=True)
    ]
    hints = [DeltaHint("delta", digest, SPEC) for digest in digests[:2]]
    deltas = [
        coded_blobs(digest, hint, partial(MemorySource, SPEC, data), partial(MemorySource, SPEC, base))[-1]
        for digest, hint, data, base in zip(digests[2:], hints, tuned, (first, second), strict=True)
    ]
    store.write([[blobs[0], deltas[1]], [blobs[1], deltas[0]]], loose=False)
    push(store, place, digests)
    assert len(list(place.plugin.list("packs/"))) == 2
    assert checked(empty, digests) == set(digests)


def test_a_remote_that_cannot_be_reached_is_an_error(store, place, items):
    class Silent:
        def __getattr__(self, name):
            def call(*_):
                raise RemoteError("no answer")

            return call

    with pytest.raises(RemoteError):
        verified(store, OpenedRemote("origin", place.url, Silent()), [items[0][1]])
