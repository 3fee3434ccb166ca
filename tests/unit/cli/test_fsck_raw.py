"""``git theta fsck --raw``: checkpoints that git stores itself, in the index or in a commit."""

from __future__ import annotations

import shlex

import pytest
from helpers import WITHOUT_FILTER, safetensors

from git_theta_ext.cli.main import main

LARGE = safetensors({"weight": ("F32", (1 << 18,), bytes(1 << 20))})


def kinds(found):
    return [(problem["kind"], problem["where"]) for problem in found["problems"]]


def test_a_tracked_file_that_was_added_without_the_filter_is_raw(at, run_json) -> None:
    at.write_model()
    at.git(*WITHOUT_FILTER, "add", "model.safetensors")
    assert kinds(run_json("fsck", "--raw", code=6)) == [("raw", ":model.safetensors")]
    assert kinds(run_json("fsck", "--raw", "HEAD")) == []
    at.git("commit", "--quiet", "-m", "raw")
    at.git("theta", "add", "model.safetensors")
    assert kinds(run_json("fsck", "--raw", "HEAD", code=6)) == [("raw", "HEAD:model.safetensors")]
    assert kinds(run_json("fsck", "--raw")) == []


def test_the_attributes_are_those_of_the_index_or_of_the_commit(at, run_json) -> None:
    at.git("rm", "--quiet", "--cached", ".gitattributes")
    at.write(LARGE)
    at.git(*WITHOUT_FILTER, "add", "model.safetensors")
    assert kinds(run_json("fsck", "--raw", code=6)) == [("untracked", ":model.safetensors")]


def test_a_large_checkpoint_that_no_pattern_tracks_is_reported_with_a_command_that_helps(at, run_json, capsys) -> None:
    at.write(LARGE, "my models/a.bin")
    at.git("add", "my models")
    assert kinds(run_json("fsck", "--raw", code=6)) == [("untracked", ":my models/a.bin")]
    assert main(["fsck", "--raw"]) == 6
    printed = capsys.readouterr().out
    assert "no pattern tracks this safetensors file of 1.05 MB" in printed
    assert main(["track", printed.partition("git theta track ")[2].partition(" && ")[0].strip("'")]) == 0
    at.git("theta", "add", "my models/a.bin")
    assert kinds(run_json("fsck", "--raw")) == []


@pytest.mark.parametrize("attribute", ["-filter", "filter=lfs"])
def test_a_file_that_another_filter_has_or_none_is_meant_to_have_is_left_alone(at, run_json, attribute) -> None:
    at.write(f"*.bin {attribute}\n".encode(), "data/.gitattributes")
    at.write(LARGE, "data/a.bin")
    at.git(*WITHOUT_FILTER, "add", "data")
    assert kinds(run_json("fsck", "--raw")) == []


def test_small_files_and_files_that_are_no_checkpoints_are_left_alone(at, run_json) -> None:
    at.write(LARGE[: 1 << 19], "small.bin")
    at.write(bytes(1 << 21), "firmware.bin")
    at.write(LARGE, "notes.txt")
    at.git("add", "--all")
    assert kinds(run_json("fsck", "--raw")) == []


def test_a_range_shows_each_commit_that_adds_a_checkpoint_even_if_a_later_one_deletes_it(at, run_json, capsys) -> None:
    at.write_model(seed=5)
    at.git(*WITHOUT_FILTER, "add", "model.safetensors")
    at.git("commit", "--quiet", "-m", "raw")
    raw = at.git("rev-parse", "--short=12", "HEAD")
    at.write(LARGE, "my models/a.bin")
    at.git("add", "my models")
    at.git("commit", "--quiet", "-m", "untracked")
    untracked = at.git("rev-parse", "--short=12", "HEAD")
    at.git("rm", "--quiet", "my models/a.bin")
    at.git("theta", "add", "model.safetensors")
    at.git("commit", "--quiet", "-m", "clean")
    assert kinds(run_json("fsck", "--raw", "HEAD")) == []
    wanted = [("raw", f"{raw}:model.safetensors"), ("untracked", f"{untracked}:my models/a.bin")]
    assert kinds(run_json("fsck", "--raw", "HEAD", "HEAD~3..HEAD", code=6)) == wanted
    assert kinds(run_json("fsck", "--raw", f"{raw}..HEAD", code=6)) == wanted[1:]
    assert kinds(run_json("fsck", "--raw", "HEAD^..HEAD")) == []
    capsys.readouterr()
    assert main(["fsck", "--raw", "HEAD~3..HEAD"]) == 6
    hint = capsys.readouterr().err.splitlines()[-1].partition("hint: git ")[2]
    at.git(*shlex.split(hint))
    assert kinds(run_json("fsck", "--raw", "HEAD~3..HEAD")) == []


