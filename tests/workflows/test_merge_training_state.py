"""Checkpoints with the state of an optimizer, which has other entries on each branch."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from helpers import Repo, WithHistory

PATH = "training.npz"


def _checkpoint(seed: int, *, trained: bool) -> bytes:
    noise = np.random.default_rng(seed)
    state = {f"state.{n}.average": noise.normal(size=8) for n in range(24)} if trained else {}
    state |= {f"state.{n}.step": np.array([5.0]) for n in range(24)} if trained else {}
    file = io.BytesIO()
    np.savez(file, weight=noise.normal(size=8), **state)
    return file.getvalue()


def _parted(repo: Repo) -> None:
    repo.git("theta", "track", "*.npz")
    repo.write(_checkpoint(1, trained=True), PATH)
    repo.commit("base")
    repo.switch("-b", "side")
    repo.write(_checkpoint(2, trained=True), PATH)
    repo.commit("side")
    repo.switch("main")
    repo.write(_checkpoint(3, trained=False), PATH)
    repo.commit("main")
    assert repo.run("merge", "side", check=False).returncode == 1


@pytest.fixture
def parted(with_history: WithHistory) -> Repo:
    """Return a repository in which a merge stopped: ``main`` lost the state of the optimizer, ``side`` changed it."""
    return with_history(_parted)


def test_conflicts_whose_names_differ_only_in_numbers_share_a_line_if_there_are_many(parted: Repo) -> None:
    shown = parted.run("theta", "resolve", check=False).stdout
    assert "  state.{0-23}.average, 24 parameters  (deleted by ours, changed by theirs)\n" in shown


def test_if_no_file_can_hold_what_a_side_leaves_the_message_says_why_and_what_to_do(parted: Repo) -> None:
    done = parted.run("theta", "resolve", "--method", "theirs", check=False)
    assert done.returncode != 0
    assert "its layout needs state.0.step, state.1.step, state.10.step and 21 more" in done.stderr
    assert "git checkout --ours PATH && git add PATH" in done.stderr
    parted.git("checkout", "--theirs", PATH)
    parted.git("add", PATH)
    parted.git("commit", "--quiet", "--no-edit")
    assert parted.git("rev-parse", f"HEAD:{PATH}") == parted.git("rev-parse", f"side:{PATH}")
