"""Compressed checkpoints are stored by the tensors in them, and come back to the byte."""

import gzip
import io
import json
import tarfile
import tempfile
import tracemalloc
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from git_theta_ext.checkpoint.clean import clean, describe
from git_theta_ext.checkpoint.file import open_checkpoint_file
from git_theta_ext.checkpoint.packing import Packer
from git_theta_ext.checkpoint.populate import populate, read_layout
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.errors import CorruptError
from git_theta_ext.model.layout import Packing
from git_theta_ext.model.manifest import Parameter, Skeleton
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.registry import find_container
from git_theta_ext.store.store import Store
from git_theta_ext.util.file_bytes import open_bytes

FORMATS = Path(__file__).parents[2] / "golden" / "formats"
GOLDEN = FORMATS.parent / "containers"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
SAFETENSORS, NPZ, NEMO = ((FORMATS / name).read_bytes() for name in ("model.safetensors", "model.npz", "model.nemo"))


def deflated(data):
    """Return an archive with its members compressed."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as after:
        for info in before.infolist():
            after.writestr(info.filename, before.read(info))
    return target.getvalue()


def tar(name, data, mode):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def archive(name, data, method):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as made:
        made.writestr(name, data)
    return target.getvalue()


FILES = {
    "safetensors.gz": (gzip.compress(SAFETENSORS), "safetensors", ["gzip"]),
    "safetensors.z": (zlib.compress(SAFETENSORS, 3), "safetensors", ["zlib"]),
    "nemo": (gzip.compress(NEMO, 6), "tar", ["gzip"]),
    "tgz": (tar("model.safetensors", SAFETENSORS, "w:gz"), "tar", ["gzip"]),
    "npz": (deflated(NPZ), "npz", ["zip"]),
    "npz.gz": (gzip.compress(deflated(NPZ)), "npz", ["gzip", "zip"]),
    "pt": (deflated((FORMATS / "model.pt").read_bytes()), "torch_zip", ["zip"]),
    "keras": (deflated((FORMATS / "model.keras").read_bytes()), "keras", ["zip"]),
    "gz in tar": (tar("model.safetensors.gz", gzip.compress(SAFETENSORS), "w"), "tar", ["tar"]),
    "npz in tar.gz": (tar("model.npz", deflated(NPZ), "w:gz"), "tar", ["gzip", "tar"]),
    "gz in zip": (archive("model.gz", gzip.compress(SAFETENSORS), zipfile.ZIP_STORED), "zip", ["zip"]),
    "npz in zip": (archive("model.npz", deflated(NPZ), zipfile.ZIP_DEFLATED), "zip", ["zip"]),
    "txt.gz": (gzip.compress(b"text " * 99), "opaque", ["gzip"]),
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "theta")


def written(manifest, store, path):
    populate(manifest, store, path, Expected.at(path))
    return path.read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_compressed_file_comes_back_through_the_store(name, store, tmp_path):
    data, kind, containers = FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    described = clean(open_bytes(path), name, store)
    assert described.manifest.format == kind
    assert [packing.container for packing in described.layout.packings] == containers
    assert described.manifest == describe(memoryview(data), name).manifest
    path.unlink()
    assert written(described.manifest, store, path) == data


@pytest.mark.parametrize("name", ["m.npz", "m.npy.gz", "m.npz.gz"])
def test_progress_counts_the_bytes_of_the_file_while_they_are_compressed(name, store, tmp_path, monkeypatch):
    array, target = np.random.default_rng(0).standard_normal((4, 8192)), io.BytesIO()
    np.savez_compressed(target, *array) if "npz" in name else np.save(target, array)
    data = gzip.compress(target.getvalue()) if name.endswith("gz") else target.getvalue()
    steps, packing = [], []
    kind = type(find_container("zip" if "npz" in name else "gzip"))

    def counted(method):
        def count(self, content, *args):
            result = method(self, content, *args)
            packing.append(sum(steps))
            return result

        return count

    monkeypatch.setattr(kind, "unpack", counted(kind.unpack))
    monkeypatch.setattr(kind, "pack", counted(kind.pack))
    manifest = clean(memoryview(data), name, store, advance=steps.append).manifest
    assert min(steps) > 0
    assert 0.8 * len(data) < packing[0] < sum(steps) <= len(data)
    assert len(data) - sum(steps) < 0.1 * len(data)
    steps.clear()
    layout = read_layout(manifest, store, name)
    populate(manifest, store, tmp_path / name, Expected.at(tmp_path / name), steps.append)
    assert 0.5 * layout.nbytes < packing[1] <= sum(steps) <= layout.nbytes


@pytest.mark.parametrize("name", ["gzip", "zip", "gzip in tar", "zip in zip"])
def test_a_large_member_is_not_held_in_memory(name, tmp_path):
    content = bytes(24 << 20)
    inner = gzip.compress(content, 1) if "gzip" in name else archive("a", content, zipfile.ZIP_DEFLATED)
    outer = {
        "gzip in tar": lambda: tar("a.gz", inner, "w"),
        "zip in zip": lambda: archive("b", inner, zipfile.ZIP_STORED),
    }
    path = tmp_path / "m"
    path.write_bytes(outer[name]() if name in outer else inner)
    packer, again = Packer("m", tmp_path, threads=2), tmp_path / "again"
    tracemalloc.start()
    try:
        found, packing = packer.unpack(open_bytes(path))
        with again.open("w+b") as file:
            packer.pack(found, [packing], file.fileno())
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()
    assert found.nbytes >= len(content)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["safetensors.gz", "gz in tar", "gz in zip"])
def test_tensors_are_those_of_the_file_without_compression(name, store):
    plain = clean(memoryview(SAFETENSORS), "m", store).manifest
    packed = clean(memoryview(FILES[name][0]), "m.gz", store).manifest
    assert packed.parameters == plain.parameters


@pytest.mark.parametrize("name", ["npz", "npz.gz"])
def test_another_tensor_gives_a_file_that_numpy_reads(name, store, tmp_path):
    manifest = clean(memoryview(FILES[name][0]), name, store).manifest
    spec = manifest.parameters["w"].spec
    value = np.arange(12, dtype="f4").reshape(spec.shape)
    digest = tensor_digest(spec, value.tobytes())
    store.put([(spec, digest, value.tobytes())])
    merged = replace(manifest, parameters={**manifest.parameters, "w": Parameter(spec, digest)})
    data = written(merged, store, tmp_path / "m")
    data = gzip.decompress(data) if name == "npz.gz" else data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}
    with np.load(io.BytesIO(data)) as found:
        assert (found["w"] == value).all()
    assert clean(memoryview(written(merged, store, tmp_path / "m")), name, store).manifest == merged


def test_the_attribute_says_that_a_file_is_not_unpacked(store):
    described = clean(memoryview(FILES["safetensors.gz"][0]), "m", store, "opaque")
    assert not described.layout.packings


def test_a_file_of_another_compressor_is_opaque_and_the_note_says_why(store, tmp_path):
    compressor = zlib.compressobj(0, zlib.DEFLATED, 31)
    data = compressor.compress(SAFETENSORS) + compressor.flush()
    described = clean(memoryview(data), "m.gz", store)
    assert described.manifest.format == "opaque"
    note = "m.gz: compressing its content again does not give the same gzip file; stored as an opaque file"
    assert described.scan.note == note
    assert written(described.manifest, store, tmp_path / "m") == data


def test_tensors_of_a_compressed_file_can_be_read(tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(FILES["npz"][0])
    file = open_checkpoint_file(path)
    with np.load(path) as expected:
        assert bytes(file.value("w")) == expected["w"].tobytes()


def test_a_compressed_file_is_unpacked_in_its_own_directory(tmp_path, monkeypatch):
    def refuse():
        raise FileNotFoundError("no temporary directory of the system")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    path = tmp_path / "m.npz"
    path.write_bytes(FILES["npz"][0])
    assert open_checkpoint_file(path).specs
    assert [file.name for file in tmp_path.iterdir()] == ["m.npz"]


def test_a_layout_that_cannot_be_packed_is_an_error_and_no_file(store, tmp_path):
    described = clean(memoryview(FILES["safetensors.gz"][0]), "m", store)
    skeleton = replace(described.layout, packings=(Packing("gzip", b"\0"),)).to_skeleton()
    made = Skeleton.of(skeleton)
    store.put([(made.spec, made.digest, memoryview(skeleton))])
    with pytest.raises(CorruptError, match="unknown parameters of a compressor"):
        written(replace(described.manifest, skeleton=made), store, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_described_as_it_always_was(name):
    described = describe(memoryview((GOLDEN / name).read_bytes()), name)
    assert described.manifest.to_bytes().decode() == EXPECTED[name]


def test_no_golden_file_is_left_out():
    assert {path.name for path in GOLDEN.iterdir()} == {*EXPECTED, "expected.json"}
