"""ONNX models, against a writer by the book; and against the onnx package, if it is installed."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.external_tensor import ExternalTensor
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import lay_out
from git_theta_plugins.formats.onnx import FORMAT

FLOAT, INT64, FLOAT16, BFLOAT16, INT4, STRING = 1, 7, 10, 16, 22, 8


def varint(value):
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name, kind, shape, raw=b"", extra=b"", packed=False):
    dims = field(1, b"".join(map(varint, shape))) if packed else b"".join(field(1, n) for n in shape)
    return dims + field(2, kind) + extra + field(8, name) + (field(9, raw) if raw else b"")


def node(output, *attributes):
    return field(1, "x") + field(2, output) + field(4, "Constant") + b"".join(field(5, part) for part in attributes)


def attribute(name, number, value):
    return field(1, name) + field(number, value) + field(20, 4)


def graph(*initializers, nodes=(), sparse=b""):
    made = b"".join(field(1, one) for one in nodes) + field(2, "main")
    return made + b"".join(field(5, one) for one in initializers) + (field(15, sparse) if sparse else b"")


def model(content):
    return field(1, 10) + field(2, "pytorch") + field(7, content) + field(8, field(1, "") + field(2, 18))


def noise(nbytes, seed=0):
    return np.random.default_rng(seed).bytes(nbytes)


WEIGHT = tensor("fc.weight", FLOAT, (3, 5), noise(60))
HALF = tensor("fc.bias", FLOAT16, (5,), noise(10, 1), packed=True)
FLOATS = tensor("floats", FLOAT, (2, 2), extra=field(4, struct.pack("<4f", 1, 2, 3, 4)))
LARGE = tensor("large", BFLOAT16, (200, 300), noise(120_000, 2))
INNER = graph(tensor("fc.weight", FLOAT, (2,), noise(8, 3)))
NODES = (
    node("/Constant_output_0", attribute("value", 5, tensor("", INT64, (2,), noise(16, 4)))),
    node("/If_output_0", attribute("then_branch", 6, INNER), attribute("else_branch", 6, INNER)),
)
EXTERNAL = tensor("elsewhere", FLOAT, (9,), extra=field(13, field(1, "location") + field(2, "w.bin")) + field(14, 1))


class TestOnnx(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "all kinds": model(graph(WEIGHT, HALF, FLOATS, LARGE, EXTERNAL, nodes=NODES)),
        "four bits": model(graph(tensor("q", INT4, (3, 3), noise(5)))),
        "sparse": model(graph(sparse=field(1, WEIGHT) + field(2, tensor("", INT64, (3,), noise(24))))),
        "no tensors": model(graph()),
        "texts": model(graph(tensor("s", STRING, (1,), extra=field(6, "text")), WEIGHT)),
    }

    def test_initializers_and_constants_are_tensors(self):
        layout, tensors = lay_out(FORMAT, self.examples["all kinds"])
        assert layout.parameters == {
            "/Constant_output_0/value": TensorSpec.of("I64", (2,)),
            "/If_output_0/then_branch/fc.weight": TensorSpec.of("F32", (2,)),
            "/If_output_0/else_branch/fc.weight": TensorSpec.of("F32", (2,)),
            "fc.weight": TensorSpec.of("F32", (3, 5)),
            "fc.bias": TensorSpec.of("F16", (5,)),
            "floats": TensorSpec.of("F32", (2, 2)),
            "large": TensorSpec.of("BF16", (200, 300)),
        }
        assert tensors["floats"] == struct.pack("<4f", 1, 2, 3, 4)

    def test_elements_of_four_bits_are_bytes(self):
        assert lay_out(FORMAT, self.examples["four bits"])[0].parameters == {"q": TensorSpec.of("opaque8:onnx22", (5,))}

    def test_sparse_tensors_have_values_and_indices(self):
        assert set(lay_out(FORMAT, self.examples["sparse"])[0].parameters) == {
            "sparse_initializer_0/fc.weight",
            "sparse_initializer_0/indices",
        }

    def test_another_graph_is_another_fact(self):
        layouts = [lay_out(FORMAT, model(graph(WEIGHT, nodes=(node(name),))))[0] for name in ("a", "a", "b")]
        facts = [FORMAT.facts(layout) for layout in layouts]
        assert facts[0] == facts[1] != facts[2]
        assert FORMAT.with_facts(layouts[0], facts[2]) is None

    @pytest.mark.parametrize(
        "data",
        [b"\x08", b"\x08\x07", field(1, 7) + field(2, "x"), model(graph())[1:], model(graph()) + b"\0", b"\x08" * 50],
    )
    def test_other_messages_are_not_onnx(self, data):
        assert not FORMAT.detect(memoryview(data))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (graph(tensor("w", FLOAT, (3,), bytes(11))), "parameter 'w'.*11 bytes"),
            (graph(tensor("w", FLOAT, (1,) * 65, bytes(4))), "dimensions"),
            (graph(tensor("w", FLOAT, (1 << 62, 4), bytes(4))), "parameter 'w'"),
            (graph(WEIGHT)[:-1], "truncated"),
            (field(5, b"\x07"), "begin a field"),
        ],
    )
    def test_a_damaged_graph_is_refused(self, content, message):
        with pytest.raises(FormatError, match=message):
            FORMAT.parse(memoryview(model(content)))

    def test_tensors_of_functions_have_its_name_before_theirs(self):
        constant = node("scale", attribute("value", 5, tensor("", FLOAT, (2,), noise(8))))
        function = field(1, "Norm") + field(4, "x") + field(5, "y") + field(7, constant) + field(10, "custom")
        layout = lay_out(FORMAT, model(graph(WEIGHT)) + field(25, function))[0]
        assert list(layout.parameters) == ["fc.weight", "Norm/scale/value"]

    def test_tensors_of_the_same_name_are_numbered(self):
        layout, tensors = lay_out(FORMAT, model(graph(WEIGHT, tensor("fc.weight", FLOAT, (2,), bytes(8)), WEIGHT)))
        assert list(layout.parameters) == ["fc.weight", "fc.weight#2", "fc.weight#3"]
        assert tensors["fc.weight#2"] == bytes(8)

    def test_what_is_nested_deeply_is_not_split(self):
        deep = INNER
        for _ in range(20):
            deep = graph(nodes=(node("o", attribute("then_branch", 6, deep)),))
        with pytest.raises(NotSplittable, match="nested"):
            FORMAT.parse(memoryview(model(deep)))


def external(name, shape, entries, kind=FLOAT):
    parts = b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries.items())
    return tensor(name, kind, shape, extra=parts + field(14, 1))


def externals(*tensors):
    return FORMAT.external_tensors(lay_out(FORMAT, model(graph(*tensors)))[0])


def test_tensors_in_other_files_have_names_and_places():
    entries = {"location": "./m.onnx.data", "offset": "4096", "length": "24", "checksum": "x"}
    first = external("fc.weight", (2, 3), entries)
    found = externals(WEIGHT, first, external("q", (3, 3), {"location": "m.onnx.data", "length": "5"}, INT4))
    assert found == [
        ExternalTensor("fc.weight#2", TensorSpec.of("F32", (2, 3)), "m.onnx.data", 4096),
        ExternalTensor("q", TensorSpec.of("opaque8:onnx22", (5,)), "m.onnx.data", 0),
    ]


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "w.bin"},
        {"location": "w.bin", "length": "0"},
        {"location": "w.bin", "length": "23"},
        {"location": "w.bin", "length": "24", "offset": "-1"},
        {"location": "w.bin", "length": "24", "offset": "9" * 19},
        {"location": "w.bin", "length": "\N{SUPERSCRIPT TWO}"},
        {"length": "24"},
    ],
)
def test_a_tensor_in_an_unclear_place_is_left_out(entries):
    assert externals(external("w", (2, 3), entries)) == []


def test_values_in_the_file_are_not_external_whatever_else_is_said():
    assert externals(tensor("w", FLOAT, (2,), bytes(8), extra=field(13, field(1, "location") + field(2, "f")))) == []


def test_a_model_of_the_onnx_package_is_split_as_that_package_reads_it():
    onnx = pytest.importorskip("onnx", reason="needs onnx, which .[oracles] installs")
    arrays = {
        "w": np.arange(12.0, dtype="f4").reshape(3, 4),
        "h": np.ones(7, "f2"),
        "i": np.arange(5),
        "b": np.array(True),
    }
    values = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    values.append(onnx.helper.make_tensor("packed", onnx.TensorProto.FLOAT, [2], [1.0, 2.0]))
    made = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], values))
    layout, tensors = lay_out(FORMAT, made.SerializeToString())
    for value in made.graph.initializer:
        array = onnx.numpy_helper.to_array(value)
        assert tensors[value.name] == array.tobytes()
        assert layout.parameters[value.name].shape == array.shape
