"""Files and objects of git-theta 0.2.0 are read within bounds, and hostile ones are refused."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.operations.migrate.original_arrays import apply_update, read_arrays
from git_theta_ext.operations.migrate.original_files import flax_bytes, kind_of
from git_theta_ext.operations.migrate.original_metadata import parse_original

FLAX = bytes.fromhex(
    "81a6706172616d7382a161c712019390a5696e743634c4080200000000000000a564656e736582a462696173c71301939103a7666c6f61743136c4"
    "06000000000000a66b65726e656cc7260193920203a7666c6f61743332c418000000000000803f0000004000004040000080400000a040"
)
"""What msgpack_serialize of flax 0.12.8 returns."""
FLAX_PARTS = bytes.fromhex(
    "81a16183b95f5f6d73677061636b5f6368756e6b65645f61727261795f5fc3a5736861706582a13002a13103a66368756e6b7383a130c715019391"
    "02a7666c6f61743332c408000000000000803fa131c71501939102a7666c6f61743332c4080000004000004040a132c71501939102a7666c6f6174"
    "3332c408000080400000a040"
)
"""The same, of an array that is larger than its limit."""


def leaf(**changes: Any) -> dict[str, Any]:
    made = {
        "tensor_metadata": {"shape": "(2, 3)", "dtype": "float32", "hash": [1, 2]},
        "lfs_metadata": {"version": "https://git-lfs.github.com/spec/v1", "oid": "a" * 64, "size": "12"},
        "theta_metadata": {"update_type": "dense", "last_commit": None},
    }
    for name, value in changes.items():
        part = next(part for part in made.values() if name in part)
        part[name] = value
    return made


def parse(value: object) -> Any:
    return parse_original(memoryview(json.dumps(value).encode()))


def test_parameters_are_found_in_nested_objects() -> None:
    found = parse({"a": leaf(), "b": {"c": leaf(shape="()", update_type="ia3", last_commit="b" * 40)}})
    assert found.keys() == {("a",), ("b", "c")}
    assert (found["a",].shape, found["a",].pointer.size, found["a",].last_commit) == ((2, 3), 12, "")
    assert (found["b", "c"].shape, found["b", "c"].update, found["b", "c"].last_commit) == ((), "ia3", "b" * 40)
    assert parse({"shape": "(7,)", "x": 1}) is None
    assert parse_original(memoryview(b"")) is None
    assert parse_original(memoryview(b'x"lfs_metadata"')) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"oid": "../" + "a" * 61},
        {"size": "-1"},
        {"size": "9" * 19},
        {"shape": "(2, -3)"},
        {"shape": "__import__('os')"},
        {"shape": [2, 3]},
        {"update_type": "other"},
        {"last_commit": "HEAD"},
    ],
)
def test_a_field_that_is_not_what_0_2_0_wrote_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="damaged"):
        parse({"a": leaf(**changes)})


def test_a_file_that_is_cut_off_or_nested_too_deeply_is_refused() -> None:
    for data in (b'{"lfs_metadata": ', b'{"a":' * 100_000 + b'"lfs_metadata"'):
        with pytest.raises(FormatError):
            parse_original(memoryview(data))


def zarr(array: Any, **changes: Any) -> dict[str, bytes]:
    described = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(array.shape),
        "dtype": array.dtype.str,
        "compressor": None,
        "fill_value": None,
        "filters": None,
        "order": "C",
    }
    key = ".".join("0" for _ in array.shape) or "0"
    return {".zarray": json.dumps({**described, **changes}).encode(), key: array.tobytes()}


def test_arrays_are_read_and_larger_ones_refused() -> None:
    pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    assert (read_arrays(msgpack.packb({"parameter": zarr(values)}), 6)["parameter"] == values).all()
    hostile = [
        b"",
        b"\xc1",
        msgpack.packb([1]),
        msgpack.packb({"parameter": {}}),
        msgpack.packb({"parameter": zarr(values, shape=[1 << 40, 3])}),
        msgpack.packb({"parameter": zarr(values, chunks=[1 << 40, 3])}),
        msgpack.packb({"parameter": zarr(values, chunks=[0, 3])}),
        msgpack.packb({"parameter": zarr(values, dtype="|O")}),
        msgpack.packb({"parameter": zarr(values) | {"0.0": b"x"}}),
    ]
    for data in hostile:
        with pytest.raises(FormatError):
            read_arrays(data, 6)


def test_updates_that_do_not_fit_are_refused() -> None:
    before = np.ones((2, 3), "f4")
    sparse = {
        "data": np.ones(2, "f4"),
        "indices": np.array([0, 5]),
        "indptr": np.array([0, 2]),
        "shape": np.array([2, 3]),
    }
    assert apply_update("sparse", sparse, before).ravel().tolist() == [2, 1, 1, 1, 1, 2]
    for kind, arrays in (
        ("sparse", sparse | {"indices": np.array([0, 6])}),
        ("sparse", sparse | {"indices": np.array([-1, 0])}),
        ("sparse", sparse | {"shape": np.array([1 << 40])}),
        ("sparse", {}),
        ("ia3", {"ia3": np.ones((5, 2, 3))}),
        ("low-rank", {"R": np.ones((2, 1)), "C": np.ones((2, 3))}),
        ("low-rank", {"parameter": np.ones((7, 2, 3))}),
    ):
        with pytest.raises(FormatError, match="does not fit"):
            apply_update(kind, arrays, before)


def test_nested_arrays_become_the_file_that_flax_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(6, dtype="f4").reshape(2, 3)
    nested = {
        ("params", "dense", "kernel"): values,
        ("params", "dense", "bias"): np.zeros(3, "f2"),
        ("params", "a"): np.array(2, "i8"),
    }
    assert flax_bytes(nested) == FLAX
    monkeypatch.setattr("git_theta_ext.operations.migrate.original_files._LARGEST", 10)
    assert flax_bytes({("a",): values}) == FLAX_PARTS


def test_the_format_follows_from_the_nesting_and_the_ending_unless_it_is_chosen() -> None:
    for library in ("tensorstore", "safetensors", "torch"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    flat, nested = [("a",)], [("a", "b"), ("a", "c")]
    assert [kind_of(f"m{ending}", flat, None) for ending in (".safetensors", ".pt", "", ".msgpack")] == [
        "safetensors",
        "torch",
        "torch",
        "flax",
    ]
    assert kind_of("m.pt", nested, None) == "flax"
    assert kind_of("m.pt", nested, "safetensors") == "safetensors"
    with pytest.raises(FormatError, match="the same when they are joined"):
        kind_of("m.pt", [("a", "b"), ("a.b",)], "torch")
