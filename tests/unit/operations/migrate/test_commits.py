"""Rewritten commits have other trees and parents, and are the same to the byte otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import Repo

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.repository import Repository
from git_theta_ext.operations.migrate.commits import recommitted, write_commits

if TYPE_CHECKING:
    from pathlib import Path

A, B, C, D = (letter * 40 for letter in "abcd")
WHO = b"author A <a@b> 1 +0000\ncommitter C <c@d> -2 -0100\n"


@pytest.mark.parametrize(
    "rest",
    [
        WHO + b"\nmessage\n",
        WHO + b"encoding UTF-16\nHG:rename a:b\n and on\nchange-id abc\n\n\0\n\n  no line feed",
        b"author  <>\ncommitter A <a<b>@c> 99999999999999 +051800\n",
        WHO[:-1],
        WHO + b"\ntree and\nparent and\ngpgsig in the message\n",
    ],
)
def test_all_but_tree_and_parents_is_copied(rest: bytes) -> None:
    old = f"tree {A}\nparent {B}\nparent {B}\n".encode()
    assert recommitted(old + rest, D.encode(), {B: C}) == f"tree {D}\nparent {C}\nparent {C}\n".encode() + rest


def test_signatures_are_dropped_if_anything_changes() -> None:
    head = f"tree {A}\n".encode()
    signed = (
        WHO + b"gpgsig -----BEGIN\n \n abc\nmergetag object x\n type commit\nother 1\ngpgsig-sha256 x\n y\n\nmessage\n"
    )
    assert recommitted(head + signed, D.encode(), {}) == f"tree {D}\n".encode() + WHO + b"other 1\n\nmessage\n"
    assert recommitted(head + signed, A.encode(), {}) == head + signed


@pytest.mark.parametrize("content", [b"", b"parent x\n", f"tree {A}\nparent {B}\n".encode() + WHO])
def test_a_commit_that_is_broken_or_has_an_unknown_parent_is_refused(content: bytes) -> None:
    with pytest.raises(RepositoryError):
        recommitted(content, D.encode(), {})


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_commits_that_git_would_not_write_are_stored(tmp_path: Path, kind: str) -> None:
    repo = Repo(tmp_path)
    repo.git("init", "--quiet", f"--object-format={kind}")
    repo.write(b"x", "file")
    repo.git("add", "file")
    empty = repo.git("hash-object", "-t", "tree", "-w", "/dev/null").strip()
    full = repo.git("write-tree").strip()

    def stored(tree: str, parents: list[str], rest: str) -> str:
        text = f"tree {tree}\n" + "".join(f"parent {oid}\n" for oid in parents) + rest
        return repo.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", input=text).strip()

    long = "author A <a\ncommitter B b>\nodd 1\n\n" + "message " * 1000
    first = stored(empty, [], long)
    second = stored(empty, [first, first], long)
    carriers = {first: stored(full, [], "\n"), second: stored(empty, [], "\n")}
    ids = write_commits(Repository.discover(tmp_path), carriers)
    assert repo.git("cat-file", "commit", ids[second]).endswith("message ")
    assert ids == {first: stored(full, [], long), second: stored(empty, [ids[first]] * 2, long)}
