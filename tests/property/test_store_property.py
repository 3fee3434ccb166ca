"""Whatever is fetched, collected, pruned or forgotten: what was put can be read, and what counts as held decodes."""

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers import bundle_from, dense_payload, make_pack
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from git_theta_ext.errors import MissingError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.model.bundle import Bundle
from git_theta_ext.model.remote_keys import pack_key
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.operations.maintenance.prune import copy_parts, local_packs, plan_prune, reasons, reduced, tensors_of
from git_theta_ext.store.deltas.encode import MemorySource, coded_blobs
from git_theta_ext.store.maintenance import gc, remains
from git_theta_ext.store.maintenance.cheapest import Candidate
from git_theta_ext.store.maintenance.gc import collect, repack
from git_theta_ext.store.maintenance.recode import Recoder
from git_theta_ext.store.maintenance.shrink import shrunk_garbage
from git_theta_ext.store.packs.format import GATHERED, PART, Entry
from git_theta_ext.store.store import DeltaHint, Store
from git_theta_ext.transfer.remote_index import OpenedRemote
from git_theta_ext.transfer.sync import fetch, push
from git_theta_ext.transfer.verify import verified
from git_theta_plugins.remotes.directory import open_remote

SPEC = TensorSpec.of("F32", (600,))


def _items():
    draw = np.random.default_rng(0)
    values = draw.normal(0, 0.05, SPEC.elements).astype("<f4")
    for _ in range(7):
        yield tensor_digest(SPEC, values.data), values.tobytes()
        values = values + draw.normal(0, 1e-5, SPEC.elements).astype("<f4")


ITEMS = list(_items())
NUMBERS = st.integers(0, len(ITEMS) - 1)
SEVERAL = st.lists(NUMBERS, min_size=3, max_size=len(ITEMS), unique=True)


def _bundle(numbers):
    return Bundle.of([(SPEC, ITEMS[number][0]) for number in numbers])


def _bundle_entry(numbers, kind, other):
    """Return an entry of a bundle that may be wrong, or of a part of it: its payload, start or base may be another."""
    bundle = _bundle(numbers)
    if kind == "part":
        start = SPEC.nbytes * (other % len(numbers))
        return Entry(ITEMS[numbers[0]][0], SPEC, PART, (), bases=(bundle.digest,), params={"start": start}), b""
    if kind == "gathered":
        bases = (_bundle(numbers[::-1]).digest, ITEMS[other][0])
        return Entry(bundle.digest, bundle.spec, GATHERED, (), bases=bases, bundle=bundle), b""
    data = [ITEMS[number][1] for number in numbers]
    if kind == "wrong":
        data[0] = ITEMS[other][1]
    payload = dense_payload(bundle.spec, b"".join(data))
    return Entry(bundle.digest, bundle.spec, "dense", (len(payload),), bundle=bundle), payload


def _entry(number, parent, payload_of):
    """Return an entry that says to hold a tensor, with the payload of that or of another one."""
    digest, _ = ITEMS[number]
    data = ITEMS[payload_of][1]
    if parent is None:
        payload = dense_payload(SPEC, data)
        return Entry(digest, SPEC, "dense", (len(payload),)), payload
    base, values = ITEMS[parent]
    hint = DeltaHint("delta", base, SPEC)
    (blob,) = coded_blobs(digest, hint, lambda: MemorySource(SPEC, data), lambda: MemorySource(SPEC, values))
    payload = b"".join(bytes(memoryview(piece).cast("B")) for piece in blob.encode(0))
    return Entry(digest, SPEC, "delta", (len(payload),), bases=(base,)), payload


