"""Flax's MessagePack files, against a writer by the book."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.flax import FORMAT


def array(value, name=None, code=1):
    """Return an array as Flax packs it, with its bytes as they are if a type's name is given."""
    shape, kind = ([len(value)], name) if name else (value.shape, value.dtype.name)
    return msgpack.ExtType(code, msgpack.packb((shape, kind, value if name else value.tobytes())))


def flax(tree):
    return msgpack.packb(tree, strict_types=False)


NOISE = np.random.default_rng(0)
KERNEL = NOISE.standard_normal((3, 5), "f4")
TREE = {
    "params": {
        "Dense_0": {"kernel": array(KERNEL), "bias": array(np.zeros(5, "f2"))},
        "Embed_0": {"embedding": msgpack.ExtType(1, msgpack.packb(((2, 3), "bfloat16", bytes(range(12)))))},
    },
    "step": array(np.asarray(7, "i4"), code=3),
    "opt_state": {"0": {"count": 5, "mu": array(np.ones((300, 300), "f8"))}, "1": None},
    "list": [array(np.asarray([True, False])), "text", 1.5, -1, -300, 1 << 40, b"bytes"],
    7: array(np.zeros((0, 4), "c8")),
    "complex": msgpack.ExtType(2, msgpack.packb((1.0, 2.0))),
}
CHUNKED = {
    "w": {
        "__msgpack_chunked_array__": True,
        "shape": {"0": 2, "1": 3},
        "chunks": {"0": array(np.arange(4, dtype="f4")), "1": array(np.arange(2, dtype="f4"))},
    }
}


class TestFlax(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "all kinds": flax(TREE),
        "chunks": flax(CHUNKED),
        "a type of tomorrow": flax({"w": array(bytes(4), "float4_e2m1fn")}),
        "many": flax({f"layer_{n}": {"kernel": array(np.full((n % 4, 3), n, "f2"))} for n in range(99)}),
    }

    def test_names_are_the_keys_on_the_way(self):
        layout, tensors = lay_out(FORMAT, flax(TREE))
        assert layout.parameters == {
            "params/Dense_0/kernel": TensorSpec.of("F32", (3, 5)),
            "params/Dense_0/bias": TensorSpec.of("F16", (5,)),
            "params/Embed_0/embedding": TensorSpec.of("BF16", (2, 3)),
            "step": TensorSpec.of("I32", ()),
            "opt_state/0/mu": TensorSpec.of("F64", (300, 300)),
            "list/0": TensorSpec.of("BOOL", (2,)),
            "7": TensorSpec.of("C64", (0, 4)),
        }
        assert tensors["params/Dense_0/kernel"] == KERNEL.tobytes()

    def test_chunks_of_a_large_array_are_tensors(self):
        assert list(lay_out(FORMAT, flax(CHUNKED))[0].parameters) == ["w/chunks/0", "w/chunks/1"]

    def test_other_values_are_facts_that_can_be_replaced(self):
        layout, tensors = lay_out(FORMAT, flax(TREE))
        facts = FORMAT.facts(layout)
        assert facts["opt_state/0/count"] == msgpack.packb(5)
        assert facts["list/1"] == msgpack.packb("text")
        written = FORMAT.with_facts(layout, facts | {"opt_state/0/count": msgpack.packb(1 << 30), "list/1": b"\xa0"})
        assert written is not None
        tree = {**TREE, "list": [TREE["list"][0], "", *TREE["list"][2:]]}
        tree["opt_state"] = {**TREE["opt_state"], "0": {"count": 1 << 30, "mu": TREE["opt_state"]["0"]["mu"]}}
        assert assemble(written, tensors) == flax(tree)
        assert FORMAT.with_facts(layout, facts | {"new": b"\xc0"}) is None

    @pytest.mark.parametrize(
        "data",
        [b"\x81\xa1a\x01", b"\x80", b"\x80\x04\x95", b"\x81\x01\x02", flax({"a": {}}), flax([array(KERNEL)]), b"{"],
        ids=["number", "empty", "pickle", "key", "nothing inside", "list", "json"],
    )
    def test_other_messagepack_is_not_flax(self, data):
        assert not FORMAT.detect(memoryview(data))

    @pytest.mark.parametrize(
        ("tree", "message"),
        [
            ({"w": msgpack.ExtType(1, msgpack.packb(([2], "float32", bytes(9))))}, "parameter 'w'.*9"),
            ({"w": msgpack.ExtType(1, msgpack.packb(([2], "float32")))}, "parameter 'w'"),
            ({"w": msgpack.ExtType(1, msgpack.packb(([2.5], "float32", b"")))}, "not an integer"),
            ({"w": msgpack.ExtType(1, msgpack.packb(([-1], "float32", b"")))}, "negative"),
            ({"w": msgpack.ExtType(1, msgpack.packb(([0] * 99, "float32", b"")))}, "parameter 'w'"),
            ({"a": {"b": array(KERNEL)}, "a/b": array(KERNEL)}, "twice"),
        ],
    )
    def test_a_damaged_array_is_named(self, tree, message):
        with pytest.raises(FormatError, match=message):
            lay_out(FORMAT, flax(tree))

    def test_bytes_behind_the_last_value_are_refused(self):
        with pytest.raises(FormatError, match="1 bytes follow"):
            FORMAT.parse(memoryview(flax(TREE) + b"\0"))

    def test_what_is_nested_deeply_or_has_long_names_is_not_split(self):
        deep = array(KERNEL)
        for _ in range(100):
            deep = {"a": deep}
        with pytest.raises(NotSplittable, match="nested"):
            FORMAT.parse(memoryview(flax(deep)))
        small = array(np.zeros(0, "f4"))
        with pytest.raises(NotSplittable, match="names"):
            FORMAT.parse(memoryview(flax({"k" * 4000: {str(n): small for n in range(1000)}})))
