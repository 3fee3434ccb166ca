"""Directories of zarr and Orbax: read as their libraries write them, written so that they come back, never trusted."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorstore
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tensors_in_memory import InMemory, tensors_of

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.conversion import arrays as reading
from git_theta_ext.operations.conversion import orbax_directory
from git_theta_ext.operations.conversion.array_blocks import block_shape, blocks
from git_theta_ext.operations.conversion.array_directory import find_arrays
from git_theta_ext.operations.conversion.arrays import ELEMENT_TYPES, open_arrays
from git_theta_ext.operations.conversion.targets import TARGETS
from git_theta_ext.operations.conversion.tensors import each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensors_in_memory import Values

GOLDEN = Path(__file__).parents[3] / "golden/arrays"
DIRECTORIES = ["zarr", "zarr3", "orbax"]


def read(path: Path, *patterns: str) -> Values:
    """Return the arrays in a directory."""
    found = open_arrays(find_arrays(path), path.parent, patterns, hint="")
    return {name: (spec, b"".join(chunks)) for name, spec, chunks in each(found, list(found.specs))}


def write(name: str, values: Values, path: Path) -> Path:
    """Write arrays to a new directory."""
    path.mkdir()
    TARGETS[name].check(InMemory(values).specs)
    TARGETS[name].write(path, InMemory(values), {})
    return path


def made(path: Path, driver: str = "zarr", dtype: str = "float32", shape: Sequence[int] = (4,), **options: Any) -> Any:
    """Make an array with tensorstore."""
    specification = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}}
    opened = tensorstore.open(
        specification, create=True, dtype=dtype, shape=shape, context=tensorstore.Context(), **options
    )
    return opened.result()


@pytest.mark.parametrize("name", ["orbax-ocdbt", "orbax-files"])
def test_checkpoints_of_orbax_are_read_as_it_wrote_them(name: str) -> None:
    bfloat16 = (np.arange(24, dtype="f4").view("u4") >> 16).astype("u2").tobytes()
    assert read(GOLDEN / name) == {
        "params.dense.kernel": (TensorSpec.of("BF16", (4, 6)), bfloat16),
        "params.dense.bias": (TensorSpec.of("F32", (6,)), bytes(24)),
        "layers.0": (TensorSpec.of("F16", (3,)), np.arange(3, dtype="f2").tobytes()),
        "layers.1": (TensorSpec.of("F8_E4M3", (4,)), bytes([0, 0x38, 0x40, 0x44])),
        "mask": (TensorSpec.of("BOOL", (2,)), b"\1\0"),
        "step": (TensorSpec.of("I64", ()), (7).to_bytes(8, "little")),
    }
    assert find_arrays(GOLDEN / name).left_out() == {"note": "string"}


@pytest.mark.parametrize("name", ["zarr-2", "zarr-3"])
def test_groups_of_zarr_are_read_as_it_wrote_them(name: str) -> None:
    kernel = np.full((5, 7), -1.5)
    kernel[:4] = np.arange(28).reshape(4, 7)
    assert read(GOLDEN / name) == {
        "bias": (TensorSpec.of("F32", (5,)), np.arange(5, dtype="f4").tobytes()),
        "block.0.kernel": (TensorSpec.of("F64", (5, 7)), kernel.tobytes()),
    }


@pytest.mark.parametrize("name", DIRECTORIES)
@settings(max_examples=15)
@given(values=tensors_of(sorted(ELEMENT_TYPES), st.text("abcé0-_", min_size=1, max_size=4).map("x.{}".format)))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, name: str, values: Values) -> None:
    folder = tmp_path_factory.getbasetemp() / f"arrays-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    if values:
        assert read(write(name, values, folder)) == values


@pytest.mark.parametrize("name", ["zarr", "zarr3"])
def test_an_array_is_written_in_chunks_and_keeps_negative_zeros(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("git_theta_ext.operations.conversion.array_files.BLOCK_BYTES", 64)
    data = np.array([-0.0, 1.5, np.nan] * 35, "<f4").tobytes()
    values = {"w": (TensorSpec.of("F32", (3, 5, 7)), data)}
    folder = write(name, values, tmp_path / "group")
    store = {"driver": "file", "path": f"{folder}/w/"}
    opened = tensorstore.open({"driver": name, "kvstore": store}, context=tensorstore.Context()).result()
    assert opened.chunk_layout.write_chunk.shape == (1, 2, 7)
    assert opened.read().result().tobytes() == data
    assert read(folder) == values


def test_a_large_array_is_written_to_a_database_by_itself(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(orbax_directory, "_MOST_PENDING", 100)
    values = {
        name: (TensorSpec.of("U8", (size,)), bytes(range(size))) for name, size in [("a", 80), ("b", 120), ("c", 90)]
    }
    assert read(write("orbax", values, tmp_path / "saved")) == values
    metadata = json.loads((tmp_path / "saved/_METADATA").read_text())
    assert set(metadata["tree_metadata"]) == {"('a',)", "('b',)", "('c',)"}


def test_chunks_that_cross_many_rows_are_read_through_a_file(tmp_path: Path, monkeypatch) -> None:
    array = made(tmp_path / "g/w", shape=(9, 8), chunk_layout=tensorstore.ChunkLayout(chunk_shape=(4, 3)))
    array[...] = values = np.arange(72, dtype="f4").reshape(9, 8)
    (tmp_path / "g/.zgroup").write_text('{"zarr_format": 2}')
    monkeypatch.setattr(reading, "BLOCK_BYTES", 40)
    assert read(tmp_path / "g")["w"][1] == values.tobytes()
    monkeypatch.setattr(reading, "_MOST_CACHED", 100)
    assert read(tmp_path / "g")["w"][1] == values.tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g"]


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(1, 60), st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_blocks_cover_an_array_in_the_order_of_its_elements(shape: list[int], most: int, multiple: list[int]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    sizes = block_shape(shape, 2, most, multiple[: len(shape)])
    pieces = [array[block].reshape(-1) for block in blocks(shape, sizes)]
    assert [int(value) for piece in pieces for value in piece] == list(range(array.size))
    assert all(2 * piece.size <= max(2, most) for piece in pieces)


def test_a_step_or_its_item_is_found(tmp_path: Path) -> None:
    for step, item in [("9", "default"), ("10", "state"), ("11", "one"), ("11", "other")]:
        shutil.copytree(GOLDEN / "orbax-ocdbt", tmp_path / step / item)
    assert find_arrays(tmp_path / "9").path.name == "default"
    with pytest.raises(UsageError, match="has the steps 11, 10, 9") as caught:
        find_arrays(tmp_path)
    assert caught.value.hint == f"git theta import {tmp_path / '11'} FILE"
    with pytest.raises(UsageError, match="has several checkpoints: one, other"):
        find_arrays(tmp_path / "11")
    with pytest.raises(UsageError, match="not a directory of zarr or Orbax"):
        find_arrays(tmp_path / "9/default/d")
    with pytest.raises(UsageError, match="is not a directory"):
        find_arrays(tmp_path / "nothing")


def test_an_unfinished_checkpoint_is_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "orbax-ocdbt", tmp_path / "0")
    (tmp_path / "0/manifest.ocdbt").unlink()
    with pytest.raises(FormatError, match="did not finish"):
        find_arrays(tmp_path / "0")
    shutil.copytree(GOLDEN / "orbax-ocdbt", tmp_path / "1.orbax-checkpoint-tmp-5")
    with pytest.raises(FormatError, match="did not finish"):
        find_arrays(tmp_path / "1.orbax-checkpoint-tmp-5")


def test_an_array_that_orbax_lists_must_be_there(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "orbax-files", tmp_path / "0")
    shutil.rmtree(tmp_path / "0/params.dense.bias")
    with pytest.raises(FormatError, match=r"array 'params\.dense\.bias' is in Orbax's metadata"):
        read(tmp_path / "0")
    assert set(read(tmp_path / "0", "layers.*")) == {"layers.0", "layers.1"}


@pytest.mark.parametrize("kind", ["int4", "float8_e3m4"])
def test_an_element_type_that_checkpoints_do_not_have_is_refused(tmp_path: Path, kind: str) -> None:
    made(tmp_path / "g/odd", dtype=kind)
    made(tmp_path / "g/fine")
    with pytest.raises(FormatError, match=f"array 'odd' has elements of the type {kind}"):
        read(tmp_path / "g")
    assert set(read(tmp_path / "g", "fine")) == {"fine"}


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "g/a/b")
    made(tmp_path / "g/a.b")
    with pytest.raises(FormatError, match=r"'a\.b' and 'a/b' would both be"):
        read(tmp_path / "g")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunks": [1 << 40], "shape": [4]}, "'w' has chunks of 4398046511104 bytes"),
        ({"chunks": [1 << 38], "shape": [1 << 38]}, "the arrays have 1099511627776 bytes"),
        ({"chunks": [1 << 60], "shape": [1 << 60]}, "'w'.*impossible size"),
        ({"chunks": [-1]}, "'w' cannot be read"),
        ({"compressor": {"id": "pickle"}}, "'w' cannot be read"),
        ({"dtype": "|O"}, "'w' cannot be read"),
    ],
)
def test_metadata_that_claim_too_much_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    made(tmp_path / "g/w")[...] = 1
    path = tmp_path / "g/w/.zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FormatError, match=message):
        read(tmp_path / "g")


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    made(tmp_path / "g/w")[...] = 1
    (tmp_path / "g/w/0").write_bytes(b"damaged")
    with pytest.raises(FormatError, match="array 'w' cannot be read"):
        read(tmp_path / "g")


@pytest.mark.parametrize("data", [b"[]", b"{", b"\xff", b'{"tree_metadata": {"a": {}}}', b'{"tree_metadata": [1]}'])
def test_damaged_metadata_of_orbax_is_refused(tmp_path: Path, data: bytes) -> None:
    shutil.copytree(GOLDEN / "orbax-files", tmp_path / "0")
    (tmp_path / "0/_METADATA").write_bytes(data)
    with pytest.raises(FormatError, match="_METADATA"):
        find_arrays(tmp_path / "0").left_out()


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "g/w")[...] = 1
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "g/w/1").symlink_to(tmp_path / "secret")
    with pytest.raises(FormatError, match="w/1 is a symbolic link"):
        find_arrays(tmp_path / "g/w")
    (tmp_path / "g/w/1").unlink()
    os.mkfifo(tmp_path / "g/w/1")
    with pytest.raises(FormatError, match="w/1 is not a regular file"):
        find_arrays(tmp_path / "g/w")


def _crc32c(data: bytes) -> bytes:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return (value ^ 0xFFFFFFFF).to_bytes(4, "little")


def _unpacked(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data[14:-4])


def _packed(data: bytes, content: bytes) -> bytes:
    packed = zstandard.ZstdCompressor().compress(content)
    made = data[:4] + (len(packed) + 18).to_bytes(8, "little") + data[12:14] + packed
    return made + _crc32c(made)


def test_a_database_does_not_lead_out_of_its_directory(tmp_path: Path) -> None:
    database = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{tmp_path}/0/"}}
    options = {**database, "config": {"max_inline_value_bytes": 0}}
    store = tensorstore.KvStore.open(options, context=tensorstore.Context()).result()
    store.write("w/.zarray", b"{}").result()
    manifest = tmp_path / "0/manifest.ocdbt"
    (file,) = (tmp_path / "0/d").iterdir()
    head = file.read_bytes().index(b"\x0c\xdb \xde")
    node = file.read_bytes()[head:]
    name = f"d/{file.name}".encode()
    outside = b"d/../../" + b"s" * (len(name) - 8)
    (tmp_path / ("s" * (len(name) - 8))).write_bytes(file.read_bytes())
    forged = _packed(node, _unpacked(node).replace(name, outside))
    file.write_bytes(file.read_bytes()[:head] + forged)
    content = _unpacked(manifest.read_bytes())
    size = bytes([len(node)])
    assert content.count(size) >= 1
    manifest.write_bytes(_packed(manifest.read_bytes(), content.replace(size, bytes([len(forged)]))))
    with pytest.raises(FormatError, match="Invalid key"):
        read(tmp_path / "0")


@pytest.mark.parametrize(
    ("target", "names", "message"),
    [
        ("orbax", ["a", "a.b"], r"'a\.b' would be in the parameter 'a'"),
        ("orbax", ["a/../b"], "cannot be the path"),
        ("zarr", ["a/b"], "divides into groups"),
        ("zarr3", ["zarr.json"], "reserves"),
        ("zarr", [".zgroup"], "reserves"),
        ("zarr", [".."], "cannot be the path"),
        ("zarr", ["x" * 300], "cannot be the path"),
        ("zarr3", ["\udc80"], "not Unicode"),
        ("zarr", [""], "cannot be the path"),
    ],
)
def test_a_name_that_a_directory_cannot_hold_is_refused(target: str, names: list[str], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        TARGETS[target].check({name: TensorSpec.of("F32", (1,)) for name in names})
