"""Legacy files of torch.save: real ones, hand-made lies, and what a merge compares of them."""

import contextlib
import io
import pickle
import re
import warnings

import pytest
import torch
from bounds import memory_of

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats import _pickle_stream, _pickle_values
from git_theta_plugins.formats._pickle_stream import PickleStream
from git_theta_plugins.formats.torch_legacy import FORMAT

W = torch.arange(12.0).reshape(3, 4)


def save(value, **options):
    target = io.BytesIO()
    torch.save(value, target, _use_new_zipfile_serialization=False, **options)
    return target.getvalue()


def specs(data):
    return {name: str(spec) for name, spec in lay_out(FORMAT, data)[0].parameters.items()}


def load(data):
    return torch.load(io.BytesIO(data), weights_only=True)


class Wrapped(torch.nn.Module):
    """A class whose source code the file has too."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 3)


def with_module():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return save({"whole": Wrapped(), "w": W})


class TestTorchLegacy(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "flat": save({"w": W, "b": torch.ones(3, dtype=torch.bfloat16)}),
        "tied, strided, views": save({"a": W, "b": W, "t": W.clone().t(), "v": W.clone()[1:, ::2]}),
        "0-d and empty": save({"0d": torch.tensor(3), "e": torch.empty(0, 4)}),
        "a single tensor": save(W),
        "no tensors": save({"a": 1}),
        "protocol 4": save({"w": W, "n": torch.ones(2)}, pickle_protocol=4),
        "a module": with_module(),
    }


def test_storages_have_the_names_that_they_have_in_a_zip():
    value = {"model": {"w": W, "tied": W, "row": torch.ones(5)[1:]}, "lr": [0.1, torch.tensor(2)], "u": torch.ones(2)}
    assert sorted(specs(save(value)).items()) == [
        ("lr.1", "I64 []"),
        ("model.row", "F32 [5]"),
        ("model.w", "F32 [3,4]"),
        ("u", "F32 [2]"),
    ]
    assert specs(with_module()).keys() == {"whole.inner.weight", "whole.inner.bias", "w"}


def test_changed_values_give_a_file_that_torch_loads():
    layout, tensors = lay_out(FORMAT, save({"w": W, "b": torch.ones(3)}))
    changed = load(assemble(layout, {**tensors, "w": (W * 2).numpy().tobytes()}))
    assert torch.equal(changed["w"], W * 2)
    assert torch.equal(changed["b"], torch.ones(3))


def test_a_file_that_is_saved_again_has_the_same_facts():
    layout, tensors = lay_out(FORMAT, save({"w": W, "b": torch.ones(3), "epoch": 1}))
    again = lay_out(FORMAT, save({"w": W.clone(), "b": torch.ones(3), "epoch": 1}))
    assert again[1] == tensors
    assert again[0] != layout  # it has the addresses of the storages
    assert FORMAT.facts(again[0]) == FORMAT.facts(layout)
    for other in ({"w": W, "b": torch.ones(3), "epoch": 2}, {"b": torch.ones(3), "w": W, "epoch": 1}):
        assert FORMAT.facts(lay_out(FORMAT, save(other))[0]) != FORMAT.facts(layout)


def test_the_facts_are_a_pickle():
    (content,) = FORMAT.facts(lay_out(FORMAT, save({"w": W, "b": torch.ones(3)}))[0]).values()
    keys = []

    class Reader(pickle.Unpickler):
        def persistent_load(self, ident):
            keys.append(ident[2])
            return W.untyped_storage()

        def find_class(self, module, name):
            return (lambda *_: None) if name.startswith("_rebuild") else super().find_class(module, name)

    assert Reader(io.BytesIO(content)).load() == {"w": None, "b": None}
    assert keys == ["0", "1"]


def swapped(data):
    return data.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89")


def test_values_in_big_endian_order_are_opaque():
    assert specs(swapped(save({"w": W, "b": torch.ones(3, dtype=torch.uint8)}))) == {
        "w": "opaque32:>F32 [3,4]",
        "b": "U8 [3]",
    }


GOOD = save({"w": W})
KEY = re.search(rb"X(.)\0\0\0(\d+)q", GOOD[GOOD.index(b"FloatStorage") :])[2]
LIST = GOOD.rindex(KEY)
BROKEN = {
    "cut": (GOOD[:-1], "'w' ends at byte .*truncated"),
    "cut in the list": (GOOD[: LIST + 3], "pickle"),
    "another count": (GOOD[:-56] + b"\x07" + GOOD[-55:], "'w' has another number"),
    "another key": (GOOD[:LIST] + b"x" + GOOD[LIST + 1 :], "list of storages is not that"),
    "no list": (GOOD[: GOOD.rindex(b"\x80\x02]")] + b"\x80\x02N.", "no list of storages"),
    "another version": (GOOD.replace(b"M\xe9\x03.", b"M\xea\x03."), "does not begin as"),
    "an object in the head": (GOOD.replace(b"M\xe9\x03.", b"cos\nsystem\n)R."), "an object where"),
    "no facts": (GOOD[: GOOD.index(b"\x80\x02}")] + b"\x80\x02N.", "does not begin as"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(data, message):
    assert FORMAT.detect(memoryview(data))
    with pytest.raises(FormatError, match=message):
        FORMAT.parse(memoryview(data))


def test_a_file_with_several_objects_is_opaque():
    with pytest.raises(NotSplittable, match="bytes follow the last storage"):
        FORMAT.parse(memoryview(GOOD + GOOD))


class Pieces:
    """A file that notes how much of it is read at a time."""

    def __init__(self, data):
        self.data, self.nbytes, self.most = memoryview(data), len(data), 0

    def __getitem__(self, key):
        found = self.data[key]
        self.most = max(self.most, found.nbytes if isinstance(key, slice) else 1)
        return found


def test_a_pickle_is_read_in_pieces(monkeypatch):
    monkeypatch.setattr(_pickle_stream, "_PIECE", 100)
    value = {"long": "x" * 1000, "w": W, **{str(n): n for n in range(200)}}
    data = Pieces(save(value))
    assert [extent.name for extent in FORMAT.parse(data)] == ["w"]
    assert data.most < 1100


@pytest.mark.parametrize("size", [10, 100, 1000])
def test_lines_and_bytes_are_those_of_a_file(size, monkeypatch):
    monkeypatch.setattr(_pickle_stream, "_PIECE", size)
    data = b"\n".join(bytes([65 + n % 26]) * n for n in range(60))
    stream, file = PickleStream(memoryview(b"ab" + data + b"c"), 2, 2 + len(data)), io.BytesIO(data)
    for n in range(70):
        assert stream.readline() == file.readline()
        assert stream.read(n % 7) == file.read(n % 7)
        assert stream.tell() == 2 + file.tell()
    assert stream.nbytes == 0
    assert not stream.exceeded


COUNT = 3000
STORAGES = b"".join(b"(h\0h\1X\4\0\0\0%04dh\2K\0tQ" % n for n in range(COUNT))
NAMES = b"\x80\2X\7\0\0\0storageq\0000ctorch\nFloatStorage\nq\x010X\3\0\0\0cpuq\0020("
HEAD = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
KEYS = pickle.dumps([f"{n:04}" for n in range(COUNT)], 2)
MANY = {
    "storages": HEAD + NAMES + STORAGES + b"l." + KEYS + bytes(8 * COUNT),
    "keys": HEAD + pickle.dumps({}, 2) + pickle.dumps([str(n) for n in range(9 * COUNT)], 2),
    "objects": HEAD + b"\x80\2(" + b"}" * (9 * COUNT) + b"l." + pickle.dumps([], 2),
    "classes": HEAD + b"\x80\2(" + b"ca\nb\n" * (3 * COUNT) + b"l." + pickle.dumps([], 2),
    "calls": HEAD + b"\x80\2ca\nb\nq\0)q\x010(" + b"h\0h\1\x81" * (3 * COUNT) + b"l." + pickle.dumps([], 2),
}


@pytest.mark.parametrize("data", MANY.values(), ids=MANY)
def test_reading_takes_memory_in_proportion_to_the_size(data, monkeypatch):
    monkeypatch.setattr(_pickle_values, "COST_FREE", 0)

    def read():
        with contextlib.suppress(FormatError):
            FORMAT.parse(memoryview(data))

    assert memory_of(read) < 40 * len(data) + (1 << 18)


def test_storages_without_elements_are_parameters():
    assert len(specs(MANY["storages"])) == COUNT
