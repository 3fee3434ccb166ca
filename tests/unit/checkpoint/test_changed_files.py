"""Files that others write to, or truncate, while they are read."""

import json
import mmap
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers import MODEL, model
from reports import Reports

from git_theta_ext.checkpoint.clean import clean, describe
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.errors import ChangedError, FormatError
from git_theta_ext.operations.staging.stage import store_file
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.store.store import Store
from git_theta_ext.util.file_bytes import open_bytes

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
ELEMENTS = (1 << 19) + 5


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "theta", threads=2)
    yield store
    store.close()


@pytest.fixture
def checkpoint(tmp_path):
    """Return a file of two large tensors and a small one."""
    rng = np.random.default_rng(1)
    tensors = {name: rng.standard_normal(n).astype("<f4") for name, n in (("a", ELEMENTS), ("b", ELEMENTS), ("c", 40))}
    header, body = {}, b""
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": [values.size], "data_offsets": [len(body), len(body) + values.nbytes]}
        body += values.tobytes()
    text = json.dumps(header | {"__metadata__": {"step": "1"}}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def by_writing(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def by_mapping(path, at):
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[at] ^= 1


def by_cutting(path, at):
    os.truncate(path, at)


def between_readings(monkeypatch, change):
    """Have something happen once, when a file was hashed and nothing of it is stored."""
    missing, todo = Store.touch_and_find_missing, [change]

    def changing(self, digests):
        if todo:
            todo.pop()()
        return missing(self, digests)

    monkeypatch.setattr(Store, "touch_and_find_missing", changing)


# In the metadata, the second chunk of the first tensor, the last tensor of those that share a pack.
@pytest.mark.parametrize("place", [-(2 * ELEMENTS * 4 + 160 + 8), -(ELEMENTS * 4 + 160 + 3), -4])
@pytest.mark.parametrize("change", [by_writing, by_mapping, by_cutting])
def test_nothing_wrong_is_stored_of_a_file_that_changes(store, checkpoint, monkeypatch, tmp_path, change, place):
    before = checkpoint.read_bytes()
    between_readings(monkeypatch, lambda: change(checkpoint, len(before) + place))
    with pytest.raises(ChangedError, match=r"m\.safetensors.* was truncated|m\.safetensors.* changed"):
        clean(open_bytes(checkpoint), checkpoint.name, store)
    assert list((store.root / "tmp").iterdir()) == []
    # What may have been stored is right: the old content can be had back.
    checkpoint.write_bytes(before)
    manifest = clean(open_bytes(checkpoint), checkpoint.name, store).manifest
    populate(manifest, store, tmp_path / "again", Expected(None))
    assert (tmp_path / "again").read_bytes() == before


def test_an_error_names_the_parameter_that_changed(store, checkpoint, monkeypatch):
    between_readings(monkeypatch, lambda: by_mapping(checkpoint, checkpoint.stat().st_size - 200))
    with pytest.raises(ChangedError, match=r"m\.safetensors: parameter 'b' changed while it was read") as raised:
        clean(open_bytes(checkpoint), checkpoint.name, store)
    assert raised.value.hint


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
def test_a_file_cut_short_under_its_reader_is_an_error(name, tmp_path):
    data = (GOLDEN / name).read_bytes()
    for end in {0, 1, len(data) // 2, len(data) - 1}:
        path = tmp_path / name
        path.write_bytes(data)
        opened = open_bytes(path)
        os.truncate(path, end)
        with pytest.raises((ChangedError, FormatError), match=name):
            describe(opened, name)


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
def test_every_format_reads_files_as_it_reads_memory(name):
    assert describe(open_bytes(GOLDEN / name), name) == describe(memoryview((GOLDEN / name).read_bytes()), name)


class Counted:
    """Content that notes what is read of it."""

    def __init__(self, data):
        self._data = memoryview(data)
        self.nbytes = self._data.nbytes
        self.reads = []

    def __getitem__(self, key):
        if isinstance(key, slice):
            self.reads.append(range(*key.indices(self.nbytes)))
        return self._data[key]


def test_digest_and_checksum_are_of_one_reading():
    # Else somebody could write in between, and they would be of different bytes.
    data = Counted((GOLDEN / "model.pt").read_bytes())
    found = describe(data, "m")
    assert any(field not in found.scan.extents for field in found.scan.fields)
    for extent in found.scan.extents:
        assert sum(extent.offset in read and len(read) == extent.spec.nbytes for read in data.reads) == 1


def test_large_reads_are_put_together(tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_bytes(bytes(range(256)) * 20)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, count, at: pread(descriptor, min(count, 1000), at))
    opened = open_bytes(path)
    assert opened.read(5, 5000) == path.read_bytes()[5:5000]
    assert opened[255] == 255
    assert opened[-3:] == b"\xfd\xfe\xff"
    assert opened[5110:9999] == path.read_bytes()[5110:]
    with pytest.raises(IndexError):
        opened[5120]


def test_a_file_that_is_being_written_is_not_said_to_break_its_format(two, monkeypatch):
    half = model(3)[:5000]
    monkeypatch.chdir(two.path)
    two.write(half)
    reports = Reports()
    with Workspace.discover(reports) as workspace:
        store_file(workspace, MODEL, None, lambda _: None)
        assert "stored as an opaque file" in reports.lines.pop(0)
        reports.lines.clear()

        def clean_meanwhile(*args, **options):
            two.write(half + b"more")
            return clean(*args, **options)

        monkeypatch.setattr("git_theta_ext.operations.staging.stage.clean", clean_meanwhile)
        with pytest.raises(ChangedError, match=MODEL):
            store_file(workspace, MODEL, None, lambda _: None)
        two.write(half)
        monkeypatch.setattr("git_theta_ext.operations.staging.stage.is_strict", lambda _: True)
        with pytest.raises(ChangedError, match=MODEL):
            store_file(workspace, MODEL, None, lambda _: None)
        assert reports.lines == []
