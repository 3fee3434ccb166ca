"""Other files than checkpoints end up the same whether git merges one branch or the strategy several."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import EMBEDDING, MODEL, Repo, model

if TYPE_CHECKING:
    from collections.abc import Mapping

Files = "Mapping[str, bytes | Path | None]"
OURS, THEIRS = model(1, {EMBEDDING: 2}), model(1, {EMBEDDING: 3})
LINES = b"1\n2\n3\n4\n5\n"

KINDS: dict[str, tuple[Files, Files, Files]] = {
    "text, merged": ({"f": LINES}, {"f": b"A\n2\n3\n4\n5\n"}, {"f": b"1\n2\n3\n4\nB\n"}),
    "text in conflict": ({"f": LINES}, {"f": b"A\n2\n3\n4\n5\n"}, {"f": b"B\n2\n3\n4\n5\n"}),
    "binary": ({"f": b"\0"}, {"f": b"\0A"}, {"f": b"\0B"}),
    "added twice": ({}, {"f": b"A\n"}, {"f": b"B\n"}),
    "deleted and changed": ({"f": LINES}, {"f": b"A\n" + LINES}, {"f": None}),
    "renamed and changed": ({"f": LINES}, {"f": b"A\n" + LINES}, {"f": None, "g": LINES}),
    "links": ({"f": Path("0")}, {"f": Path("a")}, {"f": Path("b")}),
    "file and link": ({"f": b"1\n"}, {"f": b"A\n"}, {"f": Path("b")}),
    "file and folder": ({}, {"f": b"A\n"}, {"f/g": b"B\n"}),
    "with a driver": ({"union": b"1\n"}, {"union": b"1\nA\n"}, {"union": b"1\nB\n"}),
    "without merging": ({"whole": b"1\n2\n3\n"}, {"whole": b"A\n2\n3\n"}, {"whole": b"1\n2\nB\n"}),
    "checkpoint and folder": ({}, {MODEL: OURS}, {MODEL: None, f"{MODEL}/f": b"B\n"}),
}


def put(repo: Repo, files: Mapping[str, bytes | Path | None], name: str) -> None:
    for path, content in files.items():
        if content is None or (repo.path / path).is_symlink():
            (repo.path / path).unlink()
    for path, content in files.items():
        if isinstance(content, Path):
            (repo.path / path).unlink(missing_ok=True)
            (repo.path / path).symlink_to(content)
        elif content is not None:
            repo.write(content, path)
    repo.commit(name)


def left(repo: Repo) -> tuple[object, ...]:
    """Return what a merge left in the index and in the work tree, and whether it is still to be committed."""
    files = [path for path in sorted(repo.path.rglob("*")) if ".git" not in path.parts and not path.is_dir()]
    contents = {
        path.relative_to(repo.path): path.readlink() if path.is_symlink() else path.read_bytes() for path in files
    }
    staged = repo.git("ls-files", "--stage").splitlines()
    return staged, contents, (repo.path / ".git/MERGE_HEAD").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_branch_is_merged_as_git_does(repo: Repo, tmp_path: Path, kind: str) -> None:
    base, ours, theirs = KINDS[kind]
    attributes = repo.read(".gitattributes") + b"union merge=union\nwhole -merge\n"
    put(repo, {MODEL: model(1), ".gitattributes": attributes, **base}, "base")
    for name, files in (("side", theirs), ("quiet", {"quiet.txt": b"quiet"})):
        repo.switch("-b", name, "main")
        put(repo, files, name)
    repo.switch("main")
    put(repo, ours, "main")
    shutil.copytree(repo.path, tmp_path / "other", symlinks=True)
    other = Repo(tmp_path / "other")
    repo.git("merge", "--quiet", "--no-edit", "quiet")
    first = repo.run("merge", "side", check=False)
    second = other.run("merge", "-s", "theta", "quiet", "side", check=False)
    assert first.returncode == second.returncode
    assert left(repo) == left(other)
    conflicts = [[line for line in done.stdout.splitlines() if "CONFLICT" in line] for done in (first, second)]
    assert conflicts[0] == conflicts[1]


def test_a_text_conflict_and_one_of_parameters_are_settled_in_one_merge(repo: Repo) -> None:
    put(repo, {MODEL: model(1), "f": LINES}, "base")
    for name, content, text in (("a", THEIRS, LINES), ("b", model(1, {EMBEDDING: 4}), b"B\n2\n3\n4\n5\n")):
        repo.switch("-b", name, "main")
        put(repo, {MODEL: content, "f": text}, name)
        repo.switch("main")
    put(repo, {MODEL: OURS, "f": b"A\n2\n3\n4\n5\n"}, "main")
    assert repo.run("merge", "-s", "theta", "-X", "method=conflict", "a", "b", check=False).returncode == 1
    assert repo.git("status", "--porcelain").splitlines() == ["UU f", f"UU {MODEL}"]
    repo.git("theta", "resolve", "--method", "theirs1", MODEL)
    assert repo.run("commit", "--no-edit", check=False).returncode != 0
    repo.write(LINES, "f")
    repo.git("add", "f")
    repo.git("commit", "--quiet", "--no-edit")
    assert repo.problems(MODEL, THEIRS) == []
    assert len(repo.git("log", "-1", "--format=%P").split()) == 3
