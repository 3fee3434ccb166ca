"""Faults of the original Git-Theta, each of which must never come back."""

from __future__ import annotations

import math
import os
import shutil
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, model, safetensors, tensors, values

if TYPE_CHECKING:
    from pathlib import Path


def vector(*numbers: float) -> bytes:
    return safetensors({"w": ("F32", (len(numbers),), struct.pack(f"<{len(numbers)}f", *numbers))})


def branches(repo: Repo, base: bytes, ours: bytes, theirs: bytes) -> None:
    """Commit a base, and one more version on each of ``main`` (checked out) and ``side``."""
    repo.write(base)
    repo.commit("base")
    repo.switch("-b", "side")
    repo.write(theirs)
    repo.commit("theirs")
    repo.switch("main")
    repo.write(ours)
    repo.commit("ours")


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan, 1e38])
def test_change_beside_inf_nan_or_huge_values_is_kept(repo: Repo, odd: float) -> None:
    first, second = vector(odd, 1.0, 2.0), vector(odd, 1.0, 3.0)
    repo.write(first)
    repo.commit("first", by_filter=True)
    repo.write(second)
    repo.commit("second", by_filter=True)
    (repo.path / MODEL).unlink()
    repo.git("checkout", "--", MODEL)
    assert repo.problems(MODEL, second) == []
    repo.git("checkout", "--quiet", "HEAD~1")
    assert repo.problems(MODEL, first) == []


def test_tiny_change_of_one_element_is_kept(repo: Repo) -> None:
    repo.write(vector(1.0, 2.0, 3.0))
    repo.commit("first", by_filter=True)
    second = vector(1.0, float(np.nextafter(np.float32(2), np.float32(3))), 3.0)
    repo.write(second)
    repo.commit("second", by_filter=True)
    (repo.path / MODEL).unlink()
    repo.git("checkout", "--", MODEL)
    assert repo.read() == second


def test_average_of_two_and_four_is_three_and_the_file_stays(repo: Repo) -> None:
    branches(repo, vector(1.0), vector(2.0), vector(4.0))
    repo.git("merge", "--quiet", "side")
    assert repo.problems(MODEL, vector(3.0)) == []


def test_same_change_on_both_sides_is_no_conflict(repo: Repo) -> None:
    same = tensors(1)
    same["position_ids"] = ("I64", (1, 64), values("position_ids", 5))
    ours = same | {ATTENTION[0]: ("F32", (64, 64), values(ATTENTION[0], 7))}
    branches(repo, safetensors(tensors(1)), safetensors(ours), safetensors(same))
    repo.git("merge", "--quiet", "side")
    assert repo.problems(MODEL, safetensors(ours)) == []


def test_parameter_added_equally_on_both_sides_is_taken(repo: Repo) -> None:
    added = {**tensors(1), "head.weight": ("I64", (1,), b"12345678")}
    ours = added | {ATTENTION[0]: ("F32", (64, 64), values(ATTENTION[0], 7))}
    branches(repo, safetensors(tensors(1)), safetensors(ours), safetensors(added))
    repo.git("merge", "--quiet", "side")
    assert repo.problems(MODEL, safetensors(ours)) == []


def test_parameter_deleted_on_both_sides_is_gone(repo: Repo) -> None:
    fewer = tensors(1)
    del fewer["position_ids"]
    ours = fewer | {ATTENTION[0]: ("F32", (64, 64), values(ATTENTION[0], 7))}
    theirs = fewer | {ATTENTION[1]: ("F32", (64, 64), values(ATTENTION[1], 8))}
    branches(repo, safetensors(tensors(1)), safetensors(ours), safetensors(theirs))
    repo.git("merge", "--quiet", "side")
    assert repo.problems(MODEL, safetensors(ours | {ATTENTION[1]: theirs[ATTENTION[1]]})) == []


def test_push_after_a_merge_that_git_committed_itself(forked: Repo, shared: Repo, tmp_path: Path) -> None:
    forked.git("merge", "--quiet", "side")
    forked.git("push", "--quiet", "origin", "main")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    copy = Repo(tmp_path / "clone")
    assert copy.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []
    copy.git("push", "--quiet", "origin", "main:refs/heads/new", "main:refs/tags/v1")
    copy.git("push", "--quiet", "origin", "--delete", "new", "v1")


@pytest.mark.skipif(not shutil.which("git-lfs"), reason="git-lfs is not installed")
def test_lfs_prune_deletes_nothing_of_ours(two: Repo) -> None:
    two.git("lfs", "install", "--local", "--skip-repo")
    two.git("lfs", "prune")
    two.git("checkout", "--quiet", "one")
    assert two.problems(MODEL, model(1)) == []


