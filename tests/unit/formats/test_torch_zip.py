"""Torch files: real ones of torch.save, hand-made lies, and pickles that would run code."""

import argparse
import builtins
import collections
import functools
import io
import operator
import os
import pathlib
import pickle
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats import _pickle_stream
from git_theta_plugins.formats.torch_zip import FORMAT


def save(value, **options):
    target = io.BytesIO()
    torch.save(value, target, **options)
    return target.getvalue()


def specs(data):
    return {name: str(spec) for name, spec in lay_out(FORMAT, data)[0].parameters.items()}


def repack(data, change, **options):
    """Write an archive anew with other members; ``change`` maps name to bytes, None to leave it out."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w", **options) as new:
        for info in old.infolist():
            content = change.get(info.filename.partition("/")[2], old.read(info))
            if content is not None:
                new.writestr(info.filename, content)
    return target.getvalue()


def with_pickle(content):
    return repack(save({"w": torch.arange(4.0)}), {"data.pkl": content})


DTYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.complex64: "C64",
    torch.complex128: "C128", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32", torch.int64: "I64",
    torch.uint8: "U8", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0",
}  # fmt: skip
W = torch.arange(12.0).reshape(3, 4)


def trained():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "lr": [0.1, None]}


class TestTorchZip(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "flat": save({"w": W, "b": torch.ones(3)}),
        "every dtype": save({str(kind): torch.ones(3).to(kind) for kind in DTYPES}),
        "tied, strided, views": save({"a": W, "b": W, "t": W.clone().t(), "v": W.clone()[1:, ::2]}),
        "0-d and empty": save({"0d": torch.tensor(3), "e": torch.empty(0, 4), "one": torch.ones(1)}),
        "training state": save(trained()),
        "a single tensor": save(W),
        "no tensors": save({"a": 1}),
        "protocol 5": save({"w": W}, pickle_protocol=5),
        "rezipped": repack(save({"w": W}), {}),
    }


def test_a_flat_state_dict_is_named_by_its_keys():
    assert specs(save(collections.OrderedDict({"layer.0.weight": W, "layer.0.bias": torch.ones(3)}))) == {
        "layer.0.weight": "F32 [3,4]",
        "layer.0.bias": "F32 [3]",
    }


@pytest.mark.parametrize("kind", DTYPES, ids=str)
def test_element_types_are_reported(kind):
    assert specs(save({"x": torch.ones(2, 3).to(kind)})) == {"x": f"{DTYPES[kind]} [2,3]"}


def test_nested_containers_are_joined_and_numbered():
    found = specs(save(trained()))
    assert found["model.0.weight"] == "F32 [3,4]"
    assert found["optimizer.state.0.exp_avg"] == "F32 [3,4]"
    assert found["model.1.num_batches_tracked"] == "I64 []"
    assert specs(save([W, (W.clone(), {"k": W.clone()})])) == dict.fromkeys(["0", "1.0", "1.1.k"], "F32 [3,4]")
    assert specs(save(W)) == {"tensor": "F32 [3,4]"}


def test_names_that_collide_are_numbered():
    values = {"a.b": W, "a": {"b": W.clone(), "b#2": W.clone()}}
    assert list(specs(save({**values, "a.b#2": W.clone()}))) == ["a.b", "a.b#2", "a.b#2#2", "a.b#2#3"]


def test_tied_tensors_are_one_parameter_under_the_first_name():
    assert specs(save({"first": W, "second": W, "third": torch.nn.Parameter(W)})) == {"first": "F32 [3,4]"}


def test_a_storage_is_named_by_the_tensor_that_fills_it():
    assert specs(save({"part": W[1:], "all": W})) == {"all": "F32 [3,4]"}


@pytest.mark.parametrize("view", [W.t(), W[1:], W[:, 1], W.expand(2, 3, 4), W.as_strided((2, 2), (1, 1))])
def test_a_storage_that_no_tensor_fills_is_one_row(view):
    assert specs(save({"v": view})) == {"v": "F32 [12]"}


def test_bare_storages_and_wrapped_tensors_are_found():
    sparse = torch.eye(3).to_sparse()
    assert sorted(specs(save({"s": sparse, "u": W.untyped_storage()})).values()) == ["F32 [3]", "I64 [2,3]", "U8 [48]"]
    with_state = torch.nn.Parameter(W)
    with_state.extra = {"more": torch.ones(2)}
    assert specs(save({"p": with_state})) == {"p": "F32 [3,4]", "p.extra.more": "F32 [2]"}


def test_a_meta_tensor_has_no_bytes():
    assert specs(save({"m": torch.empty(3, device="meta"), "w": W})) == {"w": "F32 [3,4]"}


@pytest.mark.filterwarnings("ignore")
def test_a_quantized_tensor_is_kept():
    assert specs(save({"q": torch.quantize_per_tensor(W, 0.1, 2, torch.qint8)})) == {"q.0": "I8 [12]"}


def test_plain_python_values_of_checkpoints_are_accepted():
    value = {
        "args": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("a/b"), w=W),
        "counts": collections.Counter("aab"),
        "default": collections.defaultdict(list, x=[torch.ones(1)]),
        "numpy": [np.float64(1.5), np.arange(3)],
        "others": [{1, 2}, 1j, torch.Size([1]), torch.float16, torch.device("cpu"), b"raw", bytearray(b"x")],
    }
    assert specs(save(value)) == {"args.w": "F32 [3,4]", "default.x.0": "F32 [1]"}


def test_changed_values_give_an_archive_that_torch_still_loads():
    data = save({"w": W, "b": torch.ones(3)})
    layout, tensors = lay_out(FORMAT, data)
    changed = assemble(layout, {**tensors, "w": (W * 2).numpy().tobytes()})
    assert zipfile.ZipFile(io.BytesIO(changed)).testzip() is None
    assert torch.equal(torch.load(io.BytesIO(changed), weights_only=True)["w"], W * 2)


def test_the_other_byte_order_is_opaque():
    data = repack(save({"w": W, "b": torch.ones(3, dtype=torch.uint8)}), {"byteorder": b"big"})
    assert specs(data) == {"w": "opaque32:>F32 [3,4]", "b": "U8 [3]"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (repack(save({"w": W}), {}, compression=zipfile.ZIP_DEFLATED), "is compressed"),
    ],
    ids=["compressed"],
)
def test_what_cannot_be_split_is_detected_and_says_why(data, reason):
    assert FORMAT.detect(memoryview(data))
    with pytest.raises(NotSplittable, match=reason):
        FORMAT.parse(memoryview(data))


CALLS = [
    (os.system, ("touch CANARY",)),
    (eval, ("open('CANARY', 'w')",)),
    (exec, ("open('CANARY', 'w')",)),
    (getattr, ("", "join")),
    (builtins.__import__, ("os",)),
    (subprocess.Popen, (["touch", "CANARY"],)),
    (operator.attrgetter, ("system",)),
    (open, ("CANARY", "w")),
    (torch.load, ("CANARY",)),
    (pickle.loads, (b"N.",)),
]


class _Evil:
    def __init__(self, function, args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(("function", "args"), CALLS, ids=lambda value: getattr(value, "__name__", None))
def test_a_pickle_that_calls_something_is_taken_apart_and_not_run(function, args, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = with_pickle(pickle.dumps({"w": _Evil(function, args)}, protocol))
    layout, _ = lay_out(FORMAT, data)
    assert layout.parameters == {}
    assert list(tmp_path.iterdir()) == []


def test_classes_that_are_not_installed_are_objects_with_their_tensors(monkeypatch):
    """As a Trainer's arguments, the callbacks of Lightning, and models that are saved whole."""
    module = types.ModuleType("not_installed")
    monkeypatch.setitem(sys.modules, "not_installed", module)

    class Config:
        def __init__(self):
            self.rate, self.ema = 0.1, {"w": W.clone()}

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.BatchNorm1d(3))

    class Rows(list):
        pass

    for kind in (Config, Model, Rows):
        kind.__module__, kind.__qualname__ = "not_installed", kind.__name__
        setattr(module, kind.__name__, kind)
    data = save({"args": Config(), "model": Model(), "rows": Rows([torch.ones(2)]), "call": functools.partial(max, W)})
    monkeypatch.delitem(sys.modules, "not_installed")
    assert specs(data) == {
        "args.ema.w": "F32 [3,4]",
        "model.inner.0.weight": "F32 [3,4]",
        "model.inner.1.weight": "F32 [3]",
        "model.inner.1.bias": "F32 [3]",
        "model.inner.1.running_mean": "F32 [3]",
        "model.inner.1.running_var": "F32 [3]",
        "model.inner.1.num_batches_tracked": "I64 []",
        "rows.0": "F32 [2]",
        "call.1.0": "F32 [3,4]",
    }


