import shutil
import subprocess

import pytest
from helpers import EMBEDDING, MODEL, Repo, model

from git_theta_ext.cli.main import main

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 7\n"


def changed_and_renamed(repo):
    repo.write(model(1))
    repo.commit("one")
    repo.write(model(1, {EMBEDDING: 2}))
    repo.commit("two")


@pytest.fixture
def versions(with_history, monkeypatch) -> Repo:
    """Two committed versions that differ in one tensor; the second is in the work tree."""
    repo = with_history(changed_and_renamed)
    monkeypatch.chdir(repo.path)
    return repo


def blob(repo):
    """Write what git hands over for a committed version: its manifest."""
    repo.write(repo.run("cat-file", "blob", f"HEAD:{MODEL}").stdout.encode(), "manifest")


def converted(capfdbinary, name):
    assert main(["textconv", name]) == 0
    return capfdbinary.readouterr().out


def test_git_shows_the_lines_that_differ_in_every_command_that_converts(versions):
    shown = versions.git("show")
    changed = [line for line in shown.splitlines() if line.startswith(("+", "-")) and line[1] != line[0]]
    assert [line.split("  ")[:2] for line in changed] == [
        [f"-{EMBEDDING}", "F32 [256,64]"],
        [f"+{EMBEDDING}", "F32 [256,64]"],
    ]
    assert versions.git("log", "-p", "-1") == shown
    assert "rel. change" in versions.git("diff", "HEAD~", "HEAD")  # the driver comes first
    assert "# git theta textconv" not in versions.git("log", "-p", "--no-textconv")
    found = versions.git("grep", "--textconv", EMBEDDING)
    assert found.startswith(f"{MODEL}:{EMBEDDING}  F32 [256,64]  ")
    assert versions.git("cat-file", "--textconv", f"HEAD:{MODEL}").splitlines()[0].startswith("# git theta textconv")


def test_git_blame_knows_which_commit_each_line_of_the_file_comes_from(versions):
    packs = sorted((versions.path / ".git/theta/packs").rglob("*"))
    first, last = (versions.git("rev-parse", rev)[:7] for rev in ("HEAD~", "HEAD"))
    lines = versions.git("blame", MODEL).splitlines()
    assert {line.split(" ")[0].lstrip("^")[:7] for line in lines if EMBEDDING not in line} == {first}
    assert [line[:7] for line in lines if EMBEDDING in line] == [last]
    versions.write(model(1, {EMBEDDING: 3}))
    assert [line[:8] for line in versions.git("blame", MODEL).splitlines() if EMBEDDING in line] == ["0" * 8]
    assert sorted((versions.path / ".git/theta/packs").rglob("*")) == packs  # nothing is stored


def test_the_checkpoint_has_the_text_of_its_manifest(versions, capfdbinary):
    blob(versions)
    expected = converted(capfdbinary, "manifest")
    assert expected.count(b"\n") == 17
    assert converted(capfdbinary, MODEL) == expected
    shutil.rmtree(versions.path / ".git/theta")  # the stat cache
    assert converted(capfdbinary, MODEL) == expected
    outside = versions.path.parent / MODEL
    shutil.copyfile(MODEL, outside)  # as the temporary file of a version that git itself stores
    assert converted(capfdbinary, str(outside)) == expected


@pytest.mark.parametrize("content", [b"", POINTER])
def test_what_is_text_already_stays(versions, capfdbinary, content):
    versions.write(content, "pointer")
    assert converted(capfdbinary, "pointer") == content


def test_a_reader_that_is_gone_is_no_error(versions):
    blob(versions)
    done = subprocess.run(
        "git-theta textconv manifest 2>&1 >&3 3>&- | cat", shell=True, stdout=subprocess.PIPE, check=True
    )
    assert b"Traceback" not in done.stdout
