"""Packs stay open while they are read, until their files are replaced."""

from __future__ import annotations

import pytest

from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.store.packs.format import Entry, write_header
from git_theta_ext.store.packs.reader import PackReader


def written(path, data):
    entry = Entry("a" * 64, TensorSpec.of("U8", (4,)), "dense", (4,))
    path.with_name("new").write_bytes(write_header([entry]) + data)
    path.with_name("new").replace(path)


def test_a_replaced_pack_is_read_again_only_after_it_is_forgotten(tmp_path):
    reader, path = PackReader(), tmp_path / "pack"
    written(path, b"abcd")

    def read():
        return bytes(reader.chunk(path, reader.header(path).entries[0], 0))

    assert read() == b"abcd"
    written(path, b"efgh")
    assert read() == b"abcd"
    reader.forget(path)
    assert read() == b"efgh"
    written(path, b"ijkl")
    reader.close()
    assert read() == b"ijkl"


def test_chunks_of_several_packs_are_read_in_turn(tmp_path):
    reader = PackReader()
    for name in ("one", "two"):
        written(tmp_path / name, name.encode() + b"!")
    for name in ("one", "two", "one", "two"):
        entry = reader.header(tmp_path / name).entries[0]
        assert bytes(reader.chunk(tmp_path / name, entry, 0)) == name.encode() + b"!"


def test_entries_that_were_just_written_are_taken_over_if_the_file_has_them(tmp_path, monkeypatch):
    reader, path = PackReader(), tmp_path / "pack"
    written(path, b"abcd")
    entry = reader.header(path).entries[0]
    reader.written(path, (entry,))
    with monkeypatch.context() as patched:
        patched.setattr("git_theta_ext.store.packs.reader.read_header", lambda _: pytest.fail("the header was read"))
        assert reader.header(path).entries == (entry,)
        assert reader.header(path).pack_bytes == path.stat().st_size
    reader.written(path, (entry._replace(digest="b" * 64),))
    assert reader.header(path).entries == (entry,)
