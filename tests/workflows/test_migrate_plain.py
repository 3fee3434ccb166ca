"""``git theta migrate import`` rewrites a history of plain git."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model
from histories import (
    Stream,
    changed_metadata,
    commit_map,
    copy_of,
    drop_backup,
    plain_history,
    read_all,
    tree,
    wrong_versions,
)

if TYPE_CHECKING:
    from pathlib import Path

INCLUDE = ("theta", "migrate", "import", "--include", "*.safetensors")


def refs(repo: Repo, prefix: str = "") -> dict[str, str]:
    lines = repo.git("for-each-ref", "--format=%(refname) %(objectname)", *([prefix] if prefix else [])).splitlines()
    return dict(line.split(" ") for line in lines)


def test_a_history_of_plain_git_keeps_everything_but_the_ids(tmp_path: Path) -> None:
    repo = copy_of(plain_history, tmp_path / "repo")
    before = refs(repo)
    planned = json.loads(repo.git(*INCLUDE, "--everything", "--dry-run", "--json"))
    assert refs(repo) == before
    assert not (repo.path / ".git/theta/packs").exists()
    done = repo.run(*INCLUDE, "--everything", "--json")
    data = json.loads(done.stdout)
    assert data["versions"] == planned["versions"] == 7
    assert (data["commits"], data["files"], data["left"], data["signatures"]) == (8, 4, [], 2)
    assert changed_metadata(repo) == []
    assert wrong_versions(repo) == []
    after = refs(repo)
    assert {f"refs/original/{ref}": oid for ref, oid in before.items()} == refs(repo, "refs/original/")
    assert after.keys() - refs(repo, "refs/original/").keys() == before.keys()
    assert all(after[ref] != oid for ref, oid in before.items())
    assert repo.problems(MODEL, model(5)) == []
    assert repo.read("e.bin") == model(1)
    _check_files(repo, commit_map(repo), before)
    _check_tags_and_notes(repo, before)
    assert repo.run("fsck", "--strict", check=False).returncode == 0


def _check_files(repo: Repo, ids: dict[str, str], before: dict[str, str]) -> None:
    main, side = tree(repo, "main"), tree(repo, "side")
    old = tree(repo, before["refs/heads/main"])
    assert main["e.bin"] == old["e.bin"], "the same content at another path is not migrated"
    assert main[MODEL][0] == "100755" or old[MODEL][0] == "100644"
    assert tree(repo, "v1")[MODEL][0] == "100755"
    assert side["s"] == ("160000", "1" * 40)
    assert tree(repo, "v1")["l"][0] == "120000"
    for commit in ids.values():
        if ".gitattributes" in (files := tree(repo, commit)):
            text = repo.git("cat-file", "blob", files[".gitattributes"][1])
            assert text.splitlines()[-1] == "*.safetensors filter=theta diff=theta merge=theta -text"
    assert repo.git("show", "main:.gitattributes").splitlines()[0] == "*.txt text"


def _check_tags_and_notes(repo: Repo, before: dict[str, str]) -> None:
    ids = commit_map(repo)
    tags = read_all(repo, [before["refs/tags/signed"], *(refs(repo)[f"refs/tags/{name}"] for name in ("v1", "signed"))])
    old, v1, signed = tags.values()
    assert b"PGP" in old
    assert b"PGP" not in signed
    assert signed.endswith(b"\n\nsigned\n")
    assert v1.endswith(b"tagger Zo\xc3\xab <zoe@example.com> 1700000200 +0000\n\ntagged\n")
    assert repo.git("rev-parse", "nested^{commit}") == repo.git("rev-parse", "v1^{commit}")
    assert repo.git("log", "-1", "--format=%H", "light") == ids[before["refs/tags/light"]]
    assert repo.git("log", "-1", "--format=%N", "main~1") == "a note"
    assert repo.git("log", "-1", "--format=%N", "side") == "another note"
    assert repo.git("log", "--format=%s", "refs/notes/commits").splitlines() == ["Notes added by 'git notes add'"] * 2


def test_commits_before_the_first_file_of_a_pattern_stay_as_they_are(tmp_path: Path) -> None:
    stream, last = Stream(), ()
    for path in ("README", ".gitattributes", MODEL, "old.npz"):
        content = b"*.txt text\n" if path == ".gitattributes" else model(len(path))
        last = (stream.commit("refs/heads/main", {path: content}, last),)
    repo = stream.write(tmp_path / "repo")
    plain = repo.git("rev-list", "--reverse", "main").splitlines()
    repo.git(*INCLUDE)
    models = repo.git("rev-list", "--reverse", "main").splitlines()
    assert [old == new for old, new in zip(plain, models, strict=True)] == [True, True, False, False]
    drop_backup(repo)
    repo.git("theta", "migrate", "import", "--include", "*.npz")
    every = repo.git("rev-list", "--reverse", "main").splitlines()
    assert [old == new for old, new in zip(models, every, strict=True)] == [True, True, True, False]
    lines = repo.git("show", "main:.gitattributes").splitlines()
    assert [line.split()[0] for line in lines] == ["*.txt", "*.safetensors", "*.npz"]
    assert repo.git("show", "main~1:.gitattributes").splitlines() == lines[:2]


def test_only_the_named_refs_move_and_a_second_run_says_how_to_drop_the_backup(tmp_path: Path) -> None:
    repo = copy_of(plain_history, tmp_path / "repo")
    before = refs(repo)
    repo.git(*INCLUDE, "--exclude", "sub/**", "main", "light")
    moved = {ref for ref, oid in refs(repo).items() if ref in before and before[ref] != oid}
    assert moved == {"refs/heads/main", "refs/tags/light", "refs/notes/commits"}
    assert tree(repo, "main")['sub/ü "x".safetensors'] == tree(repo, before["refs/heads/main"])['sub/ü "x".safetensors']
    assert repo.git("check-attr", "filter", "--", "sub/x.safetensors").endswith("filter: unspecified")
    again = repo.run(*INCLUDE, "side", check=False)
    assert again.returncode == 3
    assert "refs/original/" in again.stderr
    hint = again.stderr.splitlines()[-1].removeprefix("hint: ")
    subprocess.run(hint, shell=True, cwd=repo.path, check=True)
    repo.git(*INCLUDE, "side")
    assert repo.git("cat-file", "blob", f"side:{MODEL}").startswith("git-theta manifest 1")


def test_a_filter_that_no_committed_file_sets_is_pointed_out(tmp_path: Path) -> None:
    repo = copy_of(plain_history, tmp_path / "repo")
    repo.write(b"*.safetensors -filter\n", ".git/info/attributes")
    done = repo.run(*INCLUDE)
    assert "refs/heads/main: broken.safetensors, model.safetensors" in done.stderr
    assert "would be checked out as text" in done.stderr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda repo: repo.write(b"changed", MODEL), "has changes that are not committed"),
        (lambda repo: repo.git("replace", "main", "side"), "git replaces objects here"),
        (lambda repo: repo.run("merge", "other", "--allow-unrelated-histories", check=False), "is in progress"),
        (lambda repo: repo.git("worktree", "add", "--quiet", "../other", "side"), "has refs/heads/side checked out"),
        (lambda repo: repo.git("theta", "uninstall", "--local"), "not configured"),
        (lambda repo: (repo.path / ".git/shallow").write_text(repo.git("rev-parse", "main") + "\n"), "shallow"),
    ],
)
def test_a_state_that_a_migration_would_lose_is_refused(tmp_path: Path, make: object, message: str) -> None:
    repo = copy_of(plain_history, tmp_path / "repo")
    make(repo)
    before = refs(repo)
    done = repo.run(*INCLUDE, "--everything", check=False)
    assert (done.returncode, refs(repo)) == (3, before)
    assert message in done.stderr
    assert "hint: " in done.stderr
