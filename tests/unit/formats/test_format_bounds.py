"""Formats take memory in proportion to a file's size, however small what it lists is."""

import io
import struct
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
from bounds import memory_of

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.registry import find_format

COUNT = 1000
TABLE = b",".join(b'"%d":{"use_pickle":true}' % n for n in range(COUNT))
EMPTY = b"{'descr':'|V0','fortran_order':False,'shape':()}"


def text(data):
    return struct.pack("<Q", len(data)) + data


def gguf(pairs=b"", rows=(), count=0):
    return b"GGUF" + struct.pack("<IQQ", 3, len(rows), count) + pairs + b"".join(rows) + bytes(64)


def archive(names, data=b"", *others):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in (*((name, data) for name in names), *others):
            made.writestr(name, content)
    return file.getvalue()


def tar(contents):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for content in contents:
            info = tarfile.TarInfo("m")
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


def npy(header):
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


def fields(number, data):
    return bytes([number << 3 | 2, len(data) & 127 | 128, len(data) >> 7 & 127 | 128, len(data) >> 14]) + data


def hdf5_tree():
    """Return the golden file whose first B-tree has all the children that it can claim, which are one place."""
    data = bytearray((Path(__file__).parents[2] / "golden" / "formats" / "model.h5").read_bytes())
    tree = data.index(b"TREE")
    data[tree + 6 : tree + 8] = b"\xff\xff"
    return bytes(data)


EMPTY_ARRAY = msgpack.ExtType(1, msgpack.packb(((0,), "bool", b"")))
FILES = {
    "tensors": ("gguf", gguf(rows=[text(b"%d" % n) + struct.pack("<IIQ", 0, 24, n) for n in range(COUNT)])),
    "one name": ("gguf", gguf(rows=[text(b"") + struct.pack("<IIQ", 0, 24, 0)] * COUNT)),
    "strings": ("gguf", gguf(text(b"") + struct.pack("<IIQ", 9, 8, COUNT) + text(b"") * COUNT, count=1)),
    "pairs": ("gguf", gguf((text(b"") + struct.pack("<IB", 0, 0)) * COUNT, count=COUNT)),
    "arrays": ("gguf", gguf(text(b"") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * COUNT, count=1)),
    "count": ("gguf", b"GGUF" + struct.pack("<IQQ", 3, 1 << 20, 1 << 60)),
    "members": ("torch_zip", archive(["m/data.pkl", *(f"m/{n}" for n in range(COUNT))])),
    "arrays in a zip": ("npz", archive([f"{n}.npy" for n in range(COUNT)], npy(EMPTY))),
    "table": (
        "torch_export",
        archive(["m/archive_format"], b"pt2", ("m/data/weights/m_weights_config.json", b'{"config":{%s}}' % TABLE)),
    ),
    "files": ("tar", tar([b"PK"] * COUNT)),
    "deep header": ("npz", npy(b"-" * 9000 + b"1")),
    "deep lists": ("npz", npy(b"[" * 9000)),
    "flax": ("flax", msgpack.packb({str(n): EMPTY_ARRAY for n in range(COUNT)})),
    "flax texts": ("flax", msgpack.packb({"a": EMPTY_ARRAY, "b": [""] * COUNT})),
    "nodes": ("onnx", b"\x08\7" + fields(7, b"\x0a\0" * COUNT)),
    "initializers": ("onnx", b"\x08\7" + fields(7, b"\x2a\x09\x08\1\x10\x09\x42\0\x4a\1\1")),
    "tree": ("hdf5", hdf5_tree()),
    "dimensions": ("onnx", b"\x08\7" + fields(7, fields(5, b"\x08\1" * 64))),
    "escapes": ("npz", npy(b"{'descr':'\\q'}")),
}


@pytest.mark.parametrize(("name", "data"), FILES.values(), ids=FILES)
def test_reading_takes_memory_in_proportion_to_the_size(name, data):
    found = find_format(name)
    view = memoryview(data)

    def read():
        found.detect(view)
        with suppress(FormatError, NotSplittable):
            found.parse(view)

    # A header of numpy's may have 10 kB, and Python's parser takes what it takes, once.
    assert memory_of(read) < 16 * len(data) + (1 << 19)
