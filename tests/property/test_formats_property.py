"""Every file comes back byte for byte, whatever is in it; and no bytes make a format fail in an unknown way."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from functools import partial

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.layout import Layout
from git_theta_ext.registry import find_format
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats._pickle import Machine
from git_theta_plugins.formats._pickle_stream import PickleStream
from git_theta_plugins.formats._pickle_values import Budget
from git_theta_plugins.formats._torch_objects import read_objects

SAFETENSORS = find_format("safetensors")
TORCH = find_format("torch_zip")
LEGACY = find_format("torch_legacy")
EXPORT = find_format("torch_export")
TAR = find_format("tar")
NPZ = find_format("npz")
GGUF = find_format("gguf")

NAMES = st.text(st.characters(exclude_categories=()), max_size=8).filter(lambda name: name != "__metadata__")
SHAPES = st.lists(st.integers(0, 4), max_size=4)
KINDS = [
    "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2",
    "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "C64", "NEW24",
]  # fmt: skip
TORCH_KINDS = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64, torch.float16,
    torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64,
]  # fmt: skip


def comes_back(found, data):
    assert found.detect(memoryview(data))
    layout, tensors = lay_out(found, data)
    restored = Layout.from_skeleton(layout.to_skeleton())
    assert restored == layout
    assert assemble(restored, tensors) == data
    return layout


@st.composite
def safetensors_files(draw):
    entries = []
    data = b""
    for name in draw(st.lists(NAMES, unique=True, max_size=6)):
        kind, shape = draw(st.sampled_from(KINDS)), draw(SHAPES)
        bits = 24 if kind == "NEW24" else dtype(kind).bits
        size = int(np.prod(shape, dtype=int)) * bits
        assume(size % 8 == 0)
        data += draw(st.binary(max_size=3))
        content = draw(st.binary(min_size=size // 8, max_size=size // 8))
        entries.append((name, {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}))
        data += content
    entries = draw(st.permutations(entries))
    if draw(st.booleans()):
        entries.insert(0, ("__metadata__", draw(st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2))))
    header = json.dumps(dict(entries)).encode() + b" " * draw(st.integers(0, 9))
    return len(header).to_bytes(8, "little") + header + data + draw(st.binary(max_size=3))


@given(safetensors_files())
def test_any_safetensors_file_comes_back(data):
    layout = comes_back(SAFETENSORS, data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header.pop("__metadata__", None)
    assert set(layout.parameters) == set(header)


@given(safetensors_files(), st.data())
def test_a_composed_safetensors_file_has_what_was_asked_for(data, draw):
    layout, tensors = lay_out(SAFETENSORS, data)
    kept = draw.draw(st.sets(st.sampled_from(sorted(tensors)))) if tensors else set()
    wanted = {name: layout.parameters[name] for name in kept}
    composed = SAFETENSORS.compose(layout, wanted)
    again, found = lay_out(SAFETENSORS, assemble(composed, tensors))
    assert again == composed
    assert again.parameters == wanted
    assert found == {name: tensors[name] for name in kept}


@st.composite
def torch_values(draw):
    def tensor(seed):
        kind, shape = draw(st.sampled_from(TORCH_KINDS)), draw(SHAPES)
        raw = np.random.default_rng(seed).bytes(int(np.prod(shape, dtype=int)) * kind.itemsize)
        if kind is torch.bool:
            raw = bytes(byte & 1 for byte in raw)
        made = torch.tensor(list(raw), dtype=torch.uint8).view(kind).reshape(shape)
        if made.dim() > 1 and draw(st.booleans()):
            made = made.transpose(0, 1)
        if made.numel() > 1 and made.dim() and draw(st.booleans()):
            made = made[..., :1]
        return torch.nn.Parameter(made, requires_grad=False) if draw(st.booleans()) else made

    leaves = st.integers(0, 9).map(tensor) | st.integers() | st.floats() | st.text(max_size=3) | st.none()
    keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.integers(0, 99)
    nested = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
    )
    value = draw(st.dictionaries(keys, nested, max_size=4))
    return {**value, "tied": list(value.values())[:1]}


@given(torch_values(), st.sampled_from([2, 4, 5]))
def test_any_torch_file_comes_back(value, protocol):
    found = []
    for kind, zipped in ((TORCH, True), (LEGACY, False)):
        target = io.BytesIO()
        torch.save(value, target, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        found.append(comes_back(kind, target.getvalue()).parameters)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            info = tarfile.TarInfo("model.pt")
            info.size = len(target.getvalue())
            archive.addfile(info, io.BytesIO(target.getvalue()))
        if found[-1]:
            assert comes_back(TAR, packed.getvalue()).parameters == found[-1]
    assert found[0] == found[1]


EXPORT_KINDS = {1: 1, 5: 8, 6: 2, 7: 4, 9: 4, 11: 16, 12: 1, 13: 2, 29: 1, 35: 8}


@st.composite
def export_files(draw):
    table, records = {}, {}
    for name in draw(st.lists(st.text(max_size=6), unique=True, max_size=5)):
        kind, shape, record = draw(st.sampled_from(sorted(EXPORT_KINDS))), draw(SHAPES), f"weight_{len(records)}"
        strides = np.ones(shape, "i1").strides
        records[record] = np.random.default_rng(kind).bytes(int(np.prod(shape, dtype=int)) * EXPORT_KINDS[kind])
        numbers = {"sizes": shape, "strides": strides}
        meta = {key: [{"as_int": n} for n in values] for key, values in numbers.items()}
        meta |= {"dtype": kind, "storage_offset": {"as_int": 0}}
        table[name] = {"path_name": record, "use_pickle": draw(st.booleans()), "tensor_meta": meta}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for record, data in records.items():
            made.writestr(f"m/data/weights/{record}", data)
        made.writestr("m/data/weights/model_weights_config.json", json.dumps({"config": table}))
        made.writestr("m/archive_format", b"pt2")
    return target.getvalue(), {name for name, entry in table.items() if not entry["use_pickle"]}


@given(export_files())
def test_any_archive_of_torch_export_comes_back(case):
    data, names = case
    assert set(comes_back(EXPORT, data).parameters) == names


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=5).filter(
            lambda n: n != "file"
        ),
        st.tuples(
            st.sampled_from(["?", "u1", "<i2", ">i4", "<f2", "<f8", "<c8", "S3", "U2", "M8[s]"]), SHAPES, st.booleans()
        ),
        max_size=4,
    ),
    st.integers(0, 9),
)
def test_any_npz_file_comes_back(arrays, seed):
    noise = np.random.default_rng(seed)
    made = {}
    for name, (kind, shape, fortran) in arrays.items():
        count = int(np.prod(shape, dtype=int))
        raw = noise.bytes(count * np.dtype(kind).itemsize)
        array = np.frombuffer(raw, kind, count).reshape(shape)
        made[name] = np.asfortranarray(array) if fortran else array
    target = io.BytesIO()
    np.savez(target, **made)
    data = target.getvalue()
    if made:
        assert set(comes_back(NPZ, data).parameters) == set(made)


BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 30: (1, 2), 77: (1, 1)}
VALUES = st.recursive(
    st.sampled_from([(0, 1), (3, 2), (6, 4), (7, 1), (12, 8)]).flatmap(
        lambda kind: st.binary(min_size=kind[1], max_size=kind[1]).map(lambda data: (kind[0], data))
    )
    | st.binary(max_size=5).map(lambda data: (8, struct.pack("<Q", len(data)) + data)),
    lambda inner: st.tuples(inner, st.integers(0, 3)).map(
        lambda made: (9, struct.pack("<IQ", made[0][0], made[1]) + made[0][1] * made[1])
    ),
    max_leaves=3,
)


@st.composite
def gguf_files(draw):
    alignment = draw(st.sampled_from([1, 8, 32, 64]))
    values = {b"general.alignment": (4, struct.pack("<I", alignment))} if alignment != 32 else {}
    values |= draw(st.dictionaries(st.binary(max_size=5), VALUES, max_size=3))
    pairs = b"".join(
        struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + data for key, (kind, data) in values.items()
    )
    rows, content = b"", b""
    names = draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=6), unique=True, max_size=5))
    for name in names:
        kind = draw(st.sampled_from(sorted(BLOCKS)))
        elements, nbytes = BLOCKS[kind]
        shape = [draw(st.integers(0, 3)) * elements, *draw(st.lists(st.integers(0, 3), max_size=3))]
        size = int(np.prod(shape, dtype=int)) // elements * nbytes
        text = name.encode()
        rows += struct.pack("<Q", len(text)) + text
        rows += struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(content))
        content += np.random.default_rng(size).bytes(size)
        content += bytes(-len(content) % alignment)
    head = b"GGUF" + struct.pack("<IQQ", draw(st.sampled_from([2, 3])), len(names), len(values)) + pairs + rows
    return head + bytes(-len(head) % alignment) + content


@given(gguf_files(), st.data())
def test_any_gguf_file_comes_back_and_its_parts_make_another(data, draw):
    layout = comes_back(GGUF, data)
    _, tensors = lay_out(GGUF, data)
    kept = draw.draw(st.sets(st.sampled_from(sorted(tensors)))) if tensors else set()
    composed = GGUF.compose(layout, {name: layout.parameters[name] for name in kept})
    if composed is not None:
        again, found = lay_out(GGUF, assemble(composed, tensors))
        assert again == composed
        assert found == {name: tensors[name] for name in kept}


@given(gguf_files(), st.data())
def test_a_damaged_gguf_file_is_split_or_refused(data, draw):
    at = draw.draw(st.integers(0, len(data) - 1))
    damaged = data[:at] + draw.draw(st.binary(max_size=3)) + data[at + draw.draw(st.integers(0, 4)) :]
    try:
        layout, tensors = lay_out(GGUF, damaged)
    except (FormatError, NotSplittable):
        return
    assert assemble(layout, tensors) == damaged


@given(safetensors_files(), st.data())
def test_a_damaged_safetensors_file_is_split_or_refused(data, draw):
    at = draw.draw(st.integers(0, len(data) - 1))
    damaged = data[:at] + draw.draw(st.binary(max_size=3)) + data[at + draw.draw(st.integers(0, 4)) :]
    try:
        layout, tensors = lay_out(SAFETENSORS, damaged)
    except FormatError:
        return
    assert assemble(layout, tensors) == damaged


def example(save, value):
    target = io.BytesIO()
    save(value, target)
    return target.getvalue()


TORCH_FILE = example(torch.save, {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3).bfloat16()})
LEGACY_FILE = example(partial(torch.save, _use_new_zipfile_serialization=False), {"w": torch.ones(2, 3)})
NPZ_FILE = example(lambda value, target: np.savez(target, **value), {"w": np.ones((2, 3)), "b": np.ones(3, ">i2")})


@given(st.sampled_from([(TORCH, TORCH_FILE), (LEGACY, LEGACY_FILE), (NPZ, NPZ_FILE)]), st.data())
def test_a_damaged_file_of_torch_or_numpy_is_split_or_refused(case, draw):
    found, data = case
    at = draw.draw(st.integers(0, len(data) - 1))
    damaged = data[:at] + draw.draw(st.binary(max_size=3)) + data[at + draw.draw(st.integers(0, 4)) :]
    found.detect(memoryview(damaged))
    try:
        layout, tensors = lay_out(found, damaged)
    except (FormatError, NotSplittable):
        return
    assert assemble(layout, tensors) == damaged


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.tuples(inner),
    max_leaves=12,
)


@given(PLAIN, st.integers(3, 5))
def test_the_pickle_machine_reads_what_pickle_writes(value, protocol):
    machine = Machine(call=lambda *_: None, load=lambda _: None, budget=Budget(0))
    assert machine.run(PickleStream(memoryview(pickle.dumps(value, protocol)))) == value


@given(
    st.lists(
        st.sampled_from(b"(.0122}]).NK\1X\0abqhrt\x85\x86\x87uasdelbR\x81\x92\x93Q\x94\x8f\x90ctorch\nSize\n"),
        max_size=60,
    )
)
def test_no_opcodes_make_the_machine_fail_in_an_unknown_way(opcodes):
    try:
        list(read_objects(PickleStream(memoryview(bytes(opcodes) + b".")))[1])
    except FormatError as error:
        assert str(error)  # noqa: PT017 - whether these opcodes make sense is not the question
