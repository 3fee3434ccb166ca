"""``git theta export --to`` and ``git theta cat``."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ATTENTION, EMBEDDING, MLP, MODEL, run_here, tensors

from git_theta_ext.cli.main import main


@pytest.fixture
def one(module_repo, monkeypatch):
    """Work in a repository with one version of the small model."""
    monkeypatch.chdir(module_repo.path)
    if not (module_repo.path / MODEL).exists():
        module_repo.write_model(seed=1)
        module_repo.commit("one")
    return module_repo


def values_of(data):
    """Return the tensors in a file of safetensors, and its metadata."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    content = {}
    for name, entry in header.items():
        begin, end = (8 + length + at for at in entry["data_offsets"])
        content[name] = (entry["dtype"], tuple(entry["shape"]), data[begin:end])
    return content, metadata


def test_chosen_parameters_are_written_with_the_metadata_of_their_file(one, run_json, tmp_path):
    target = tmp_path / "part.safetensors"
    done = run_json("export", f"HEAD:{MODEL}", str(target), "--param", "*.attention.weight")
    assert done == {
        "file": str(target),
        "format": "safetensors",
        "parameters": ATTENTION,
        "bytes": target.stat().st_size,
    }
    content, metadata = values_of(target.read_bytes())
    assert content == {name: tensors(1)[name] for name in ATTENTION}
    assert metadata == {"format": "pt", "note": "kept to the byte"}


def test_a_model_is_converted_to_torch_and_to_standard_output(one, tmp_path, capfdbinary):
    target = tmp_path / "model.pt"
    assert main(["export", f"HEAD:{MODEL}", str(target), "--to", "torch"]) == 0
    assert capfdbinary.readouterr().out.endswith(b"14 parameters as torch\n")
    loaded = torch.load(target, weights_only=True)
    assert {name: bytes(t.view(torch.uint8).numpy().data) for name, t in loaded.items()} == {
        name: data for name, (_, _, data) in tensors(1).items()
    }
    assert main(["export", f"HEAD:{MODEL}", "-", "--to", "torch"]) == 0
    assert capfdbinary.readouterr().out == target.read_bytes()


def test_what_cannot_be_converted_is_named_and_nothing_is_written(one, tmp_path, capsys):
    target = tmp_path / "model.npz"
    assert main(["export", f"HEAD:{MODEL}", str(target), "--to", "npz"]) == 4
    assert f"parameter {MLP[0]!r} has elements of the type BF16, which npz does not have" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["export", f"HEAD:{MODEL}", str(target), "--to", "npz", "--param", EMBEDDING]) == 0
    with np.load(target) as archive:
        assert archive[EMBEDDING].tobytes() == tensors(1)[EMBEDDING][2]


def test_an_existing_file_is_replaced_only_if_forced(one, tmp_path, capsys):
    target = tmp_path / "model.pt"
    target.write_bytes(b"precious")
    assert main(["export", f"HEAD:{MODEL}", str(target), "--to", "torch"]) == 2
    hint = capsys.readouterr().err.splitlines()[-1]
    assert target.read_bytes() == b"precious"
    assert main(hint.removeprefix("hint: git theta ").split()) == 0
    assert len(torch.load(target, weights_only=True)) == len(tensors(1))


def test_an_unknown_parameter_is_named_with_a_similar_one(one, tmp_path, capsys):
    assert main(["export", f"HEAD:{MODEL}", str(tmp_path / "x"), "--param", "embeddings.word.weigth"]) == 2
    assert f"did you mean {EMBEDDING}?" in capsys.readouterr().err


def test_cat_writes_the_bytes_of_a_parameter(one, capfdbinary):
    assert main(["cat", f"HEAD:{MODEL}", MLP[0]]) == 0
    assert capfdbinary.readouterr().out == tensors(1)[MLP[0]][2]


def test_cat_writes_a_file_of_numpy(one, capfdbinary):
    assert main(["cat", "--npy", f"HEAD:{MODEL}", ATTENTION[0]]) == 0
    array = np.load(io.BytesIO(capfdbinary.readouterr().out))
    assert array.shape == (64, 64)
    assert array.tobytes() == tensors(1)[ATTENTION[0]][2]
    assert main(["cat", "--npy", f"HEAD:{MODEL}", MLP[0]]) == 4
    assert b"BF16, which numpy does not have" in capfdbinary.readouterr().err
    assert "did you mean" not in run_here(["cat", f"HEAD:{MODEL}", "nothing"], one.path).stderr


ARRAYS = Path(__file__).parents[2] / "golden/arrays"


def test_import_needs_no_repository_and_writes_what_the_name_of_the_file_means(tmp_path, monkeypatch, run_json):
    monkeypatch.chdir(tmp_path)
    done = run_json("import", str(ARRAYS / "zarr-3"), "arrays.npz", "--param", "block.*")
    assert done["format"] == "npz"
    assert done["parameters"] == [{"name": "block.0.kernel", "dtype": "F64", "shape": [5, 7], "bytes": 280}]
    with np.load(tmp_path / "arrays.npz") as archive:
        assert archive["block.0.kernel"][3, 6] == 27


def test_import_refuses_what_the_format_cannot_hold_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(ARRAYS / "orbax-files"), "arrays.npz"]) == 4
    assert "parameter 'layers.1' has elements of the type F8_E4M3, which npz does not have" in capsys.readouterr().err
    assert main(["import", str(ARRAYS / "zarr-2"), "m.safetensors", "--param", "wieght"]) == 2
    assert main(["import", str(ARRAYS / "zarr-2"), "m", "--to", "zarr"]) == 2
    assert "use one of safetensors, torch, npz" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_parameters_that_are_not_tensors_are_refused_with_the_reason(repo, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(repo.path)
    whole = torch.arange(12.0)
    torch.save({"fine": whole.clone(), "turned": whole.reshape(3, 4).T, "tied": whole}, "model.pt")
    torch.save({"all": whole, "part": whole[2:5]}, "legacy.pt", _use_new_zipfile_serialization=False)
    np.savez("arrays.npz", rows=np.ones((2, 3)), columns=np.asfortranarray(np.ones((2, 3))))
    repo.commit("files")
    expected = {
        "model.pt": ("'tied' has the tensor 'turned' in it", "fine"),
        "legacy.pt": ("'all' has the tensor 'part' in it", None),
        "arrays.npz": ("'columns' is in Fortran order", "rows"),
    }
    for path, (reason, fine) in expected.items():
        assert main(["export", f"HEAD:{path}", str(tmp_path / "out"), "--to", "safetensors"]) == 4
        assert f"parameter {reason}" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        if fine is not None:
            target = tmp_path / f"{fine}.safetensors"
            assert main(["export", f"HEAD:{path}", str(target), "--param", fine]) == 0
            assert list(values_of(target.read_bytes())[0]) == [fine]
    (repo.path / "bytes.opaque").write_bytes(bytes(range(256)) * 400)
    repo.commit("bytes")
    assert main(["export", "HEAD:bytes.opaque", str(tmp_path / "out"), "--to", "safetensors"]) == 4
    assert "is in the format opaque" in capsys.readouterr().err