def test_functions_of_others_that_are_called_as_those_of_torch_are_objects():
    assert specs(with_pickle(pickled("cothers\n_rebuild_tensor_v2\n"))) == {"w.0": "F32 [4]"}


def pickled(tensor="ctorch._utils\n_rebuild_tensor_v2\n", storage=b"", args=b"K\x00K\x04\x85K\x01\x85\x89N"):
    storage = storage or b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    return b"\x80\x02}X\x01\x00\x00\x00w" + tensor.encode() + b"(" + storage + args + b"tRs."


def named_storage(kind=b"FloatStorage", key=b"0", elements=b"K\x04"):
    key = len(key).to_bytes(4, "little") + key
    return b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"\nX" + key + b"X\x03\x00\x00\x00cpu" + elements + b"tQ"


def test_the_hand_made_pickle_is_right_where_nothing_is_changed():
    assert specs(with_pickle(pickled())) == {"w": "F32 [4]"}
    assert specs(with_pickle(pickled(storage=named_storage()))) == {"w": "F32 [4]"}


BROKEN = {
    "outside the storage": (pickled(args=b"K\x01K\x04\x85K\x01\x85\x89N"), "'w' reaches outside"),
    "huge stride": (pickled(args=b"K\x00K\x04\x85J\xff\xff\xff\x7f\x85\x89N"), "'w' reaches outside"),
    "negative size": (
        pickled(args=b"K\x00J\xff\xff\xff\xff\x85K\x01\x85\x89N"),
        "storage '0' has an impossible shape",
    ),
    "huge size": (pickled(args=b"K\x00\x8a\x09" + b"\x7f" * 9 + b"\x85K\x01\x85\x89N"), "impossible shape"),
    "shape and strides differ": (pickled(args=b"K\x00K\x04\x85)\x89N"), "has no shape and strides"),
    "shape of text": (pickled(args=b"K\x00X\x01\x00\x00\x004\x85K\x01\x85\x89N"), "impossible shape"),
    "too few arguments": (pickled(args=b""), "arguments that it does not take"),
    "a tensor of a number": (pickled(storage=b"K\x01"), "arguments that it does not take"),
    "storage of another size": (
        pickled(storage=named_storage(elements=b"K\x05")),
        "'w': .* has 16 bytes instead of 20",
    ),
    "storage of a huge size": (
        pickled(storage=named_storage(elements=b"\x8a\x08" + b"\x7f" * 8)),
        "not name a storage",
    ),
    "storage that is not there": (pickled(storage=named_storage(key=b"../x")), "'w': the archive lacks"),
    "storage that is no storage": (pickled(storage=named_storage(kind=b"Size")), "does not name a storage"),
    "persistent id of a number": (pickled(storage=b"K\x01Q"), "does not name a storage"),
    "element type that is none": (
        pickled("ctorch._utils\n_rebuild_tensor_v3\n", args=b"K\x00K\x04\x85K\x01\x85\x89Nctorch\nSize\n"),
        "'Size' is not an element type",
    ),
    "two sizes of one storage": (
        pickled(args=b"K\x00K\x04\x85K\x01\x85\x89" + named_storage(elements=b"K\x03")),
        "has both",
    ),
    "name too long": (
        pickled().replace(b"X\x01\x00\x00\x00w", b"X\x00\x20\x00\x00" + b"w" * 8192),
        "name has more than",
    ),
    "not a pickle": (b"hello", "pickle"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_pickle_is_refused_by_name(content, message):
    with pytest.raises(FormatError, match=message):
        FORMAT.parse(memoryview(with_pickle(content)))


def test_calls_nested_beyond_recursion_are_refused():
    # Each level is the arguments (_rebuild_from_type_v2, Tensor, <next level>, None) of the one outside it.
    names = b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\nq\x00ctorch\nTensor\nq\x010"
    content = names + b"(h\x00h\x01" * 20_000 + b")" + b"Nt" * 20_000 + b"R."
    with pytest.raises(FormatError, match="nested too deeply"):
        FORMAT.parse(memoryview(with_pickle(content)))


def test_containers_nested_beyond_recursion_are_followed():
    content = b"\x80\x02" + b"]" * 20_000 + pickled()[2:-1] + b"a" * 20_000 + b"."
    with pytest.raises(FormatError, match="containers are nested more than"):
        FORMAT.parse(memoryview(with_pickle(content)))
    content = b"\x80\x02" + b"]" * 3_000 + pickled()[2:-1] + b"a" * 3_000 + b"."
    with pytest.raises(FormatError, match="name has more than"):
        FORMAT.parse(memoryview(with_pickle(content)))
    doubled = b"\x80\x02" + pickled()[2:-1] + b"2\x86" * 60 + b"."
    assert list(specs(with_pickle(doubled)).values()) == ["F32 [4]"]


def test_a_pickle_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(_pickle_stream, "MAX_BYTES", 10)
    with pytest.raises(FormatError, match=r"data\.pkl' has \d+ bytes, which exceeds the limit of 10"):
        FORMAT.parse(memoryview(save({"w": W})))


def test_an_archive_without_its_record_is_refused():
    with pytest.raises(FormatError, match="'w': the archive lacks"):
        FORMAT.parse(memoryview(repack(save({"w": W}), {"data/0": None})))


def test_a_file_that_is_cut_short_is_still_detected_and_refused():
    data = save({"w": W})
    for end in range(120, len(data), 11):
        assert FORMAT.detect(memoryview(data[:end]))
        with pytest.raises(FormatError, match="truncated"):
            FORMAT.parse(memoryview(data[:end]))
