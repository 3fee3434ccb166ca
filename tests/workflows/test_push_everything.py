"""Pushes decide by what the remote of the parameters holds, not by what git knows of the remote's commits."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from typing import TYPE_CHECKING

from helpers import MODEL, Repo, model

if TYPE_CHECKING:
    from pathlib import Path


def bare(folder: Path, name: str) -> Repo:
    Repo(folder).git("init", "--quiet", "--bare", name)
    return Repo(folder / name)


def packs(repo: Repo) -> list[Path]:
    return [path for path in (repo.path / "theta" / "packs").rglob("*") if path.is_file()]


def all_versions(source: Repo, place: Path) -> list[str]:
    """Say what is wrong with both versions of the model in a new clone."""
    Repo(place.parent).git("clone", "--quiet", str(source.path), place.name)
    copy = Repo(place)
    wrong = copy.problems(MODEL, model(2))
    copy.git("checkout", "--quiet", "HEAD~1")
    return wrong + copy.problems(MODEL, model(1))


def test_what_got_to_a_remote_without_parameters_or_was_lost_there_is_uploaded_by_any_push(
    two: Repo, shared: Repo, tmp_path: Path
) -> None:
    two.git("push", "--quiet", "--no-verify", "origin", "main")
    done = two.run("push", "--dry-run", "origin", "main:new")
    assert re.search(r"dry run: 28 tensors of .* would be uploaded to origin as about \d", done.stderr)
    assert packs(shared) == []
    done = two.run("push", "origin", "main")
    assert "up-to-date" in done.stderr
    assert re.search(r"git-theta: uploaded 28 tensors of .*B to origin as .*B in \d packs?\n", done.stderr)
    there = packs(shared)
    assert there
    shutil.rmtree(shared.path / "theta")
    two.git("push", "--quiet", "origin", "main:other")
    assert len(packs(shared)) == len(there)
    second = bare(tmp_path, "second.git")
    two.git("config", "--add", "remote.origin.pushurl", str(shared.path))
    two.git("config", "--add", "remote.origin.pushurl", str(second.path))
    two.git("push", "--quiet", "origin", "main")
    assert len(packs(second)) == len(there)
    third = bare(tmp_path, "third.git")
    two.git("config", "--unset-all", "remote.origin.pushurl")
    two.git("remote", "set-url", "origin", str(third.path))
    two.git("push", "--quiet", "origin", "main")
    fourth = bare(tmp_path, "fourth.git")  # no remote-tracking branch says what it has
    two.git("push", "--quiet", "--no-verify", str(fourth.path), "main")
    assert "up-to-date" in two.run("push", str(fourth.path), "main").stderr
    assert len(packs(fourth)) == len(there)
    shutil.rmtree(shared.path)
    shutil.rmtree(second.path)
    assert all_versions(third, tmp_path / "clone") == []


def test_a_clone_and_a_mirror_bring_to_another_remote_what_they_never_checked_out(
    two: Repo, shared: Repo, tmp_path: Path
) -> None:
    two.git("push", "--quiet", "origin", "main")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    Repo(tmp_path).git("clone", "--quiet", "--mirror", str(shared.path), "mirror.git")
    fork, moved = bare(tmp_path, "fork.git"), bare(tmp_path, "moved.git")
    hook = tmp_path / "mirror.git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\nexec git theta hook pre-push "$@"\n')
    hook.chmod(0o755)
    Repo(tmp_path / "clone").git("push", "--quiet", str(fork.path), "main")
    Repo(tmp_path / "mirror.git").git("push", "--quiet", "--mirror", str(moved.path))
    for gone in (two, shared, Repo(tmp_path / "mirror.git"), Repo(tmp_path / "clone")):
        shutil.rmtree(gone.path)
    assert all_versions(fork, tmp_path / "one") == []
    assert all_versions(moved, tmp_path / "two") == []


def test_a_collection_on_the_remote_spares_what_a_push_depends_on(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("push", "--quiet", "origin", "main:given-up")
    two.git("push", "--quiet", "origin", ":given-up")
    shared.git("gc", "--quiet", "--prune=now")
    for path in packs(shared):
        os.utime(path, (time.time() - 20 * 86_400,) * 2)
    hook = two.path / ".git" / "hooks" / "pre-push"
    hook.write_text(
        f'#!/bin/sh\ngit theta hook pre-push "$@" || exit 1\nenv -u GIT_DIR git -C "{shared.path}" theta gc --quiet\n'
    )
    hook.chmod(0o755)
    two.git("push", "--quiet", "origin", "main:again")
    Repo(tmp_path).git("clone", "--quiet", "--branch", "again", str(shared.path), "clone")
    assert Repo(tmp_path / "clone").problems(MODEL, model(2)) == []


def test_parameters_are_pushed_without_commits_and_what_is_nowhere_is_reported(
    two: Repo, shared: Repo, tmp_path: Path
) -> None:
    two.git("push", "--quiet", "--no-verify", "origin", "main", "one:old")
    second = bare(tmp_path, "second.git")
    two.git("config", "--add", "remote.origin.pushurl", str(shared.path))
    two.git("config", "--add", "remote.origin.pushurl", str(second.path))

    def pushed(repo: Repo, *words: str, code: int = 0) -> list[dict[str, object]]:
        done = repo.run("theta", "push", "--json", *words, check=False)
        assert done.returncode == code, done.stderr
        remotes: list[dict[str, object]] = json.loads(done.stdout)["remotes"]
        return remotes

    assert [each["lacking"] for each in pushed(two, "--dry-run", "--all")] == [29, 29]
    assert packs(shared) == packs(second) == []
    assert [each["lacking"] for each in pushed(two, "--all", "origin")] == [29, 29]
    assert packs(shared)
    assert packs(second)
    assert [each["lacking"] for each in pushed(two)] == [0, 0]
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    copy, third = Repo(tmp_path / "clone"), bare(tmp_path, "third.git")
    (here,) = pushed(copy, str(third.path))
    assert (here["lacking"], here["lost"]) == (29, 0)
    shutil.rmtree(shared.path / "theta")
    shutil.rmtree(third.path / "theta")
    (here,) = pushed(copy, str(third.path), code=7)
    assert (here["lacking"], here["lost"]) == (29, 14)
    checked = copy.run("theta", "fsck", "--remote", "--json", check=False)
    assert checked.returncode == 7
    problems = [(each["parameters"], each["lost"]) for each in json.loads(checked.stdout)["problems"]]
    assert sorted(problems) == [(14, 0), (14, 14)]
    said = copy.run("theta", "push", "--all", "origin", check=False)
    assert said.returncode == 7
    assert "14 tensors are neither in the local store nor on a remote" in said.stderr
    two.git(*said.stderr.partition("hint: run git ")[2].partition(" in a clone")[0].split())
    assert "has everything" in copy.git("theta", "push", "--all", "origin")
    assert "has everything" in copy.git("theta", "fsck", "--remote", "origin")
    shutil.rmtree(shared.path / "theta")
    shared.git("remote", "add", "clone", str(two.path))
    checked = shared.run("theta", "fsck", check=False)
    assert checked.returncode == 7
    assert "on a remote, but not in the store: " in checked.stdout
    assert "neither in the store" not in checked.stdout
    assert checked.stderr.count("hint: git theta fsck --repair\n") == 1
    shared.git("theta", "fsck", "--repair")
    assert "has everything" in copy.git("theta", "push", "--all", "origin")
    pack = max(packs(shared), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    pack.unlink()  # it may be a link of the one in the store
    pack.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert copy.run("theta", "fsck", "--remote", "--full", check=False).returncode == 6
