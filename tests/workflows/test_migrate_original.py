"""``git theta migrate import`` rewrites a history of git-theta 0.2.0.

The golden repository was made by git-theta 0.2.0, with an update of every kind, and its messages name them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import pytest
from helpers import MODEL, Repo
from histories import Stream, changed_metadata

from git_theta_ext.operations.migrate.original_files import flax_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytest.importorskip("tensorstore", reason="tensorstore is not installed")
load = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed").load

GOLDEN = Path(__file__).parents[1] / "golden" / "git_theta_0_2_0"
EXACT = {
    "1 dense": "c9a6ebb3ad62a4a1803716130d45c9500acd88543083b9e40aeed8273207d869",
    "2 sparse": "61563a1314ab82c20af7c68edf170434b07ff89020a165f5f2d54d9be59874f6",
}
"""SHA-256 of what git-theta 0.2.0 checks out, of the versions that no matrix product is a part of."""


@pytest.fixture
def original(tmp_path: Path) -> Repo:
    Repo(tmp_path).git("clone", "--quiet", str(GOLDEN / "history.bundle"), "repo")
    repo = Repo(tmp_path / "repo")
    for path in (GOLDEN / "objects").iterdir():
        repo.write(path.read_bytes(), f".git/lfs/objects/{path.name[:2]}/{path.name[2:4]}/{path.name}")
    repo.git("theta", "install", "--local")
    return repo


def versions(repo: Repo) -> dict[str, bytes]:
    """Return the model in every commit by the message."""
    found = {}
    for line in repo.git("log", "--format=%H %s").splitlines():
        commit, _, subject = line.partition(" ")
        repo.git("theta", "export", "--force", f"{commit}:{MODEL}", str(repo.path.parent / "version"))
        found[subject] = (repo.path.parent / "version").read_bytes()
    return found


def test_every_version_is_what_git_theta_0_2_0_checks_out(original: Repo) -> None:
    original.git("theta", "migrate", "import", "--include", "*.safetensors")
    assert changed_metadata(original) == []
    files = versions(original)
    assert {name: hashlib.sha256(files[name]).hexdigest() for name in EXACT} == EXACT
    models: dict[str, dict[str, NDArray[Any]]] = {name: load(data) for name, data in files.items()}
    sparse, low_rank, ia3, last = (models[name] for name in ("2 sparse", "3 low-rank", "3 ia3", "5 dense"))
    np.testing.assert_allclose(low_rank["layer.a"] - sparse["layer.a"], np.outer(np.arange(8), np.arange(6)), atol=1e-4)
    np.testing.assert_allclose(low_rank["layer.b"] - sparse["layer.b"], 1, atol=1e-5)
    assert (ia3["layer.a"] == low_rank["layer.a"] * np.arange(1, 7, dtype="f4")).all()
    assert (last["new"] == 1).all()
    assert original.problems(MODEL, files["5 dense"]) == []


def test_an_object_that_is_missing_or_damaged_stops_it(original: Repo) -> None:
    before = original.git("for-each-ref")
    path = max((original.path / ".git/lfs/objects").rglob("*"), key=lambda path: path.is_file() * path.stat().st_size)
    data = path.read_bytes()
    damaged = f"{MODEL}: the object {path.name} of Git LFS is damaged"
    for content, code, message in ((None, 7, "of Git LFS cannot be fetched"), (data[:-1] + b"x", 6, damaged)):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        done = original.run("theta", "migrate", "import", "--include", "*.safetensors", check=False)
        assert (done.returncode, original.git("for-each-ref")) == (code, before)
        assert message in done.stderr
    path.write_bytes(data)
    sparse = original.git("log", "--format=%H", "--grep=2 sparse").strip()
    updated = [
        parameter["lfs_metadata"]["oid"]
        for parameter in json.loads(original.git("cat-file", "blob", f"{sparse}:{MODEL}")).values()
        if parameter["theta_metadata"]["update_type"] == "sparse"
    ]
    (original.path / ".git/lfs/objects" / updated[0][:2] / updated[0][2:4] / updated[0]).unlink()
    command = ("theta", "migrate", "import", "--include", "*.safetensors", "--allow-missing", "--json")
    done = json.loads(original.git(*command))
    missing = f"object {updated[0]} of Git LFS"
    # The second reason is that of later versions, which depend on it.
    assert {left["reason"] for left in done["left"]} == {f"{missing} missing", f"the {missing} cannot be fetched"}
    assert (done["versions"], len(done["left"])) == (2, 3)
    assert MODEL in original.git("ls-tree", "--name-only", "HEAD")


def test_a_nested_checkpoint_is_restored_as_flax_or_as_it_is_chosen(tmp_path: Path) -> None:
    values = {("params", name): np.full((2, 3), number, "<f4") for number, name in enumerate("ab")}
    stream, leaves = Stream(), {}
    for names, value in values.items():
        described = {"zarr_format": 2, "shape": [2, 3], "chunks": [2, 3], "dtype": "<f4", "order": "C"}
        zarr = json.dumps({**described, "compressor": None, "fill_value": None, "filters": None}).encode()
        stored = msgpack.packb({"parameter": {".zarray": zarr, "0.0": value.tobytes()}})
        stream.lfs(stored)
        leaves[names[1]] = {
            "tensor_metadata": {"shape": "(2, 3)", "dtype": "float32", "hash": [1]},
            "lfs_metadata": {"version": "", "oid": hashlib.sha256(stored).hexdigest(), "size": str(len(stored))},
            "theta_metadata": {"update_type": "dense", "last_commit": None},
        }
    content = json.dumps({"params": leaves}).encode()
    stream.commit("refs/heads/main", {".gitattributes": b"model filter=theta\n", "model": content})
    repo = stream.write(tmp_path / "repo")
    was = repo.git("rev-parse", "main").strip()
    repo.git("theta", "migrate", "import", "--include", "model")
    assert repo.problems("model", flax_bytes(values)) == []
    repo.git("update-ref", "-d", "refs/original/refs/heads/main")
    repo.git("-c", "filter.theta.process=", "-c", "filter.theta.required=false", "reset", "--quiet", "--hard", was)
    repo.git("theta", "migrate", "import", "--include", "model", "--as", "safetensors")
    assert {name: value.tolist() for name, value in load(repo.read("model")).items()} == {
        ".".join(names): value.tolist() for names, value in values.items()
    }
