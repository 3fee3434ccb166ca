"""Files and objects of git-theta 0.2.0 are read within bounds, and hostile ones are refused."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.operations.migrate.original_arrays import apply_update, read_arrays
from git_theta_ext.operations.migrate.original_metadata import parse_original


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
