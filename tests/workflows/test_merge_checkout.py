"""The checkout after a merge of small files, which the shell that git starts for the filter does without Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import Repo, WithHistory, safetensors

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="scripts need the process table")

BOTH = ("a.safetensors", "b/large.safetensors", "d.safetensors")
THEIRS = "c.safetensors"
SIZES = {BOTH[0]: 100, BOTH[1]: 70_000, BOTH[2]: 1, THEIRS: 10}
FILTER = "git_theta_ext.operations.filter.process"


def _content(path: str, value: float) -> bytes:
    return safetensors({"w": ("F32", (SIZES[path],), np.full(SIZES[path], value, "<f4").tobytes())})


def _write(repo: Repo, value: float, paths: Sequence[str]) -> None:
    for path in paths:
        repo.write(_content(path, value), path)
    repo.commit(str(value))


def _branches(repo: Repo) -> None:
    _write(repo, 1, [*BOTH, THEIRS])
    repo.switch("-b", "side")
    _write(repo, 2, BOTH)
    repo.git("branch", "mixed")
    repo.switch("main")
    _write(repo, 4, BOTH)
    repo.switch("mixed")
    _write(repo, 5, [THEIRS])
    repo.switch("main")


def _starts_python(repo: Repo, *words: str, **variables: str) -> bool:
    """Merge by average, and return whether the filter started Python."""
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1", **variables}
    done = repo.run("-c", "theta.merge.method=average", "merge", "--quiet", *words, env=env)
    return FILTER in [line.rpartition(" ")[2] for line in done.stderr.splitlines()]


def _problems(repo: Repo) -> list[str]:
    problems = [problem for path in BOTH for problem in repo.problems(path, _content(path, 3))]
    young = [
        path for path in BOTH if (repo.path / path).stat().st_mtime > (repo.path / ".git/index").stat().st_mtime - 1
    ]
    left = [
        path for kind in ("checkout/scripts", "merging/drafts") for path in (repo.path / ".git/theta" / kind).glob("*")
    ]
    return problems + young + [str(path) for path in left]


def test_checkout_after_a_merge_of_small_files_starts_no_python(with_history: WithHistory) -> None:
    repo = with_history(_branches)
    assert not _starts_python(repo, "side")
    assert _problems(repo) == []
    (repo.path / BOTH[0]).unlink()
    repo.git("checkout", "--quiet", BOTH[0])
    assert _problems(repo) == []


def test_python_checks_out_the_files_that_one_side_changed(with_history: WithHistory) -> None:
    repo = with_history(_branches)
    assert _starts_python(repo, "mixed")
    assert repo.problems(THEIRS, _content(THEIRS, 5)) == []
    assert _problems(repo) == []


def _after_driver(repo: Repo, command: str) -> None:
    """Let the shell run a command when the merge driver has ended. Python gives the driver's other answers then."""
    driver = repo.git("config", "merge.theta.driver").strip()
    repo.git("config", "merge.theta.driver", f"({driver}); code=$?; {command}; exit $code")


@pytest.mark.parametrize("racy", [True, False])
def test_no_script_is_left_for_a_filter_that_runs_already(
    with_history: WithHistory, tmp_path: Path, racy: bool
) -> None:
    repo = with_history(_branches)
    if racy:  # git compares files that are as new as its index before it merges
        index = (repo.path / ".git/index").stat().st_mtime_ns
        for path in BOTH:
            os.utime(repo.path / path, ns=(index, index))
        repo.git("update-index", "--refresh")
        os.utime(repo.path / ".git/index", ns=(index, index))
    _after_driver(repo, f"ls .git/theta/checkout/scripts >> {tmp_path / 'found'} 2>&1")
    assert _starts_python(repo, "side") is racy
    assert any(word.isdigit() for word in (tmp_path / "found").read_text().split()) is not racy
    assert _problems(repo) == []


def test_python_puts_in_place_what_the_shell_was_to_give(with_history: WithHistory, tmp_path: Path) -> None:
    repo = with_history(_branches)
    _after_driver(repo, f"ln .git/theta/merging/drafts/*/* {tmp_path} 2>/dev/null")
    assert _starts_python(repo, "mixed")
    linked = [entry for entry in tmp_path.iterdir() if entry.is_file()]
    assert len(linked) == len(BOTH)
    # Git asks for what their side changed before it asks for the last one.
    assert [any(link.samefile(repo.path / path) for link in linked) for path in BOTH] == [False, False, True]
    assert _problems(repo) == []


def test_a_merge_that_is_not_committed_may_be_one_that_stopped(with_history: WithHistory) -> None:
    repo = with_history(_branches)
    assert _starts_python(repo, "--no-commit", "side")
    assert [repo.read(path) == _content(path, 3) for path in BOTH] == [True] * 3
    assert repo.git("status", "--porcelain").split() == [word for path in BOTH for word in ("M", path)]


def test_manifests_that_a_user_wants_are_checked_out(with_history: WithHistory) -> None:
    repo = with_history(_branches)
    _starts_python(repo, "side", GIT_THETA_SKIP_SMUDGE="1")
    assert [repo.read(path).startswith(b"git-theta manifest") for path in BOTH] == [True] * 3


@pytest.mark.parametrize(
    ("key", "value"), [("core.fsync", "index"), ("filter.theta.process", "git-theta filter-process")]
)
def test_python_checks_out_what_the_configuration_wants_of_it(with_history: WithHistory, key: str, value: str) -> None:
    repo = with_history(_branches)
    repo.git("config", key, value)
    assert _starts_python(repo, "side")
    assert _problems(repo) == []


def test_files_that_git_does_not_look_at_again_are_read_by_the_next_status(with_history: WithHistory) -> None:
    repo = with_history(_branches)
    programs = repo.path.with_name("programs")
    programs.mkdir()
    (programs / "cmp").write_text("#!/bin/sh\nexit 1\n")
    (programs / "cmp").chmod(0o755)
    assert not _starts_python(repo, "side", PATH=f"{programs}:{os.environ['PATH']}")
    assert repo.cleans("status") == len(BOTH)
    assert _problems(repo) == []
