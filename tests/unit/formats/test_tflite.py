"""Models of TensorFlow Lite, against a writer of FlatBuffers by the book."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats import _flatbuffers
from git_theta_plugins.formats.tflite import FORMAT

F32, F16, I32, U8, STRING, I8, INT4 = 0, 1, 2, 3, 5, 9, 17


def table(**fields):
    """Describe a table: the value of ``f3`` is that of the field with this number."""
    return {int(name[1:]): value for name, value in fields.items()}


def _put(made, value):
    """Append a table, a vector of tables, or bytes that are a whole object, and return where it begins."""
    made.extend(bytes(-len(made) % 8))
    if isinstance(value, bytes):
        at = len(made)
        made.extend(value)
        return at
    if isinstance(value, list):
        at = len(made)
        made.extend(struct.pack("<I", len(value)) + bytes(4 * len(value)))
        slots = {at + 4 + 4 * n: one for n, one in enumerate(value)}
    else:
        count, vtable = max(value, default=-1) + 1, len(made)
        entries = [8 + 8 * n if n in value else 0 for n in range(count)]
        made.extend(struct.pack(f"<HH{count}H", 4 + 2 * count, 8 + 8 * count, *entries))
        made.extend(bytes(-len(made) % 8))
        at = len(made)
        made.extend(struct.pack("<iI", at - vtable, 0) + bytes(8 * count))
        slots = {at + 8 + 8 * number: one for number, one in value.items()}
    for slot, one in slots.items():
        if isinstance(one, int):
            made[slot : slot + 8] = struct.pack("<Q", one)
        else:
            made[slot : slot + 4] = struct.pack("<I", _put(made, one) - slot)
    return at


def vector(data, width=1):
    return struct.pack("<I", len(data) // width) + data


def tensor(name, kind, shape, buffer):
    return table(f0=vector(struct.pack(f"<{len(shape)}i", *shape), 4), f1=kind, f2=buffer, f3=vector(name.encode()))


def tflite(graphs, buffers):
    made = bytearray(struct.pack("<I4s", 0, b"TFL3"))
    root = table(
        f0=3, f2=[table(f0=tensors) for tensors in graphs], f4=[table(f0=vector(b)) if b else {} for b in buffers]
    )
    made[:4] = struct.pack("<I", _put(made, root))
    return bytes(made)


def noise(nbytes, seed=0):
    return np.random.default_rng(seed).bytes(nbytes)


KERNEL, BIAS, HALF = noise(60), noise(12, 1), noise(8, 2)
TENSORS = [
    tensor("input", F32, (1, 5), 0),
    tensor("dense/kernel", F32, (3, 5), 1),
    tensor("dense/bias", I32, (3,), 2),
    tensor("half", F16, (2, 2), 3),
    tensor("tied", F32, (3, 5), 1),
    tensor("four bits", INT4, (3, 3), 4),
    tensor("texts", STRING, (1,), 5),
]
MODEL = tflite([TENSORS], [b"", KERNEL, BIAS, HALF, noise(5, 3), b"text", bytes(5000), bytes(100)])


class TestTflite(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "all kinds": MODEL,
        "two graphs": tflite([[tensor("w", I8, (4,), 1)], [tensor("w", I8, (4,), 2)]], [b"", bytes(4), b"\1\2\3\4"]),
        "no tensors": tflite([[]], []),
    }

    def test_buffers_have_the_name_and_shape_of_their_first_tensor(self):
        layout, tensors = lay_out(FORMAT, MODEL)
        assert {name: str(spec) for name, spec in layout.parameters.items()} == {
            "dense/kernel": "F32 [3,5]",
            "dense/bias": "I32 [3]",
            "half": "F16 [2,2]",
            "four bits": "opaque8:tflite17 [5]",
            "texts": "opaque8:tflite5 [4]",
            "buffer.6": "U8 [5000]",
        }
        assert tensors["dense/kernel"] == KERNEL

    def test_tensors_of_one_name_are_numbered(self):
        assert list(lay_out(FORMAT, self.examples["two graphs"])[0].parameters) == ["w", "w#2"]

    def test_another_graph_is_another_fact(self):
        other = MODEL.replace(b"dense/kernel", b"dense/weight")
        layouts = [lay_out(FORMAT, data)[0] for data in (MODEL, MODEL.replace(KERNEL, noise(60, 9)), other)]
        facts = [FORMAT.facts(layout) for layout in layouts]
        assert facts[0] == facts[1] != facts[2]

    def test_buffers_after_the_graph_are_found(self):
        end = 1024
        made = bytearray(struct.pack("<I4s", 0, b"TFL3"))
        root = table(f0=3, f2=[table(f0=[tensor("w", U8, (64,), 0)])], f4=[table(f1=end, f2=64)])
        made[:4] = struct.pack("<I", _put(made, root))
        made.extend(bytes(end - len(made)) + KERNEL + b"1234")
        _, tensors = lay_out(FORMAT, bytes(made))
        assert tensors["w"] == KERNEL + b"1234"

    def test_exchanged_tensors_make_a_file(self):
        layout, tensors = lay_out(FORMAT, MODEL)
        changed = assemble(layout, {**tensors, "half": bytes(8)})
        assert changed == MODEL.replace(HALF, bytes(8))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (MODEL[: MODEL.index(KERNEL) + 9], "truncated"),
            (struct.pack("<I4s", 1 << 31, b"TFL3") + MODEL[8:], "truncated"),
            (b"\0\0\0\0TFL3", "vtable of 0 bytes"),
            (tflite([[tensor("w", F32, (1,), 7)]], [b""]), "buffer 7 of 1"),
            (tflite([[tensor("w", F32, (-1,) * 8, 1)]], [b"", bytes(4)]), "impossible size"),
        ],
    )
    def test_a_damaged_file_is_refused(self, data, message):
        with pytest.raises(FormatError, match=message):
            FORMAT.parse(memoryview(data))

    def test_a_file_with_too_many_tables_is_not_split(self, monkeypatch):
        monkeypatch.setattr(_flatbuffers, "_MOST_TABLES", 10)
        with pytest.raises(NotSplittable, match="10 tables"):
            FORMAT.parse(memoryview(MODEL))
