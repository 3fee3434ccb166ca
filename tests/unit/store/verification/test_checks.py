"""What a check remembers, and what makes it check again."""

import os
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest

from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.maintenance import fsck
from git_theta_ext.store.maintenance.fsck import check_packs
from git_theta_ext.store.store import Store
from git_theta_ext.store.verification import checks as module
from git_theta_ext.store.verification.checks import Checks, version_key

KEY = version_key("model.safetensors", "1" * 40, "1.0")
OTHER = version_key("README.md", "2" * 40, "1.0")


@pytest.fixture(autouse=True)
def _packs_are_old(monkeypatch):
    monkeypatch.setattr(module, "_RACY_SECONDS", -60)


@pytest.fixture
def packs(store):
    for seed in (1, 2):
        value = np.random.default_rng(seed).standard_normal(9, dtype=np.float32).tobytes()
        spec = TensorSpec.of("F32", (9,))
        store.put([(spec, tensor_digest(spec, value), value)])
    return [path for _, path in store.pack_files()]


@pytest.fixture
def hashed(monkeypatch):
    """Return a list of the packs that are read."""
    seen = []
    real = fsck.names_of

    def names_of(paths):
        seen.extend(paths)
        return real(paths)

    monkeypatch.setattr(fsck, "names_of", names_of)
    return seen


def until_its_time_differs(path, change):
    """Change a file, again if the clock of its file system has not ticked since the last change."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        change(before)


def check(store, *, finish=True):
    """Check all packs, and return the problems and the number of packs that were not read."""
    with Checks(store.root) as checks:
        reads = checks.begin(path for _, path in store.pack_files())
        problems = list(check_packs(store, reads=reads))
        if finish:
            checks.finish(reads, {KEY: True, OTHER: False}, ("state", 1), whole=True)
        return problems, reads.kept


def known(store):
    with Checks(store.root) as checks:
        checks.begin(path for _, path in store.pack_files())
        return checks.known([KEY, OTHER, b"?"]), checks.count("state")


def test_an_unchanged_pack_is_read_once(store, packs, hashed):
    assert check(store) == ([], 0)
    assert hashed == packs
    assert check(store) == ([], 2)
    assert hashed == packs
    assert known(store) == ({KEY: True, OTHER: False}, 1)


def test_a_pack_with_other_bytes_is_found_whatever_its_time_is(store, packs):
    check(store)
    data = bytearray(packs[0].read_bytes())
    data[-1] ^= 1
    packs[0].chmod(0o644)

    def damage(stat):
        packs[0].write_bytes(data)
        os.utime(packs[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))

    until_its_time_differs(packs[0], damage)
    for _ in range(2):  # no check remembers a damaged pack
        problems, kept = check(store)
        assert [problem.where for problem in problems] == [str(packs[0])]
        assert kept == 1


def test_a_pack_that_was_touched_is_read_again(store, packs, hashed):
    check(store)
    until_its_time_differs(packs[1], lambda _: os.utime(packs[1]))
    hashed.clear()
    assert check(store) == ([], 1)
    assert hashed == [packs[1]]


def test_a_store_that_was_moved_is_not_read_again_and_a_copy_is(store, packs, tmp_path):
    check(store)
    store.close()
    moved, copied = tmp_path / "moved", tmp_path / "copied"
    store.root.rename(moved)
    shutil.copytree(moved, copied)  # with the times of the files
    assert known(Store(moved)) == ({KEY: True, OTHER: False}, 1)
    assert check(Store(moved)) == ([], 2)
    assert check(Store(copied)) == ([], 0)
    assert check(Store(copied)) == ([], 2)


def test_a_file_on_another_device_is_another_file(store, packs):
    check(store)
    with Checks(store.root) as checks:
        reads, stat = checks.begin(packs), packs[0].stat()
        assert reads.unchanged(packs[0], stat)
        elsewhere = SimpleNamespace(**{name: getattr(stat, name) for name in dir(stat) if name.startswith("st_")})
        elsewhere.st_dev += 1
        assert not reads.unchanged(packs[0], elsewhere)


def test_a_pack_that_has_just_changed_is_read_again(store, packs, hashed, monkeypatch):
    monkeypatch.setattr(module, "_RACY_SECONDS", 3600)
    check(store)
    assert check(store) == ([], 0)
    assert hashed == [*packs, *packs]


@pytest.mark.parametrize("days", [-1, 8])
def test_packs_are_read_again_after_a_week(store, packs, monkeypatch, days):
    check(store)
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + days * 24 * 3600)
    assert check(store, finish=False) == ([], 0)
    monkeypatch.setattr(module.time, "time", lambda: now + 6 * 24 * 3600)
    assert check(store) == ([], len(packs))


def test_versions_are_forgotten_if_a_pack_is_gone(store, packs):
    check(store)
    packs[0].unlink()
    assert known(store) == ({}, None)
    store.refresh()
    assert check(store) == ([], 1)


def test_versions_are_not_remembered_if_packs_changed_during_the_check(store, packs):
    with Checks(store.root) as checks:
        reads = checks.begin(packs)
        checks.finish(reads, {KEY: True}, ("state", 1), whole=False)
    assert known(store) == ({}, None)


def rewrite(sql, *values):
    def change(store):
        with Checks(store.root) as checks:
            checks.write(lambda db: db.execute(sql, values))

    return change


DAMAGE = {
    "bytes": lambda store: (store.root / "checks.sqlite3").write_bytes(b"damaged" * 1000),
    "gone": lambda store: (store.root / "checks.sqlite3").unlink(),
    "lost row": rewrite("DELETE FROM packs WHERE path = (SELECT MIN(path) FROM packs)"),
    "digest": rewrite("UPDATE notes SET value = x'00' WHERE name = 'packs'"),
    "version": rewrite("PRAGMA user_version = 99"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_everything_is_checked_again_if_the_database_is_damaged(store, packs, name):
    check(store)
    DAMAGE[name](store)
    assert known(store) == ({}, None)
    assert check(store) == ([], 0)
    assert check(store) == ([], len(packs))


def test_a_wrong_count_does_not_count(store, packs):
    check(store)
    rewrite("UPDATE notes SET value = x'00' || substr(value, 2) || x'00' WHERE name = 'state'")(store)
    assert packs
    assert known(store) == ({KEY: True, OTHER: False}, None)


def test_a_store_that_is_not_there_is_not_created(tmp_path):
    with Checks(tmp_path / "theta") as checks:
        checks.finish(checks.begin([]), {KEY: True}, None, whole=True)
        assert checks.known([KEY]) == {}
    assert not (tmp_path / "theta").exists()
