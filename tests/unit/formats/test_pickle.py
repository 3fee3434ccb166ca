"""The pickle machine: it understands what pickle writes, and runs none of it."""

import collections
import os
import pickle

import pytest
from bounds import memory_of

from git_theta_ext.errors import FormatError
from git_theta_plugins.formats import _pickle, _pickle_stream, _pickle_values, _torch_objects
from git_theta_plugins.formats._pickle import Machine
from git_theta_plugins.formats._pickle_stream import PickleStream
from git_theta_plugins.formats._pickle_values import Budget, Global, Node
from git_theta_plugins.formats._torch_objects import read_objects


def run(data, **parts):
    parts = {
        "call": lambda function, args: (function, args),
        "load": repr,
        "budget": Budget(len(data)),
        **parts,
    }
    return Machine(**parts).run(PickleStream(memoryview(data)))


def plain(value):
    if isinstance(value, Node):
        return {key: plain(item) for key, item in value.items}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return value


@pytest.mark.parametrize("protocol", range(1, 6))
def test_plain_values_are_understood_in_every_protocol(protocol):
    value = {
        "a": [1, -2, 1 << 70, 2.5, None, True, False, ""],
        "b": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "long": "é" * 300,
        "shared": [collections],
    }
    shared = ["x"]
    value["shared"] = [shared, shared]
    assert plain(run(pickle.dumps(value, protocol))) == value


def test_bytes_and_sets_are_understood():
    assert run(pickle.dumps([b"a" * 300, bytearray(b"b")], 5)) == [b"a" * 300, bytearray(b"b")]
    assert run(pickle.dumps({"only"}, 4)) == ["only"]
    assert run(pickle.dumps(frozenset({"only"}), 4)) == ["only"]


def test_a_call_is_reported_and_not_made():
    assert run(pickle.dumps(os.getcwd, 4)) == Global("posix", "getcwd")

    class Evil:
        def __reduce__(self):
            return os.mkdir, ("never",)

    assert run(pickle.dumps(Evil(), 2)) == (Global("posix", "mkdir"), ("never",))


def test_keys_that_are_no_text_are_numbered():
    assert plain(run(pickle.dumps({1: "a", None: "b", (2,): "c", 1 << 99: "d"}, 2))) == {
        "1": "a",
        "None": "b",
        "2": "c",
        "3": "d",
    }


def test_a_key_nested_beyond_hashing_takes_no_time():
    # ((…, …), …) doubled 60 times: hashing it would take years.
    assert list(plain_keys(run(b"\x80\x02}K\x01" + b"2\x86" * 60 + b"K\x01s."))) == ["0"]


def plain_keys(node):
    return (key for key, _ in node.items)


DAMAGED = {
    "empty": b"",
    "no end": b"\x80\x02}",
    "nothing on the stack": b".",
    "no mark": b"K\x01t.",
    "tuple of too few": b"K\x01\x86.",
    "memo that is not there": b"h\x07.",
    "set item on a number": b"K\x01K\x02K\x03s.",
    "odd number of items": b"}(K\x01u.",
    "append to a number": b"K\x01K\x02a.",
    "cut text": b"X\xff\xff\x00\x00abc.",
    "text of a negative size": b"T\xff\xff\xff\xffabc.",
    "long of a negative size": b"\x8b\xff\xff\xff\xff.",
    "call with no tuple": b"cos\nsystem\nK\x01R.",
    "global of numbers": b"K\x01K\x02\x93.",
    "extension registry": b"\x82\x01.",
    "persistent id in text": b"Pabc\n.",
    "out-of-band buffer": b"\x97.",
    "unknown opcode": b"\xfe.",
    "instance": b"(ios\nsystem\n.",
    "a number too long for text": b"I" + b"9" * 9999 + b"\n.",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_pickle_is_refused(data):
    with pytest.raises(FormatError, match="pickle"):
        run(data)


def test_odd_escapes_in_texts_are_no_warning():
    assert run(b"S'a\\q'\n.") == "a\\q"


def test_a_place_in_the_memo_allocates_nothing():
    assert run(b"\x80\x02Nr\xff\xff\xff\xff.") is None


def test_size_and_number_of_opcodes_are_bounded(monkeypatch):
    monkeypatch.setattr(_pickle, "MAX_OPCODES", 10)
    monkeypatch.setattr(_pickle_stream, "MAX_BYTES", 100)
    assert run(b"N0" * 4 + b"N.") is None
    with pytest.raises(FormatError, match="more than 10 opcodes"):
        run(b"N0" * 10 + b"N.")
    with pytest.raises(FormatError, match="a pickle of more than"):
        run(b"\x80\x02" * 51)


COUNT = 1 << 15
STORAGE = b"(U\7storagectorch\nFloatStorage\nU\0010U\3cpuK\1tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0K\1\x85K\1\x85\x89}tRq\0000"
BOMBS = {
    "dictionaries": b"(" + b"}" * COUNT + b"l",
    "lists": b"(" + b"]" * COUNT + b"l",
    "lists of something": b"(" + b"]Na" * (COUNT // 3) + b"l",
    "tuples": b"(" + b"N\x85" * (COUNT // 2) + b"l",
    "nested": b"]" * COUNT + b"a" * COUNT,
    "memo": b"N" + b"".join(b"r" + (300 + 977 * n).to_bytes(4, "little") for n in range(COUNT // 5)),
    "calls": b"ccollections\nOrderedDict\nq\0000(" + b"N" * 1000 + b"tq\x010(" + b"h\0h\1R" * (COUNT // 5) + b"l",
    "states": b"}" + b"Nb" * (COUNT // 2),
    "names": TENSOR + b"}U\1a" * 2000 + b"](" + b"h\0" * (COUNT // 4) + b"e" + b"s" * 2000,
    "leaves": TENSOR + b"](" + b"h\0" * (COUNT // 2) + b"e",
}


@pytest.mark.parametrize("opcodes", BOMBS.values(), ids=BOMBS)
def test_reading_takes_memory_in_proportion_to_the_size(opcodes, monkeypatch):
    monkeypatch.setattr(_pickle_values, "COST_FREE", 0)
    data = b"\x80\x02" + opcodes + b"."
    assert memory_of(lambda: list(read_objects(PickleStream(memoryview(data)))[1])) < 40 * len(data) + (1 << 17)


def test_the_names_of_a_tensor_are_bounded_by_the_size_of_the_pickle(monkeypatch):
    joined = []
    join = _torch_objects._join
    monkeypatch.setattr(_torch_objects, "_join", lambda path: joined.append(path) or join(path))
    with pytest.raises(FormatError, match="more objects than a checkpoint of its size"):
        list(read_objects(PickleStream(memoryview(b"\x80\x02" + BOMBS["names"] + b".")))[1])
    assert len(joined) < 1500
