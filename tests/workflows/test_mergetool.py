"""``git theta mergetool`` asks about groups of conflicts until they are settled."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, WithHistory, model

PATTERN = "encoder.layer.{0-2}.attention.weight"


def _undecided(repo: Repo) -> None:
    names = (EMBEDDING, *ATTENTION[:3], "position_ids")
    for branch, seed in (("main", 1), ("side", 2), ("main", 3)):
        repo.switch(*(["-b"] if branch == "side" else []), branch)
        repo.write_model(seed=1, changed=dict.fromkeys(names, seed))
        repo.commit(branch)
    assert repo.run("-c", "theta.merge.method=conflict", "merge", "side", check=False).returncode == 1


@pytest.fixture
def undecided(with_history: WithHistory) -> Repo:
    """Return a repository that is merging: the embedding, three attentions and the positions are in conflict."""
    return with_history(_undecided)


def answered(repo: Repo, *answers: str, paths: tuple[str, ...] = (MODEL,)) -> subprocess.CompletedProcess[str]:
    return repo.run("theta", "mergetool", *paths, input="".join(f"{a}\n" for a in answers), check=False)


def test_answers_settle_groups_and_the_file_is_staged_and_written(undecided: Repo) -> None:
    done = answered(undecided, "o", "theirs", "b")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"resolved {MODEL}\n"
    assert re.findall(r"^(\S+) +\((\d) groups? to go\)$", done.stderr, re.MULTILINE) == [
        (EMBEDDING, "3"),
        (PATTERN, "2"),
        ("position_ids", "1"),
    ]
    changed = {EMBEDDING: 3, **dict.fromkeys(ATTENTION[:3], 2)}
    assert undecided.read() == model(1, changed)
    assert undecided.git("status", "--porcelain") == f"M  {MODEL}"
    undecided.git("commit", "--quiet", "--no-edit")
    undecided.git("theta", "merge", "--replay")


def test_a_method_with_options_is_an_answer(undecided: Repo) -> None:
    done = answered(undecided, "slerp t=0", "t", "o")
    assert done.returncode == 0, done.stderr
    assert undecided.read() == model(1, {EMBEDDING: 3, **dict.fromkeys(ATTENTION[:3], 2), "position_ids": 3})


def test_distances_cosines_and_signs_are_shown(undecided: Repo) -> None:
    output = answered(undecided, "q").stderr
    assert "1 parameter, F32 [256,64], 65.5 kB: changed by both" in output
    assert re.search(r"^ +ours +1[34]\d % +100 %$", output, re.MULTILINE)
    assert re.search(r"^ +theirs +1[34]\d % +100 % +0\.[45]\d$", output, re.MULTILINE)
    assert re.search(r"signs conflict in 3\d(\.\d)? % of what several sides changed", output)


def test_previews_change_nothing_and_have_a_row_for_each_method(undecided: Repo) -> None:
    before = undecided.read()
    output = answered(undecided, "p", "p ties density=0.5", "p karcher iterations=x", "?", "q").stderr
    for method in ("average", "task_arithmetic", "ties", "dare", "consensus_ta", "model_stock"):
        assert re.search(rf"^  {method}\b.* +[\d.]+ % +[\d.]+ % +0\.\d\d +0\.\d\d$", output, re.MULTILINE), method
    assert re.search(r"^  ties density=0.5 .*$", output, re.MULTILINE)
    assert "option 'iterations' of 'karcher' is 'x'" in output
    assert "quit: leave everything else in conflict" in output
    assert undecided.read() == before


def test_a_preview_of_what_cannot_be_computed_says_why(undecided: Repo) -> None:
    output = answered(undecided, "k", "k", "p average", "q").stderr
    assert "I64 values are not merged by arithmetic" in output


def test_a_split_group_is_asked_about_one_by_one(undecided: Repo) -> None:
    done = answered(undecided, "o", "s", "o", "t", "b", "t")
    assert done.returncode == 0, done.stderr
    changed = {EMBEDDING: 3, ATTENTION[0]: 3, ATTENTION[1]: 2, "position_ids": 2}
    assert undecided.read() == model(1, changed)


@pytest.mark.parametrize("end", [["q"], []], ids=["quit", "end of input"])
def test_what_was_answered_is_kept_and_the_rest_waits(undecided: Repo, end: list[str]) -> None:
    done = answered(undecided, "o", *end)
    assert done.returncode == 1
    assert done.stdout == f"{MODEL}: 4 conflicts left\n"
    assert "parameters in conflict" in undecided.run("theta", "resolve", MODEL, check=False).stdout
    assert answered(undecided, "t", "t").returncode == 0
    assert undecided.read() == model(1, {EMBEDDING: 3, **dict.fromkeys([*ATTENTION[:3], "position_ids"], 2)})


def test_skipped_groups_are_left(undecided: Repo) -> None:
    done = answered(undecided, "k", "o", "")
    assert done.returncode == 1
    assert done.stdout == f"{MODEL}: 2 conflicts left\n"


def test_answers_that_make_no_sense_are_asked_again(undecided: Repo) -> None:
    done = answered(undecided, "avarage", "ties density=7", "o", "o", "average", "o")
    assert done.returncode == 0, done.stderr
    for words in ("did you mean 'average'", "option 'density' of 'ties'", "not merged by arithmetic"):
        assert words in done.stderr
    assert undecided.read() == model(1, dict.fromkeys([EMBEDDING, *ATTENTION[:3], "position_ids"], 3))


def test_several_branches_are_reported_apart(repo: Repo) -> None:
    repo.write_model(seed=1)
    repo.commit("base")
    for name, seed in (("a", 2), ("b", 3)):
        repo.switch("-b", name, "main")
        repo.write_model(seed=1, changed={EMBEDDING: seed})
        repo.commit(name)
    repo.switch("main")
    repo.write_model(seed=1, changed={EMBEDDING: 4})
    repo.commit("main")
    assert repo.run("merge", "-s", "theta", "-X", "method=conflict", "a", "b", check=False).returncode == 1
    done = answered(repo, "t2")
    assert done.returncode == 0, done.stderr
    assert "[o t1 t2 b a METHOD p s k q ?]" in done.stderr
    assert repo.read() == model(1, {EMBEDDING: 3})


def test_without_paths_all_checkpoints_are_asked_about(undecided: Repo) -> None:
    done = answered(undecided, "o", "o", "o", paths=())
    assert done.returncode == 0, done.stderr
    again = answered(undecided, paths=())
    assert again.returncode == 2
    assert "no checkpoint has conflicts" in again.stderr


def test_result_for_programs(undecided: Repo) -> None:
    done = answered(undecided, "o", "q", paths=("--json", MODEL))
    assert json.loads(done.stdout) == {"schema": 1, "checkpoints": [{"path": MODEL, "conflicts": 4}]}


def test_git_runs_it_as_a_merge_tool_of_its_own(undecided: Repo) -> None:
    done = undecided.run("mergetool", "--tool=theta", "--no-prompt", input="o\ntheirs\nb\n", check=False)
    assert done.returncode == 0, done.stderr
    assert undecided.read() == model(1, {EMBEDDING: 3, **dict.fromkeys(ATTENTION[:3], 2)})
    assert undecided.git("ls-files", "--unmerged") == ""
    undecided.git("commit", "--quiet", "--no-edit")
    assert undecided.git("status", "--porcelain", "--untracked-files=no") == ""


def test_git_is_reported_that_a_conflict_is_left(undecided: Repo) -> None:
    done = undecided.run("mergetool", "--tool=theta", "--no-prompt", input="o\nq\n", check=False)
    assert done.returncode != 0
    assert undecided.git("ls-files", "--unmerged") != ""
    assert undecided.run("commit", "--no-edit", check=False).returncode != 0


def test_it_works_at_a_terminal(undecided: Repo) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["git", "theta", "mergetool", MODEL], cwd=undecided.path, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, b"o\nt\no\n")
    output = b""
    while b"resolved" not in output:
        output += os.read(ours, 4096)
    assert process.wait(60) == 0
    os.close(ours)
    assert "what to do?" in output.decode()
    assert undecided.git("status", "--porcelain") == f"M  {MODEL}"
