"""What messages tell the user to type works in the directory that the user is in."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers import ATTENTION, Repo

if TYPE_CHECKING:
    from pathlib import Path

PATH = "models/my first/model.safetensors"


@pytest.fixture
def below(repo: Repo) -> Repo:
    """Return a repository with a checkpoint, seen from a directory beside that of the checkpoint."""
    repo.write_model(PATH)
    repo.write(b"notes", "models/notes/today.txt")
    repo.commit("one")
    return Repo(repo.path / "models" / "notes")


def typed(below: Repo, hint: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell in the user's directory does."""
    return subprocess.run(["sh", "-c", hint], cwd=below.path, capture_output=True, text=True, check=False)


def hints(stderr: str) -> list[str]:
    return re.findall("hint: (.*)", stderr)


def test_a_conflict_is_resolved_by_what_the_merge_and_resolve_say(repo: Repo, below: Repo) -> None:
    repo.git("branch", "side")
    repo.write_model(PATH, changed={ATTENTION[0]: 2})
    repo.commit("ours")
    repo.git("checkout", "-q", "side")
    theirs = repo.write_model(PATH, changed={ATTENTION[0]: 3})
    repo.commit("theirs")
    repo.git("checkout", "-q", "main")
    repo.git("config", "theta.merge.method", "conflict")
    stderr = below.run("merge", "-s", "theta", "side", check=False).stderr
    assert hints(stderr) == ["git theta resolve '../my first/model.safetensors'"]
    repo.git("merge", "--abort")
    stderr = below.run("merge", "side", check=False).stderr
    assert hints(stderr) == ["git theta resolve '../my first/model.safetensors'"]
    status = below.git("theta", "status")
    assert "  ../my first/model.safetensors\n" in f"{status}\n"
    refused = below.run("add", "../my first", check=False)
    assert refused.returncode != 0
    assert hints(refused.stderr) == hints(stderr)
    listed = typed(below, hints(stderr)[0])
    assert listed.returncode == 1
    (command,) = re.findall("to resolve them: (.*)", listed.stdout)
    assert listed.stdout.startswith("../my first/model.safetensors:\n")
    resolved = typed(below, re.sub(r"\S*theirs\S*", "theirs", command))
    assert (resolved.returncode, resolved.stdout) == (0, "resolved ../my first/model.safetensors\n")
    assert repo.read(PATH) == theirs
    assert repo.git("ls-files", "-u") == ""


def test_a_deleted_checkpoint_comes_back_by_what_checkout_says(repo: Repo, below: Repo) -> None:
    data = repo.read(PATH)
    (repo.path / PATH).unlink()
    (hint,) = hints(below.run("theta", "checkout").stderr)
    assert typed(below, hint).returncode == 0
    assert repo.read(PATH) == data


def test_paths_are_shown_as_the_user_types_them_and_for_programs_from_the_top(repo: Repo, below: Repo) -> None:
    shown = "../my first/model.safetensors"
    assert below.git("theta", "add", "--dry-run", "..") == f"would add {shown}"
    assert f"unchanged {shown}: " in below.git("theta", "add", "..")
    assert json.loads(below.git("theta", "add", "--json", ".."))["added"][0]["path"] == PATH
    for words, told in (((), f"wrote {shown}"), (("--json",), f'"{PATH}"')):
        (repo.path / PATH).unlink()
        assert told in below.git("theta", "checkout", "--force", "..", *words)
    (repo.path / PATH).unlink()
    assert f"warning: {shown} was deleted" in below.run("theta", "checkout").stderr
    assert f"removed {shown}" in below.git("theta", "add", "..")
    refused = below.run("theta", "resolve", "--method", "ours", "today.txt", check=False)
    assert "error: today.txt has no conflicts" in refused.stderr


def test_files_are_listed_as_git_lists_them(repo: Repo, below: Repo) -> None:
    repo.write_model("other.safetensors")
    repo.commit("two")
    inside = Repo(below.path.parent / "my first")
    for place in (repo, below, inside, Repo(below.path.parent)):
        for revision, command in ((), ("ls-files",)), (("HEAD",), ("ls-tree", "-r", "--name-only", "HEAD")):
            lines = place.git("theta", "ls-files", *revision).splitlines()
            expected = [name for name in place.git(*command).splitlines() if name.endswith(".safetensors")]
            assert [line.partition("  (")[0] for line in lines] == expected
    (listed,) = json.loads(inside.git("theta", "ls-files", "--json"))["checkpoints"]
    assert listed["path"] == PATH
    # Git runs hooks at the top, and says in the environment where the user is.
    assert "other.safetensors" in repo.git("theta", "ls-files", env={**os.environ, "GIT_PREFIX": "models/notes/"})


def test_attributes_are_written_at_the_top(repo: Repo, below: Repo) -> None:
    data = repo.read(PATH)
    repo.git("rm", "-q", ".gitattributes")
    repo.write(repo.git("show", f"HEAD:{PATH}").encode() + b"\n", PATH)
    (hint,) = hints(below.run("theta", "status").stderr)
    done = typed(below, hint)
    assert done.returncode == 0, done.stderr
    assert repo.read(PATH) == data
    assert "my first" in repo.read(".gitattributes").decode()


def test_a_version_is_named_from_the_top(below: Repo, tmp_path: Path) -> None:
    inside = Repo(below.path.parent / "my first")
    stderr = inside.run("theta", "export", "model.safetensors", str(tmp_path / "copy"), check=False).stderr
    assert typed(inside, hints(stderr)[0]).returncode == 0
    assert (tmp_path / "copy").read_bytes() == inside.read()
