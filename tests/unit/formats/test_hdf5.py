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
OLD, LATEST = ((GOLDEN / name).read_bytes() for name in ("model.h5", "model-latest.h5"))


class TestHdf5(FormatTests):
    format = FORMAT
    examples = {"old": OLD, "latest": LATEST}  # noqa: RUF012 - as the suite asks

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


def test_what_is_listed_in_ways_that_are_not_read_is_not_split():
    import h5py

    def heap(file):
        for number in range(20):
            file.create_group(f"{number}", track_order=True)["a"] = np.zeros(3)

    def growing(file):
        file.create_dataset("a", data=np.zeros(9), chunks=(2,), maxshape=(None,))

    def references(file):
        file.create_dataset("a", data=[b"text"] * 9000, dtype=h5py.string_dtype())

    for fill, options in ((heap, {"track_order": True}), (growing, {"libver": "latest"}), (references, {})):
        with pytest.raises(NotSplittable):
            FORMAT.parse(memoryview(written(fill, **options)))


def test_texts_of_varying_length_and_compounds_stay_literal():
    def fill(file):
        file["text"], file["complex"], file["w"] = "hello", np.ones(3, "c8"), np.zeros(2)

    assert lay_out(FORMAT, written(fill))[0].parameters == {"w": TensorSpec.of("F64", (2,))}
