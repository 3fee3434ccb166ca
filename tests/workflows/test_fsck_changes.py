"""``git theta fsck`` checks again what has changed, and says the same as a check of everything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo
from repository_changes import commit, forget_the_second_version, stage

from git_theta_ext.operations.maintenance import fsck_changes
from git_theta_ext.store.verification import checks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the ids of the manifests that are checked among the changes."""
    monkeypatch.setattr(checks, "_RACY_SECONDS", -60)
    seen: list[str] = []
    real = fsck_changes.check_manifests

    def check_manifests(store: object, manifests: dict[str, object], **options: object) -> object:
        seen.extend(manifests)
        return real(store, manifests, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fsck_changes, "check_manifests", check_manifests)
    return seen


def fsck(repo: Repo, *options: str) -> tuple[int, dict[str, object]]:
    done = repo.run("theta", "fsck", "--json", *options, check=False)
    return done.returncode, json.loads(done.stdout)


def database(repo: Repo) -> Path:
    return repo.path / ".git/theta/checks.sqlite3"


def add_a_broken_manifest(repo: Repo) -> None:
    text = repo.git("cat-file", "blob", f"HEAD:{MODEL}")
    oid = repo.git("hash-object", "-w", "--stdin", input=text.replace("F32", "F31") + "\n")
    repo.git("update-index", "--add", "--cacheinfo", f"100644,{oid},broken.safetensors")


def lose_a_pack(repo: Repo) -> None:
    next(path for path in sorted((repo.path / ".git/theta/packs").rglob("*")) if path.is_file()).unlink()


CHANGES: list[tuple[str, Callable[[Repo], object], int | None]] = [
    ("nothing", lambda _: None, 0),
    ("another branch", lambda repo: repo.git("branch", "other"), 0),
    ("git status", lambda repo: repo.git("status"), 0),
    ("commit", commit, 1),
    ("stage", stage, 1),
    ("no record", lambda repo: database(repo).unlink(), None),
    ("a damaged record", lambda repo: database(repo).write_bytes(b"damage" * 999), None),
    ("fewer versions", forget_the_second_version, 0),
]
"""Changes, and how many versions have to be checked after them; None for all."""


def test_only_new_versions_are_checked(two: Repo, checked: list[str]) -> None:
    assert fsck(two)[0] == 0
    assert len(checked) == 2
    for name, change, versions in CHANGES:
        change(two)
        checked.clear()
        code, said = fsck(two)
        assert len(checked) == (said["manifests"] if versions is None else versions), name
        assert (code, said) == (0, fsck(two, "--full")[1]), name


DAMAGE: dict[str, tuple[Callable[[Repo], None], int]] = {
    "broken manifest": (add_a_broken_manifest, 6),
    "lost pack": (lose_a_pack, 7),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_problems_are_found_each_time(two: Repo, checked: list[str], name: str) -> None:
    change, code = DAMAGE[name]
    assert fsck(two)[0] == 0
    change(two)
    first = fsck(two)
    assert first[0] == code
    assert fsck(two) == first
    assert fsck(two, "--full") == first
    assert checked


def test_versions_on_a_remote_are_checked_each_time(two: Repo, shared: Repo, checked: list[str]) -> None:
    assert shared.path.is_dir()
    two.git("push", "--quiet", "origin", "main", "one", "two")
    forget = two.path / ".git/theta/packs"
    for path in [path for path in forget.rglob("*") if path.is_file()]:
        path.unlink()
    for _ in range(2):
        checked.clear()
        assert fsck(two)[0] == 0
        assert len(checked) == 2


@pytest.mark.parametrize(("change", "versions"), [(lambda _: None, 2), (commit, 3)])
def test_every_version_is_checked_by_code_that_checks_for_more(
    two: Repo, checked: list[str], change: Callable[[Repo], object], versions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsck(two)
    change(two)
    checked.clear()
    monkeypatch.setattr(fsck_changes, "_CODE", "other")
    assert fsck(two)[0] == 0
    assert len(checked) == versions


def test_packs_that_are_not_read_are_counted(two: Repo, checked: list[str]) -> None:
    fsck(two)
    checked.clear()
    done = two.run("theta", "fsck")
    assert done.stdout == "2 versions of checkpoints, no problems\n"
    assert "did not change since an earlier check and w" in done.stderr
    assert "not read" not in two.run("theta", "fsck", "--full").stderr
    assert not checked
