"""Packs stay open while they are read, until their files are replaced."""

from __future__ import annotations

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
