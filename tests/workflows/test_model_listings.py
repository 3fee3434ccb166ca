"""Commands that list checkpoints show a model of several files in one entry, and its files on request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from helpers import SPECS, safetensors, tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helpers import Repo

NAMES = sorted(SPECS)
FILES = ["run/model-00001-of-00002.safetensors", "run/model-00002-of-00002.safetensors"]
MODEL = "run/model.safetensors"


def write(repo: Repo, changed: Mapping[str, int], cut: int) -> None:
    content = tensors(1, changed)
    for path, names in zip(FILES, (NAMES[:cut], NAMES[cut:]), strict=True):
        repo.write(safetensors({name: content[name] for name in names}), path)


def test_status_and_disk_usage(repo: Repo) -> None:
    write(repo, {}, 5)
    assert f"  {MODEL} (2 files)" in repo.git("theta", "status").splitlines()
    repo.commit("one")
    write(repo, {NAMES[0]: 2}, 7)
    shown = repo.git("theta", "status", "--files")
    assert "1 modified, 13 unchanged" in shown
    assert "> 2 parameters moved between files" in shown
    assert all(f"    {path}: " in shown for path in FILES)
    data = json.loads(repo.git("theta", "status", "--json"))
    assert [change["path"] for change in data["not_staged"]] == FILES
    assert [(change["path"], len(change["moved"])) for change in data["not_staged_models"]] == [(MODEL, 2)]
    repo.commit("two")
    (one, two) = json.loads(repo.git("theta", "du", "--json"))["models"]
    assert (one["path"], one["files"], two["new"]["tensors"]) == (MODEL, FILES, 1 + len(FILES))
    listed = repo.git("theta", "du").splitlines()
    assert sum("(2 files)" in line for line in listed) == 2
    assert len(repo.git("theta", "du", "--files").splitlines()) == len(listed) + 4
