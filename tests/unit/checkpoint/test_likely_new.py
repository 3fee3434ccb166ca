"""Files whose tensors are likely new, and so are hashed as they are encoded."""

import json
import mmap
import os
import struct

import numpy as np
import pytest
from reports import Reports

from git_theta_ext.checkpoint.clean import clean, describe
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.checkpoint.stat_cache import StatCache
from git_theta_ext.errors import ChangedError
from git_theta_ext.operations.staging.stage import store_file
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.store.store import Store
from git_theta_ext.util.file_bytes import open_bytes

COUNT, SAMPLED, LARGE = 20, 5, 1 << 18


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "theta", threads=2)
    yield store
    store.close()


def tensors(seed=1):
    """Return tensors that are just large enough to be hashed as they are encoded."""
    rng = np.random.default_rng(seed)
    return {f"t{at:02}": rng.standard_normal(LARGE // 4).astype("<f4") for at in range(COUNT)}


def written(path, values):
    header, body = {}, b""
    for name, value in values.items():
        header[name] = {"dtype": "F32", "shape": [value.size], "data_offsets": [len(body), len(body) + value.nbytes]}
        body += value.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def cleaned(path, store):
    return clean(open_bytes(path, settled=True), path.name, store).manifest


def entries(store):
    """Return how many entries packs have."""
    return sum(len(read_pack_header(path).entries) for _, path in store.pack_files())


def once_sampled(monkeypatch, change):
    """Have something happen when the sample was looked up and nothing is stored."""
    put = Store.put_unnamed

    def changing(*args):
        change()
        return put(*args)

    monkeypatch.setattr(Store, "put_unnamed", changing)


def check(path, manifest, store, tmp_path):
    populate(manifest, store, tmp_path / "again", Expected(None))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert manifest == describe(open_bytes(path), path.name).manifest
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("known", [False, True], ids=["empty store", "other tensors"])
def test_a_file_of_new_tensors_is_read_little_more_than_once(store, tmp_path, monkeypatch, known):
    if known:
        cleaned(written(tmp_path / "other.safetensors", {"a": tensors(2)["t00"]}), store)
    before = entries(store)
    path, read, pread = written(tmp_path / "m.safetensors", tensors()), [], os.pread
    monkeypatch.setattr(os, "pread", lambda *args: read.append(len(data := pread(*args))) or data)
    advanced = []
    manifest = clean(open_bytes(path, settled=True), path.name, store, advance=advanced.append).manifest
    monkeypatch.undo()
    assert sum(read) < path.stat().st_size * (1 + (1.5 / SAMPLED if known else 0.01))
    assert sum(advanced) == COUNT * LARGE + manifest.skeleton.nbytes
    assert entries(store) == before + COUNT + 1
    check(path, manifest, store, tmp_path)


def test_a_tensor_that_is_larger_than_the_others_is_read_once(store, tmp_path, monkeypatch):
    cleaned(written(tmp_path / "other.safetensors", {"a": tensors(2)["t00"]}), store)
    values = tensors()
    values["embedding"] = np.random.default_rng(3).standard_normal(COUNT * LARGE // 4).astype("<f4")
    path, read, pread = written(tmp_path / "m.safetensors", values), [], os.pread
    monkeypatch.setattr(os, "pread", lambda *args: read.append(len(data := pread(*args))) or data)
    cleaned(path, store)
    assert sum(read) < path.stat().st_size * (1 + 0.75 / SAMPLED)


def test_what_is_stored_already_is_not_stored_twice(store, tmp_path):
    values = tensors()
    cleaned(written(tmp_path / "a.safetensors", {name: values[name] for name in ("t01", "t08")}), store)
    before = {path: path.stat().st_ino for _, path in store.pack_files()}
    path = written(tmp_path / "m.safetensors", values)
    manifest = cleaned(path, store)
    assert entries(store) == COUNT + 2
    assert all(pack.stat().st_ino == number for pack, number in before.items())
    check(path, manifest, store, tmp_path)


def test_equal_tensors_are_stored_once(store, tmp_path):
    values = tensors()
    values["t02"] = values["t03"] = values["t04"]
    path = written(tmp_path / "m.safetensors", values)
    manifest = cleaned(path, store)
    assert entries(store) == COUNT - 1
    check(path, manifest, store, tmp_path)


def test_nothing_is_encoded_in_vain_if_one_of_the_sample_is_known(store, tmp_path, monkeypatch):
    values = tensors()
    cleaned(written(tmp_path / "a.safetensors", {"t12": values["t12"]}), store)
    monkeypatch.delattr(Store, "put_unnamed")
    path = written(tmp_path / "m.safetensors", values)
    check(path, cleaned(path, store), store, tmp_path)


def test_a_file_that_a_program_may_write_to_is_read_twice(store, tmp_path, monkeypatch):
    path = written(tmp_path / "m.safetensors", tensors())
    monkeypatch.delattr(Store, "put_unnamed")
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        file.close()
        check(path, cleaned(path, store), store, tmp_path)


@pytest.mark.parametrize(("ahead", "once"), [(0, False), (1, True)])
def test_a_file_is_read_once_only_if_its_times_are_older_than_the_clock_of_its_file_system(
    two, monkeypatch, ahead, once
):
    path, unnamed, put = written(two.path / "m.safetensors", tensors()), [], Store.put_unnamed
    monkeypatch.setattr(Store, "put_unnamed", lambda *args: unnamed.append(1) or put(*args))
    monkeypatch.setattr(StatCache, "clock", lambda *_: path.stat().st_ctime_ns + ahead)
    monkeypatch.chdir(two.path)
    with Workspace.discover(Reports()) as workspace:
        staged = store_file(workspace, path.name, None, lambda _: None)
    assert staged.manifest == describe(open_bytes(path), path.name).manifest
    assert bool(unnamed) == once


def test_a_manifest_names_what_was_stored_of_a_file_that_changes(store, tmp_path, monkeypatch):
    path = written(tmp_path / "m.safetensors", tensors())

    def change():
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[-1] ^= 1

    once_sampled(monkeypatch, change)
    check(path, cleaned(path, store), store, tmp_path)


def test_a_file_that_is_cut_short_is_an_error_and_leaves_nothing_unfinished(store, tmp_path, monkeypatch):
    path = written(tmp_path / "m.safetensors", tensors())
    once_sampled(monkeypatch, lambda: os.truncate(path, path.stat().st_size - 1))
    with pytest.raises(ChangedError, match=r"m\.safetensors was truncated"):
        cleaned(path, store)
    assert list((store.root / "tmp").iterdir()) == []
