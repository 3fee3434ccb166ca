"""What messages tell the user to type works in the directory that the user is in."""

from __future__ import annotations

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
    assert typed(below, re.sub(r"\S*theirs\S*", "theirs", command)).returncode == 0
    assert repo.read(PATH) == theirs
    assert repo.git("ls-files", "-u") == ""


def test_a_deleted_checkpoint_comes_back_by_what_checkout_says(repo: Repo, below: Repo) -> None:
    data = repo.read(PATH)
    (repo.path / PATH).unlink()
    (hint,) = hints(below.run("theta", "checkout").stderr)
    assert typed(below, hint).returncode == 0
    assert repo.read(PATH) == data


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
