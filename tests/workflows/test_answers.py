"""What is typed wrongly is answered with a command that works when it is typed."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model

if TYPE_CHECKING:
    from pathlib import Path


def hint(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the words of the command that a failed command hints at."""
    assert done.returncode
    (line,) = re.findall(r"^hint: git (.*)$", done.stderr, re.MULTILINE)
    return shlex.split(line)


@pytest.mark.parametrize(
    "words",
    [
        ("show", "HEAD", MODEL),
        ("show", MODEL),
        ("export", MODEL, "copy"),
        ("show", "HEAD:nothing.safetensors"),
        ("show", "HEAD~99:" + MODEL),
        ("export", "HEAD:" + MODEL, "folder"),
        ("export", "HEAD:" + MODEL, "there"),
        ("compress", MODEL, "nothing", "-o", "out"),
    ],
)
def test_the_hint_of_a_mistyped_version_works(two: Repo, words: tuple[str, ...]) -> None:
    two.write(b"in the way", "there")
    (two.path / "folder").mkdir()
    two.git(*hint(two.run("theta", *words, check=False)))


def test_export_to_standard_output_is_the_file(two: Repo) -> None:
    done = subprocess.run(
        ["git", "theta", "export", f"HEAD:{MODEL}", "-"], cwd=two.path, capture_output=True, check=True
    )
    assert hashlib.sha256(done.stdout).hexdigest() == hashlib.sha256(model(2)).hexdigest()
    assert [path for path in (two.path / ".git/theta").iterdir() if path.name.startswith("tmp") and path.is_dir()] in (
        [],
        [two.path / ".git/theta/tmp"],
    )


def test_a_misspelled_option_of_a_merge_is_blamed_on_the_command_line(forked: Repo) -> None:
    done = forked.run("merge", "-s", "theta", "-X", "methd=ties", "side", check=False)
    assert "command line: no method in the rules has the option 'methd'" in done.stderr
    assert "hint: did you mean method=ties?" in done.stderr
    assert "GIT_THETA_MERGE" not in done.stderr


def test_several_checkpoints_are_resolved_at_once(repo: Repo, tmp_path: Path) -> None:
    names = ["a.safetensors", "folder/b.safetensors", "folder/c.safetensors"]
    for seed, branch in ((1, None), (2, "side"), (3, "main")):
        if branch == "side":
            repo.switch("-b", "side")
        elif branch:
            repo.switch(branch)
        for name in names:
            repo.write_model(name, seed)
        repo.commit(str(seed))
    assert repo.run("-c", "theta.merge.method=conflict", "merge", "side", check=False).returncode == 1
    assert repo.run("theta", "resolve", "--method", "theirs", names[0], "position_ids", check=False).returncode == 1
    listed = repo.run("theta", "resolve", check=False)
    assert listed.returncode == 1
    assert all(f"{name}:\n" in listed.stdout for name in names)
    repo.git("theta", "resolve", "--method", "theirs", "folder")
    assert [repo.read(name) for name in names[1:]] == [model(2), model(2)]
    repo.git("theta", "resolve", "--method", "theirs", *names[:1], "--param", "*")
    assert repo.read(names[0]) == model(2)
    assert "no checkpoint has conflicts" in repo.run("theta", "resolve", check=False).stderr