def test_install_keeps_hooks_of_others(repo: Repo) -> None:
    hook = repo.path / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ngit lfs pre-push\n")
    hook.chmod(0o755)
    said = repo.run("theta", "install", "--local")
    assert hook.read_text() == "#!/bin/sh\ngit lfs pre-push\n"
    if "hook.theta" not in repo.git("config", "--list"):
        assert "git theta hook pre-push" in said.stdout + said.stderr


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "complex64", "bool", "int8"])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_every_dtype_can_be_added(repo: Repo, dtype: str, kind: str) -> None:
    import torch
    from safetensors.torch import save_file

    path = f"model.{kind}"
    weight = {"w": torch.arange(12).to(getattr(torch, dtype)).reshape(3, 4)}
    if kind == "pt":
        torch.save(weight, repo.path / path)
    else:
        save_file(weight, repo.path / path)
    data = repo.read(path)
    repo.commit("one")
    (repo.path / path).unlink()
    repo.git("checkout", "--", path)
    assert repo.problems(path, data) == []
    assert '"w"\t' in repo.git("cat-file", "blob", f"HEAD:{path}")


def test_format_and_metadata_come_back_in_a_clone(repo: Repo, shared: Repo, tmp_path: Path) -> None:
    data = safetensors(tensors(1), {"license": "kept", "format": "pt"})
    repo.write(data)
    repo.commit("one")
    repo.git("push", "--quiet", "origin", "main")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    assert Repo(tmp_path / "clone").read() == data


def test_squash_branch_deletion_and_gc_leave_everything_recoverable(forked: Repo) -> None:
    forked.git("merge", "--quiet", "--squash", "side")
    forked.git("commit", "--quiet", "--message", "squashed")
    forked.git("branch", "--quiet", "-D", "side")
    forked.git("reflog", "expire", "--expire=now", "--all")
    forked.git("gc", "--quiet", "--prune=now")
    (forked.path / MODEL).unlink()
    forked.git("checkout", "--", MODEL)
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []


def test_theta_add_leaves_file_and_status_as_git_add_does(two: Repo) -> None:
    data = two.write_model(seed=3)
    os.utime(two.path / MODEL, (1_000_000_000, 1_000_000_000))  # git reads a file again that is as young as its index
    two.git("theta", "add", MODEL)
    assert two.read() == data
    assert two.git("status", "--porcelain") == f"M  {MODEL}"
    assert two.cleans("status") == 0
    by_theta = two.git("rev-parse", f":{MODEL}")
    two.git("reset", "--quiet")
    two.git("add", MODEL)
    assert two.git("rev-parse", f":{MODEL}") == by_theta


def test_diff_of_added_deleted_and_renamed_models(two: Repo) -> None:
    two.git("mv", MODEL, "moved.safetensors")
    two.write_model("new.safetensors", seed=8)
    two.git("add", "--all")
    two.git("commit", "--quiet", "--message", "more")
    for command in (["diff", "HEAD~1"], ["diff", "--find-renames", "HEAD~1"], ["diff", "HEAD", "HEAD~1"]):
        shown = two.git(*command)
        assert EMBEDDING in shown
        assert "\x1b" not in shown


def test_worktree_add_and_false_values(two: Repo, tmp_path: Path) -> None:
    env = {**os.environ, "GIT_THETA_SKIP_SMUDGE": "False"}
    two.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "one", env=env)
    assert Repo(tmp_path / "linked").problems(MODEL, model(1)) == []


def test_bare_pattern_in_subfolder_and_pattern_with_space_reach_a_clone(
    repo: Repo, shared: Repo, tmp_path: Path
) -> None:
    repo.git("theta", "track", "weights", "my weights")
    for seed, path in enumerate(("sub/weights", "my weights")):
        repo.write_model(path, seed=seed)
    repo.commit("two files")
    for path in ("sub/weights", "my weights"):
        assert repo.git("cat-file", "blob", f"HEAD:{path}").startswith("git-theta manifest 1\n")
    repo.git("push", "--quiet", "origin", "main")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    copy = Repo(tmp_path / "clone")
    assert copy.problems("sub/weights", model(0)) == []
    assert copy.problems("my weights", model(1)) == []


def test_new_parameters_optimizer_states_and_deleted_models(repo: Repo, shared: Repo) -> None:
    import torch

    layer = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    torch.save({"model": layer.state_dict(), "optimizer": optimizer.state_dict(), "step": 1}, repo.path / "train.pt")
    data = repo.read("train.pt")
    repo.write_model(seed=1)
    repo.commit("one")
    repo.write(safetensors({**tensors(1), "new.weight": ("F32", (2, 2), bytes(16))}))
    repo.commit("a parameter of no earlier commit")
    repo.git("rm", "--quiet", MODEL)
    repo.git("commit", "--quiet", "--message", "deleted")
    repo.git("push", "--quiet", "origin", "main")
    assert shared.git("rev-parse", "main") == repo.git("rev-parse", "main")
    (repo.path / "train.pt").unlink()
    repo.git("checkout", "--", "train.pt")
    assert repo.problems("train.pt", data) == []
