"""HDF5 files that h5py wrote once, damaged files, and whatever h5py writes today if it is installed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import lay_out
from git_theta_plugins.formats.hdf5 import FORMAT

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
OLD, LATEST, INDEXES = ((GOLDEN / name).read_bytes() for name in ("model.h5", "model-latest.h5", "model-indexes.h5"))


class TestHdf5(FormatTests):
    format = FORMAT
    examples = {"old": OLD, "latest": LATEST, "indexes": INDEXES}  # noqa: RUF012 - as the suite asks

    def test_datasets_and_chunks_are_tensors(self):
        layout, tensors = lay_out(FORMAT, OLD)
        assert {name: str(spec) for name, spec in layout.parameters.items()} == {
            "layers/dense/vars/0": "F32 [3,5]",
            "layers/dense/vars/1": "F16 [5]",
            "more/hard": "I64 []",
            "flags": "BOOL [2]",
            "big": "opaque64:>f8 [3]",
            "chunks/plain[0,0]": "F32 [4,3]",
            "chunks/plain[0,1]": "F32 [4,3]",
            "chunks/plain[1,0]": "F32 [4,3]",
            "chunks/plain[1,1]": "F32 [4,3]",
            "chunks/packed[0,0]": "opaque8:filtered [12]",
            "chunks/packed[1,0]": "opaque8:filtered [12]",
            "chunks/single": "I16 [2,3]",
            "more/complex": "C64 [3]",
            "more/fixed": "opaque16:S2 [2]",
            "more/named": "F32 [3]",
        }
        assert tensors["chunks/single"] == np.arange(6, dtype="<i2").tobytes()
        assert np.frombuffer(tensors["chunks/plain[1,1]"], "<f4")[0] == 23

    def test_newer_headers_and_indexes_are_read(self):
        layout, tensors = lay_out(FORMAT, LATEST)
        assert {name: str(spec) for name, spec in layout.parameters.items()} == {
            "layers/dense/kernel": "F32 [3,5]",
            "layers/dense/bias": "F16 [5]",
            "single": "I16 [2,3]",
            "packed": "opaque8:filtered [12]",
            "implicit[0,0]": "F32 [2,4]",
            "implicit[1,0]": "F32 [2,4]",
            "implicit[2,0]": "F32 [2,4]",
        }
        assert np.frombuffer(tensors["implicit[1,0]"], "<f4")[0] == 8

    def test_another_structure_is_another_fact(self):
        layout, other = lay_out(FORMAT, OLD)[0], lay_out(FORMAT, LATEST)[0]
        assert FORMAT.with_facts(layout, FORMAT.facts(layout)) == layout
        assert FORMAT.with_facts(layout, FORMAT.facts(other)) is None

    def test_a_truncated_file_is_named_as_such(self):
        with pytest.raises(FormatError, match="truncated"):
            FORMAT.parse(memoryview(OLD[:3000]))

    @pytest.mark.parametrize("version", [4, 255])
    def test_an_unknown_version_is_not_split(self, version):
        with pytest.raises(NotSplittable, match=str(version)):
            FORMAT.parse(memoryview(OLD[:8] + bytes([version]) + OLD[9:]))

    def test_a_group_that_contains_itself_is_read_once(self):
        entry = OLD.index(b"SNOD") + 16  # the address of the first object in the root group
        header = int.from_bytes(OLD[64:72], "little")
        looped = OLD[:entry] + header.to_bytes(8, "little") + OLD[entry + 8 :]
        assert len(FORMAT.parse(memoryview(looped))) < len(FORMAT.parse(memoryview(OLD)))


def written(fill, **options):
    h5py = pytest.importorskip("h5py", reason="needs h5py, which .[oracles] installs")
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as made:
        fill(made)
    return file.getvalue()


@pytest.mark.parametrize("version", ["earliest", "v108", "v110", "latest"])
def test_values_are_those_that_h5py_reads(version):
    import h5py

    noise = np.random.default_rng(0)
    arrays = {kind: noise.integers(0, 100, (5, 7)).astype(kind) for kind in ("f2", "f4", "f8", "i1", "u2", "i8", "?")}

    def fill(file):
        for number, (kind, array) in enumerate(arrays.items()):
            file[f"model/{number % 2}/{kind}"] = array

    data = written(fill, libver=version)
    _, tensors = lay_out(FORMAT, data)
    assert len(tensors) == len(arrays)
    with h5py.File(io.BytesIO(data)) as file:
        assert all(file[name][()].tobytes() == content for name, content in tensors.items())


def test_many_groups_and_chunks_are_found():
    def fill(file):
        for number in range(300):
            file[f"layer_{number}/kernel"] = np.full(4, number, "f4")
        file.create_dataset("chunked", data=np.zeros((64, 64), "f4"), chunks=(2, 4))

    layout, tensors = lay_out(FORMAT, written(fill))
    assert sum(name.startswith("chunked[") for name in layout.parameters) == 32 * 16
    assert tensors["layer_299/kernel"] == np.full(4, 299, "<f4").tobytes()


def stored(data):
    """Return place and size in bytes of every dataset and chunk, by the names that they get, as h5py finds them."""
    import h5py

    found = {}

    def visit(name, item):
        if not isinstance(item, h5py.Dataset):
            return
        if item.chunks is None:
            found[name] = item.id.get_offset(), item.id.get_storage_size()
            return
        single = all(n <= size for n, size in zip(item.shape, item.chunks, strict=True))
        for number in range(item.id.get_num_chunks()):
            chunk = item.id.get_chunk_info(number)
            at = ",".join(str(n // size) for n, size in zip(chunk.chunk_offset, item.chunks, strict=True))
            found[name if single else f"{name}[{at}]"] = chunk.byte_offset, chunk.size

    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(visit)
    return found


LIMITS = {"fixed": (90, 60), "wider": (300, 61), "rows": (None, 60), "both": (None, None)}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("limits", LIMITS)
def test_chunks_are_where_h5py_finds_them(limits, packed):
    def fill(file):
        made = file.create_dataset(
            "a", (90, 60), "i2", chunks=(2, 1), maxshape=LIMITS[limits], compression="gzip" if packed else None
        )
        made[3:70, ::7] = np.arange(67 * 9).reshape(67, 9)

    data = written(fill, libver="latest")
    extents = FORMAT.parse(memoryview(data))
    assert {extent.name: (extent.offset, extent.spec.nbytes) for extent in extents} == stored(data)
    assert len(extents) > 300


def test_chunks_of_a_dataset_that_grows_along_another_dimension_have_their_values():
    # h5py itself gives these chunks wrong positions.
    values = np.arange(48, dtype="i1").reshape(6, 8)
    data = written(
        lambda file: file.create_dataset("a", data=values, chunks=(2, 2), maxshape=(8, None)), libver="latest"
    )
    _, tensors = lay_out(FORMAT, data)
    assert len(tensors) == 12
    for row in range(3):
        for column in range(4):
            part = values[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert tensors[f"a[{row},{column}]"] == part.tobytes()


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"track_order": True}, {"userblock_size": 2048}])
def test_large_groups_are_read(options):
    def fill(file):
        for number in range(700):
            file[f"{'layer' * (number % 9)}{number}/kernel"] = np.full(1, number, "f4")

    data = written(fill, **options)
    extents = FORMAT.parse(memoryview(data))
    assert {extent.name: (extent.offset, extent.spec.nbytes) for extent in extents} == stored(data)
    assert len(extents) == 700


def test_a_file_in_an_archive_is_not_taken_for_one_behind_a_block():
    assert not FORMAT.detect(memoryview(bytes(512) + OLD))
    assert FORMAT.detect(memoryview(INDEXES))


def test_elements_of_several_numbers_are_tensors():
    def fill(file):
        file["c8"], file["c16"] = np.ones(3, "c8"), np.ones(3, "c16")
        file["records"] = np.zeros(4, [("x", "<f4"), ("y", "i8", (3,)), ("z", [("s", "S5")])])
        file["array"] = np.zeros(2, [("m", "<f4", (2, 2))])

    for version in ("earliest", "latest"):
        assert {
            name: str(spec) for name, spec in lay_out(FORMAT, written(fill, libver=version))[0].parameters.items()
        } == {
            "array": "opaque128:h5t6 [2]",
            "c16": "C128 [3]",
            "c8": "C64 [3]",
            "records": "opaque264:h5t6 [4]",
        }


def test_what_refers_to_elsewhere_in_the_file_stays_literal():
    import h5py

    def fill(file):
        file["text"], file["w"] = "hello", np.zeros(2)
        file["references"] = np.array([file["w"].ref] * 9000, dtype=h5py.ref_dtype)
        file.create_dataset("texts", data=[b"text"] * 9000, dtype=h5py.string_dtype())
        file.create_dataset("lists", (3,), dtype=h5py.vlen_dtype("f4"), chunks=(1,))[0] = np.ones(4)
        file.create_dataset("mixed", (2,), [("a", "f4"), ("b", h5py.string_dtype())])[0] = (1, "text")
        file["none"] = h5py.Empty("f4")

    for version in ("earliest", "latest"):
        found = lay_out(FORMAT, written(fill, libver=version))[0].parameters
        assert found == {"w": TensorSpec.of("F64", (2,))}


def test_much_outside_of_datasets_is_not_split(monkeypatch):
    monkeypatch.setattr("git_theta_plugins.formats.hdf5._MOST_LITERAL", 100)
    with pytest.raises(NotSplittable, match="outside of datasets"):
        FORMAT.parse(memoryview(OLD))