class Stores(RuleBasedStateMachine):
    """A store and a remote that holds good packs, bad ones, and some that lean on what is nowhere."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.place = OpenedRemote(
            "origin", str(self.folder / "remote"), open_remote(str(self.folder / "remote"), {}, RemoteContext())
        )
        self.patch = pytest.MonkeyPatch()
        bundle_from(self.patch, 3)
        self.patch.setattr(remains, "_NEGLIGIBLE", 0)
        self.patch.setattr(gc, "_NEGLIGIBLE", 0)
        self.store = Store(self.folder / "theta", threads=1)
        self.kept = set()

    def teardown(self):
        self.store.close()
        self.patch.undo()
        shutil.rmtree(self.folder)

    @rule(number=NUMBERS)
    def put(self, number):
        digest, data = ITEMS[number]
        self.store.put([(SPEC, digest, data)])
        self.kept.add(number)

    @rule(numbers=SEVERAL)
    def put_together(self, numbers):
        self.store.put([(SPEC, *ITEMS[number]) for number in numbers])
        self.kept.update(numbers)

    @rule(number=NUMBERS, parent=st.none() | NUMBERS, payload_of=NUMBERS, here=st.booleans())
    def give(self, number, parent, payload_of, here):
        """Put a pack on the remote, or into the store itself."""
        self._give(_entry(number, None if parent == number else parent, payload_of), here)

    @rule(
        numbers=SEVERAL, kind=st.sampled_from(["dense", "wrong", "part", "gathered"]), other=NUMBERS, here=st.booleans()
    )
    def give_bundle(self, numbers, kind, other, here):
        self._give(_bundle_entry(numbers, kind, other), here)

    def _give(self, made, here):
        name, data = make_pack(made)
        path = self.folder / "made"
        path.write_bytes(data)
        if here:
            self.store.root.mkdir(exist_ok=True)
            self.store.adopt(name, path)
        else:
            self.place.plugin.put(pack_key(name), path)
            path.unlink()

    @rule(number=NUMBERS)
    def fetch(self, number):
        with suppress(MissingError):
            fetch(self.store, [self.place], [ITEMS[number][0]])

    @precondition(lambda self: self.kept)
    @rule()
    def push(self):
        fetch(self.store, [self.place], self.digests())
        push(self.store, self.place, self.digests())

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def forget(self, data):
        """Name a tensor no more, as if commits were deleted."""
        self.kept.discard(data.draw(st.sampled_from(sorted(self.kept))))

    @rule(young=st.booleans())
    def collect(self, young):
        older_than = 0 if young else time.time() + 60
        garbage, _ = shrunk_garbage(self.store, self.digests(), older_than)
        collect(self.store, garbage, older_than)
        repack(self.store, garbage)

    @precondition(lambda self: self.kept)
    @rule(aggressive=st.booleans(), depth=st.integers(1, 4))
    def recode(self, aggressive, depth):
        named = sorted(self.kept)
        group = [
            Candidate(ITEMS[number][0], SPEC, tuple((ITEMS[other][0], SPEC) for other in named if other < number)[::-1])
            for number in named
        ]
        stored = self.store.stored_as(self.digests())
        Recoder(self.store, depth, aggressive=aggressive, stored=stored).run([group])

    @rule()
    def refresh(self):
        self.store.refresh()

    @rule(download=st.booleans(), numbers=st.sets(NUMBERS))
    def prune(self, download, numbers):
        start = time.time() + 60
        named = {ITEMS[number][0] for number in numbers & self.kept}
        held = named - self.store.touch_and_find_missing(named)
        there = verified(self.store, self.place, tensors_of(local_packs(self.store)) - named, download=download)
        why = reasons(self.store, named, there, start, dry_run=False)
        parts = reduced(why.packs, why.needed, why.safe)
        plan = plan_prune({**why.packs, **parts}, why.needed, why.safe)
        copied = copy_parts(self.store, parts)
        self.store.drop(plan.drop)
        self.store.drop(copied)
        assert self.store.touch_and_find_missing(held) == set()

    @rule()
    def lose_the_index(self):
        self.store.close()
        for path in self.store.root.glob("index.sqlite3*"):
            path.unlink()
        self.store = Store(self.folder / "theta", threads=1)

    def digests(self):
        return {ITEMS[number][0] for number in self.kept}

    @invariant()
    def what_counts_decodes(self):
        missing = self.store.touch_and_find_missing(digest for digest, _ in ITEMS)
        for digest, data in ITEMS:
            if digest not in missing:
                assert bytes(self.store.read(digest, SPEC)) == data

    @invariant()
    def what_was_put_can_be_had(self):
        absent = self.store.touch_and_find_missing(self.digests())
        if absent:  # pruned
            other = Store(self.folder / "other", [self.store.root], threads=1)
            try:
                fetch(other, [self.place], absent)
            finally:
                other.close()
                shutil.rmtree(self.folder / "other", ignore_errors=True)


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
