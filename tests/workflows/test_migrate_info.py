"""``git theta migrate info`` says what an import would save, and changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from helpers import ATTENTION, model
from histories import Stream

if TYPE_CHECKING:
    from pathlib import Path


def test_the_estimate_is_near_what_an_import_and_a_gc_give(tmp_path: Path) -> None:
    stream = Stream()
    versions = [model(1, {ATTENTION[0]: n}) for n in range(2, 10)]
    lost = stream.lfs(model(20))
    parents = ()
    for n, data in enumerate(versions):
        files = {"model.safetensors": data if n % 2 else stream.lfs(data), "small.txt": b"%d" % n, "x.bin": lost}
        parents = (stream.commit("refs/heads/main", files, parents),)
    repo = stream.write(tmp_path / "repo")
    for path in (repo.path / ".git/lfs/objects").rglob("*"):
        if path.is_file() and path.read_bytes() == model(20):
            path.unlink()
    text = repo.git("theta", "migrate", "info", "--all")
    assert text.splitlines()[0] == "*.safetensors: 8 versions of 1 file"
    assert "1 version in Git LFS to fetch first" in text
    assert "small" not in text
    patterns = json.loads(repo.git("theta", "migrate", "info", "--include", "*.safetensors", "--all", "--json"))[
        "patterns"
    ]
    (found,) = patterns
    assert (found["pattern"], found["files"], found["versions"]) == ("*.safetensors", 1, 8)
    assert found["bytes"] == found["sampled"] == sum(map(len, versions))
    assert found["bytes"] // 2 < found["now"] < found["bytes"]
    assert not (repo.path / ".git/theta").exists()
    repo.git("theta", "migrate", "import", "--include", "*.safetensors")
    repo.git("theta", "gc", "--grace", "0")
    stored = sum(path.stat().st_size for path in (repo.path / ".git/theta/packs").rglob("*") if path.is_file())
    assert 0.8 < found["after"] / stored < 1.2
    assert json.loads(repo.git("theta", "migrate", "info", "--include", "*.safetensors", "--json"))["patterns"] == []
