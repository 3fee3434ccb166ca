"""Zip archives with checkpoints in them, as TorchServe's, with stored and with compressed members."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.registry import detect_format
from git_theta_ext.store.store import Store
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import assemble, lay_out
from git_theta_plugins.formats.zip import FORMAT

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
SAFETENSORS, TORCH = ((GOLDEN / name).read_bytes() for name in ("model.safetensors", "model.pt"))


def archive(members, method=zipfile.ZIP_STORED):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as made:
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(name), data, method)
    return target.getvalue()


MAR = {
    "model.safetensors": SAFETENSORS,
    "handler.py": b"import this\n",
    "vocab.bin": bytes(range(256)) * 20,
    "MAR-INF/MANIFEST.json": json.dumps({"model": {"modelName": "m"}}).encode(),
}


class TestZip(FormatTests):
    format = FORMAT
    examples = {  # noqa: RUF012 - as the suite asks
        "one": archive(MAR),
        "two": archive({"a/m.safetensors": SAFETENSORS, "b/m.safetensors": SAFETENSORS}),
        "golden": (GOLDEN / "model.mar").read_bytes(),
    }


def stored(data, path):
    store = Store(path / "theta")
    described = clean(memoryview(data), "m.mar", store)
    return store, described


def test_another_tensor_gives_a_checksum_that_fits():
    layout, tensors = lay_out(FORMAT, archive(MAR))
    name = next(iter(tensors))
    assert tensors.keys() == {*lay_out(detect_format(memoryview(SAFETENSORS)), SAFETENSORS)[1], "vocab.bin"}
    changed = assemble(layout, {**tensors, name: bytes(len(tensors[name])), "vocab.bin": bytes(5120)})
    with zipfile.ZipFile(io.BytesIO(changed)) as made:
        assert made.testzip() is None


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_torch_file_with_checksums_of_its_own_is_in_an_archive(method, tmp_path):
    data = archive({**MAR, "model.safetensors": TORCH}, method)
    store, described = stored(data, tmp_path)
    assert described.manifest.format == "zip"
    assert [packing.container for packing in described.layout.packings] == ["zip"]
    assert {"model.w", "vocab.bin"} <= set(described.manifest.parameters)
    populate(described.manifest, store, tmp_path / "m.mar", Expected.at(tmp_path / "m.mar"))
    assert (tmp_path / "m.mar").read_bytes() == data


def test_facts_are_those_of_the_checkpoint_and_the_small_files():
    facts = FORMAT.facts(lay_out(FORMAT, archive(MAR))[0])
    assert facts["handler.py"] == b"import this\n"
    assert "MAR-INF/MANIFEST.json" in facts
    assert "vocab.bin" not in facts


def test_an_archive_without_a_checkpoint_is_not_split():
    data = archive({"a.txt": b"text" * 2000})
    assert FORMAT.detect(memoryview(data))
    with pytest.raises(NotSplittable, match="no file in the zip archive is a checkpoint"):
        FORMAT.parse(memoryview(data))


def test_a_damaged_checkpoint_is_stored_as_bytes_with_a_note(tmp_path):
    damaged = SAFETENSORS[:20] + b"\xff" * 20 + SAFETENSORS[40:] + bytes(5000)
    _, described = stored(archive({"good.safetensors": SAFETENSORS, "bad.safetensors": damaged}), tmp_path)
    assert described.scan.malformed is None
    assert described.scan.note.startswith("m.mar: 'bad.safetensors' in it is damaged, and stored as bytes: ")
    assert "bad.safetensors" in described.manifest.parameters


def test_arrays_beside_python_objects_are_split(tmp_path):
    target = io.BytesIO()
    objects = np.array([{"lr": 0.1}, None], dtype=object)
    np.savez(target, w=np.arange(9.0), config=objects, many=np.array(["x" * n for n in range(150)], dtype=object))
    layout, tensors = lay_out(detect_format(memoryview(target.getvalue())), target.getvalue())
    assert {name: str(spec) for name, spec in layout.parameters.items()} == {
        "w": "F64 [9]",
        "many": f"U8 [{len(tensors['many'])}]",
    }
    changed = assemble(layout, {**tensors, "w": (np.arange(9.0) + 1).tobytes()})
    with np.load(io.BytesIO(changed), allow_pickle=True) as loaded:
        assert (loaded["w"] == np.arange(9.0) + 1).all()
        assert loaded["config"][0] == {"lr": 0.1}


def test_an_export_of_torch_before_2_8_is_such_an_archive(tmp_path):
    data = archive({"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": TORCH, "version": b"8.8"})
    store, described = stored(data, tmp_path)
    assert described.manifest.format == "zip"
    assert described.manifest.parameters.keys() == lay_out(detect_format(memoryview(TORCH)), TORCH)[1].keys()
    populate(described.manifest, store, tmp_path / "m.pt2", Expected.at(tmp_path / "m.pt2"))
    assert (tmp_path / "m.pt2").read_bytes() == data
