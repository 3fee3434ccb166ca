"""What programs import that git starts, and which git processes filters start: both cost more than small files do."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from helpers import EMBEDDING, Repo, WithHistory, model

from git_theta_ext.coding import kernels

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("a.safetensors", "b.safetensors", "c.safetensors")
NEVER = (
    *("torch", "rich", "yaml", "obstore", "git", "git_theta_ext.transfer", "git_theta_ext.interfaces.remotes"),
    *("dataclasses", "inspect", "argparse", "shutil", "importlib.metadata"),
)
ONLY_INSTEAD = () if kernels.compiled is None else ("numpy", "platform")
"""What does the work of the compiled kernels if these are missing, and imports."""


NOT_IN_SMALL_MERGES = (
    *("queue", "string", "git_theta_ext.git.tracked_config", "git_theta_ext.merging.devices.cuda"),
    *(f"git_theta_ext.merging.thresholds.{name}" for name in ("histograms", "radix_select", "search", "windows")),
    *(f"git_theta_ext.merging.planning.{name}" for name in ("adapter_config", "adapter_meaning", "lora_scales")),
    *("git_theta_ext.merging.execution.pairs", "git_theta_ext.operations.merge.adapter_scales"),
)
"""What other methods, models and devices need."""


_FIRST = "imported package"
"""The heading of the modules that a program imports."""


def _two(repo: Repo) -> None:
    for seed, branch in ((0, "main"), (10, "next")):
        if seed:
            repo.switch("-b", branch)
        for n, path in enumerate(FILES):
            repo.write(model(n, {EMBEDDING: seed + n}), path)
        repo.commit(branch)
    repo.git("checkout", "--quiet", "main")


def _traced(repo: Repo, folder: Path, *words: str) -> tuple[set[str], list[str]]:
    """Return the modules that programs import after the start of Python, and the git commands that they start."""
    trace = folder / "trace"
    env = os.environ | {"PYTHONPROFILEIMPORTTIME": "1", "GIT_TRACE2_EVENT": str(trace)}
    done = repo.run(*words, env=env)
    lines = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    modules: set[str] = set()
    while "site" in lines:  # after it comes what the program imports, and then the next program
        del lines[: lines.index("site") + 1]
        modules.update(lines[: lines.index(_FIRST) if _FIRST in lines else None])
    events = map(json.loads, trace.read_text().splitlines())
    commands = [event["argv"][1] for event in events if event["event"] == "start" and "/" in event["sid"]]
    return modules, commands


def _unwanted(modules: set[str], *more: str) -> set[str]:
    return {name for name in modules for no in (*NEVER, *more) if name == no or name.startswith(f"{no}.")}


def test_checkout_of_small_files_starts_with_little(with_history: WithHistory, tmp_path: Path) -> None:
    repo = with_history(_two)
    modules, commands = _traced(repo, tmp_path, "checkout", "--quiet", "next")
    assert "git_theta_ext.checkpoint.populate" in modules
    assert _unwanted(modules, *ONLY_INSTEAD, "concurrent", "logging") == set()
    assert sorted(commands) == ["check-attr", "config", "rev-parse"]
    assert [repo.read(path) == model(n, {EMBEDDING: 10 + n}) for n, path in enumerate(FILES)] == [True] * 3


def test_add_of_small_files_asks_for_their_attributes_once(with_history: WithHistory, tmp_path: Path) -> None:
    repo = with_history(_two)
    for n, path in enumerate(FILES):
        repo.write(model(n, {EMBEDDING: 20 + n}), path)
    modules, commands = _traced(repo, tmp_path, "add", "--all")
    assert "git_theta_ext.checkpoint.clean" in modules
    assert _unwanted(modules, *ONLY_INSTEAD, "concurrent", "logging", "traceback") == set()
    assert sorted(commands) == ["check-attr", "config", "rev-parse"]


@pytest.mark.skipif(kernels.compiled is None, reason="numpy does the work of the compiled kernels")
@pytest.mark.parametrize("method", ["average", "task_arithmetic", "dare"])
def test_merge_of_small_files_by_a_kernel_starts_with_little(
    with_history: WithHistory, tmp_path: Path, method: str
) -> None:
    repo = with_history(_two)
    repo.switch("-b", "other", "main")
    for n, path in enumerate(FILES):
        repo.write(model(n, {EMBEDDING: 20 + n}), path)
    repo.commit("other")
    repo.git("checkout", "--quiet", "next")
    modules, _ = _traced(repo, tmp_path, "-c", f"theta.merge.method={method}", "merge", "-m", "merged", "other")
    assert {"git_theta_ext.merging.execution.engine", "git_theta_ext.checkpoint.populate"} < modules
    unwanted = (*ONLY_INSTEAD, *NOT_IN_SMALL_MERGES, "concurrent", "logging", "traceback", "shutil")
    assert _unwanted(modules, *unwanted) == set()
    assert repo.git("status", "--porcelain") == ""


def test_diff_of_small_files_starts_with_little(with_history: WithHistory, tmp_path: Path) -> None:
    repo = with_history(_two)
    modules, _ = _traced(repo, tmp_path, "diff", "main", "next", "--", FILES[0])
    assert "git_theta_ext.operations.diff.measuring" in modules
    assert _unwanted(modules, "tempfile", "shutil", "concurrent", "logging") <= {"dataclasses", "inspect"}  # of numpy


@pytest.mark.parametrize("command", ["status", "ls-files", "du"])
def test_commands_that_only_look_import_nothing_that_merges_or_pushes(
    with_history: WithHistory, tmp_path: Path, command: str
) -> None:
    modules, _ = _traced(with_history(_two), tmp_path, "theta", command)
    assert "git_theta_ext.git.pathspecs" in modules
    unwanted = ("torch", "rich", "dataclasses", "concurrent", "git_theta_ext.merging", "git_theta_ext.transfer")
    assert [name for name in modules if name.startswith(unwanted)] == []