def test_the_command_leaves_commits_without_such_a_file_as_they_are(at, run_json) -> None:
    before = at.git("rev-parse", "HEAD")
    at.write_model(seed=5)
    at.git(*WITHOUT_FILTER, "add", "model.safetensors")
    at.git("commit", "--quiet", "-m", "raw")
    at.git("theta", "add", "model.safetensors")
    at.git("commit", "--quiet", "-m", "clean")
    at.git(*shlex.split(run_json("fsck", "--raw", "HEAD~2..HEAD", code=6)["command"])[1:])
    assert at.git("rev-parse", "HEAD~2") == before
    found = run_json("fsck", "--raw", "HEAD~2..HEAD")
    assert found == {"problems": [], "command": ""}


def test_each_commit_of_a_range_has_its_own_attributes(at, run_json) -> None:
    at.write(b"*.bin -filter\n", "da\nta/.gitattributes")
    at.write(b"*.bin -filter\n", "data/.gitattributes")
    for folder in ("data", "da\nta"):
        at.write(LARGE, f"{folder}/a.bin")
    at.git("add", "--all")
    at.git("commit", "--quiet", "-m", "meant")
    at.git("rm", "--quiet", "data/.gitattributes")
    at.write(LARGE + b" ", "data/b.bin")
    at.write(LARGE + b" ", "da\nta/b.bin")
    at.git("add", "--all")
    at.git("commit", "--quiet", "-m", "not meant")
    commit = at.git("rev-parse", "--short=12", "HEAD")
    found = run_json("fsck", "--raw", "HEAD~2..HEAD", code=6)
    assert kinds(found) == [("untracked", f"{commit}:data/b.bin")]


def test_a_file_that_only_a_merge_commit_has_is_found_once(at, run_json) -> None:
    at.git("switch", "--quiet", "-c", "side", "HEAD^0")
    at.git("commit", "--quiet", "--allow-empty", "-m", "side")
    at.git("switch", "--quiet", "-")
    at.git("commit", "--quiet", "--allow-empty", "-m", "main")
    at.git("merge", "--quiet", "--no-commit", "side")
    at.write(LARGE, "a.bin")
    at.git("add", "a.bin")
    at.git("commit", "--quiet", "-m", "merge")
    merge = at.git("rev-parse", "--short=12", "HEAD")
    found = run_json("fsck", "--raw", "HEAD^1..HEAD", "HEAD", code=6)
    assert kinds(found) == [("untracked", f"{merge}:a.bin")]


def test_a_commit_that_does_not_exist_is_an_error(at) -> None:
    assert main(["fsck", "--raw", "nowhere"]) == 3
    assert main(["fsck", "--raw", "nowhere..HEAD"]) == 3


@pytest.mark.parametrize("option", ["--full", "--repair", "--remote"])
def test_it_takes_no_other_option(at, option) -> None:
    assert main(["fsck", "--raw", "HEAD", option]) == 2


def test_commits_need_the_option_and_the_hint_has_it(at, capsys) -> None:
    assert main(["fsck", "HEAD~1..HEAD", "a b"]) == 2
    assert "hint: git theta fsck --raw 'HEAD~1..HEAD' 'a b'\n" in capsys.readouterr().err
