"""A merge commit records how all of its checkpoints were merged, however many there are."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from git_theta_ext.git.repository import Repository
from git_theta_ext.merging.record import TRAILER, Record
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.operations.merge.record import attach, note_merge

if TYPE_CHECKING:
    from helpers import Repo

COUNT = 5_000


def test_trailers_of_5000_checkpoints_are_added(repo: Repo) -> None:
    """They take more bytes than Linux allows for the arguments of a process."""
    theirs = repo.git("commit-tree", "-p", "HEAD", "-m", "theirs", "HEAD^{tree}")
    heads = [repo.git("rev-parse", "HEAD"), theirs]
    (repo.path / ".git/MERGE_HEAD").write_text(f"{theirs}\n")
    blob, folder = repo.git("rev-parse", "HEAD:.gitattributes"), "/".join(["adapters" * 20] * 3)
    paths = [f"{folder}/{number:04}.safetensors" for number in range(COUNT)]
    staged = "".join(f"100644 {blob}\t{path}\n" for path in paths)
    subprocess.run(["git", "update-index", "--index-info"], cwd=repo.path, input=staged, text=True, check=True)
    opened = Repository.discover(repo.path)
    rules = Rules.only("ours")
    merged = {path: (Record(path, blob, (blob, blob), tuple(heads), rules), {path: blob}) for path in paths}
    note_merge(opened, heads, merged)
    message = repo.path / "message"
    message.write_text("merged\n")
    assert attach(opened, message) == []
    text = message.read_text()
    assert len(text) > 1 << 21
    assert text.startswith("merged\n\n")
    lines = text.splitlines()[2:]
    assert all(line.startswith(f"{TRAILER}: ") for line in lines)
    assert [path for path, line in zip(paths, lines, strict=True) if path not in line] == []
