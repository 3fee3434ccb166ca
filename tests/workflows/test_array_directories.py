"""Checkpoints of zarr and Orbax: imported, versioned, and exported for these libraries again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helpers import Repo

GOLDEN = Path(__file__).parents[1] / "golden/arrays"


def test_a_checkpoint_of_orbax_is_imported_versioned_and_exported(repo: Repo, tmp_path: Path) -> None:
    step = tmp_path / "run/100"
    shutil.copytree(GOLDEN / "orbax-ocdbt", step / "default")
    listed = json.loads(repo.git("theta", "import", "--json", "--dry-run", str(step), "model.safetensors"))
    assert listed["dry_run"]
    assert {item["name"]: item["dtype"] for item in listed["parameters"]} == {
        "layers.0": "F16",
        "layers.1": "F8_E4M3",
        "mask": "BOOL",
        "params.dense.bias": "F32",
        "params.dense.kernel": "BF16",
        "step": "I64",
    }
    assert not (repo.path / "model.safetensors").exists()
    done = repo.run("theta", "import", str(step), "model.safetensors")
    assert "wrote model.safetensors: 6 parameters, 92 B, as safetensors" in done.stdout
    assert "'note' is left out: a string is not an array" in done.stderr
    imported = repo.read()
    repo.commit("imported")
    assert "6 parameters" in repo.git("theta", "ls-files", "HEAD", "--", "model.safetensors")
    for name in ("orbax", "zarr", "zarr3"):
        target = tmp_path / name
        done = repo.run("theta", "export", "--to", name, "HEAD:model.safetensors", str(target))
        assert ("the library zarr cannot read elements of the type BF16, F8_E4M3" in done.stderr) == (name != "orbax")
        repo.git("theta", "import", "--force", str(target), "model.safetensors")
        assert repo.read() == imported
        assert not repo.git("status", "--porcelain", "model.safetensors")
        again = repo.run("theta", "export", "--to", name, "HEAD:model.safetensors", str(target), check=False)
        assert (again.returncode, f"{target} already exists" in again.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["orbax", "repo", "run", "zarr", "zarr3"]


@pytest.mark.parametrize("name", ["orbax-ocdbt", "zarr-2"])
def test_a_directory_is_stored_as_it_lies(repo: Repo, name: str) -> None:
    folder = repo.path / "deep/run.zarr"
    shutil.copytree(GOLDEN / name, folder)
    repo.git("theta", "track", "--preset", name.partition("-")[0])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    repo.commit("as it lies")
    assert repo.git("theta", "ls-files", "HEAD", "--", "deep")
    shutil.rmtree(folder)
    repo.git("checkout", "--", "deep")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
