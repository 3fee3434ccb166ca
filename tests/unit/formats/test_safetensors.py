"""The safetensors format, against the reference's writer and against broken headers."""

import json

import pytest
import safetensors
import torch
from safetensors.torch import load, save

from git_theta_ext.errors import FormatError
from git_theta_ext.model.layout import Layout, Literal, Slice
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.safetensors import FORMAT

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64,
    torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e8m0fnu, torch.complex64,
]  # fmt: skip


def file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(begin, end, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def parse(data):
    return FORMAT.parse(memoryview(data))


EXAMPLES = {
    "reference": save({"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3)}, {"note": "é"}),
    "every dtype": save({str(kind): torch.ones(3).to(kind) for kind in DTYPES}),
    "0-d and empty": save(
        {"0d": torch.tensor(1.5), "e": torch.empty(0, 4), "f": torch.empty(2, 0), "u": torch.ones(1)}
    ),
    "nothing": b"\2" + bytes(7) + b"{}",
    "gaps, out of order, unaligned": file(
        {"b": entry(7, 11, "F32", [1]), "a": entry(1, 3, "F16", [1])}, b"0AA3456BBBB9"
    ),
    "odd names": file(
        {"": entry(0, 1), "\t\n\0\x7f": entry(1, 2), "\ud800": entry(2, 3), "ключ\u2028": entry(3, 4)}, b"1234"
    ),
    "sub-byte": file({"q": entry(0, 3, "F4", [2, 3]), "s": entry(3, 6, "F6_E2M3", [4])}, b"123456"),
    "unknown dtype": file({"q": entry(0, 6, "Z12", [2, 2])}, b"123456"),
    "several empty at one place": file(
        {"b": entry(2, 2), "a": entry(2, 2), "x": entry(0, 2), "y": entry(2, 4)}, b"1234"
    ),
}


class TestSafetensors(FormatTests):
    format = FORMAT
    examples = EXAMPLES


def test_every_dtype_of_the_reference_is_known_by_its_name():
    layout, tensors = lay_out(FORMAT, EXAMPLES["every dtype"])
    for kind in DTYPES:
        assert layout.parameters[str(kind)].dtype.kind != "opaque"
        value = torch.ones(3).to(kind)
        assert tensors[str(kind)] == bytes(value.view(torch.uint8).tolist())


def test_an_unknown_dtype_is_kept_by_its_width():
    (found,) = parse(EXAMPLES["unknown dtype"])
    assert str(found.spec) == "opaque12:Z12 [2,2]"


def test_an_unknown_dtype_without_elements_is_kept():
    (found,) = parse(file({"q": entry(0, 0, "Z12", [0])}))
    assert found.spec.nbytes == 0


BROKEN = {
    "length over the file": (file({}, length=99), "truncated"),
    "length only": (b"\x10" + bytes(7), "truncated"),
    "huge length": (file({}, length=(1 << 63)), "truncated"),
    "not JSON": (file(b"{nonsense}"), "not JSON"),
    "not UTF-8": (file(b'{"\xff":1}'), "not JSON"),
    "nested too deeply": (file(b'{"a":' + b"[" * 200_000), "not JSON"),
    "no object": (file(b"[1]"), "not a JSON object"),
    "metadata that is a list": (file({"__metadata__": []}), "not a JSON object"),
    "name twice": (file(b'{"w":1,"w":2}'), "'w' is in the header twice"),
    "key twice": (file(b'{"w":{"dtype":"U8","dtype":"I8"}}'), "'dtype' is in the header twice"),
    "entry is a number": (file({"w": 1}), "'w' lacks"),
    "no shape": (file({"w": {"dtype": "U8", "data_offsets": [0, 0]}}), "'w' lacks"),
    "three offsets": (file({"w": {"dtype": "U8", "shape": [], "data_offsets": [0, 0, 0]}}), "'w' lacks"),
    "fractions": (file({"w": {"dtype": "U8", "shape": [1.0], "data_offsets": [0, 1]}}, b"1"), "'w' has a shape"),
    "truth as a number": (
        file({"w": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"1"),
        "'w' has a shape",
    ),
    "negative shape": (file({"w": entry(0, 1, shape=[-1, -1])}, b"1"), "'w': a tensor of negative"),
    "negative offset": (file({"w": entry(-1, 0)}, b"1"), "'w' is recorded at bytes -1 to 0"),
    "end before begin": (file({"w": entry(1, 0, shape=[0])}, b"1"), "'w' is recorded"),
    "end outside": (file({"w": entry(0, 2)}, b"1"), "'w' is recorded at bytes 0 to 2 of 1"),
    "size against shape": (file({"w": entry(0, 2, "F32", [1])}, b"12"), "'w': F32 .1. has 4 bytes"),
    "huge shape": (file({"w": entry(0, 1, shape=[1 << 62, 1 << 62])}, b"1"), "'w': a tensor of impossible size"),
    "many dimensions": (file({"w": entry(0, 1, shape=[1] * 65)}, b"1"), "'w': 65 dimensions exceed the limit of 64"),
    "half a byte": (file({"w": entry(0, 1, "F4", [3])}, b"1"), "'w': 3 elements of F4"),
    "odd dtype": (file({"w": entry(0, 1, "a b", [1])}, b"1"), "'w': unknown element type"),
    "overlap": (file({"v": entry(0, 3), "w": entry(2, 4)}, b"1234"), "'w' at byte .* overlaps"),
    "same place twice": (file({"v": entry(0, 3), "w": entry(0, 3)}, b"123"), "'w' at byte .* overlaps"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_by_name(data, message):
    with pytest.raises(FormatError, match=message):
        lay_out(FORMAT, data)


def test_a_file_that_is_cut_short_is_still_detected_and_refused():
    for end in range(9, len(EXAMPLES["reference"])):
        cut = EXAMPLES["reference"][:end]
        assert FORMAT.detect(memoryview(cut))
        with pytest.raises(FormatError):
            parse(cut)


def test_a_composed_file_keeps_order_and_metadata_and_is_read_by_the_reference():
    layout, tensors = lay_out(FORMAT, EXAMPLES["reference"])
    wanted = {**layout.parameters, "z": TensorSpec.of("BF16", (2,)), "c": TensorSpec.of("BF16", (1, 2))}
    composed = FORMAT.compose(layout, wanted)
    assert list(composed.parameters) == [*layout.parameters, "c", "z"]
    data = assemble(composed, {**tensors, "z": bytes(4), "c": b"\x80\x3f\x80\x3f"})
    read = load(data)
    assert torch.equal(read["w"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(read["c"], torch.ones(1, 2, dtype=torch.bfloat16))
    assert dict(safetensors.deserialize(data))["z"]["shape"] == [2]
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"] == {"note": "é"}
    assert int.from_bytes(data[:8], "little") % 8 == 0


def test_a_composed_file_is_sorted_by_width_where_elements_would_be_unaligned():
    layout, _ = lay_out(FORMAT, save({"a": torch.ones(3, dtype=torch.uint8)}))
    composed = FORMAT.compose(layout, {**layout.parameters, "w": TensorSpec.of("F32", (1,))})
    assert list(composed.parameters) == ["w", "a"]
    load(assemble(composed, {"a": b"123", "w": bytes(4)}))


@pytest.mark.parametrize("spec", ["opaque12", "opaque24"])
def test_nothing_is_composed_of_types_without_a_name(spec):
    layout, _ = lay_out(FORMAT, EXAMPLES["nothing"])
    assert FORMAT.compose(layout, {"w": TensorSpec.of(spec, (2,))}) is None


def test_an_unknown_type_keeps_its_name_in_a_composed_file():
    layout, tensors = lay_out(FORMAT, EXAMPLES["unknown dtype"])
    composed = FORMAT.compose(layout, layout.parameters)
    assert lay_out(FORMAT, assemble(composed, tensors))[0].parameters == layout.parameters


def test_a_layout_of_another_format_is_refused():
    with pytest.raises(FormatError):
        FORMAT.compose(Layout((Slice("a", TensorSpec.of("U8", (1,))),)), {})
    with pytest.raises(FormatError):
        FORMAT.compose(Layout((Literal(b"abc"),)), {})
