"""git theta diff with its views and limits; git's own commands print the same."""

import json
import os
import pty
import subprocess
import sys

import numpy as np
import pytest
from helpers import Repo
from safetensors.numpy import save

from git_theta_ext.cli.main import main

MODEL = "model.safetensors"
NAMES = [f"layers.{n}.{role}.weight" for n in range(3) for role in ("up", "down")]


def tensors(seed=1):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(16, 24)).astype(np.float32) for name in NAMES} | {"norm": np.ones(16, np.float32)}


def trained(values):
    """Return a version with a LoRA of rank 2 merged into two layers, a small change, a rename and a cast."""
    rng = np.random.default_rng(2)
    new = dict(values)
    for name in NAMES[2:]:
        if name.endswith("up.weight"):
            new[name] = values[name] + 0.02 * (rng.normal(size=(16, 2)) @ rng.normal(size=(2, 24))).astype(np.float32)
    new[NAMES[1]] = values[NAMES[1]] + np.float32(1e-4)
    new["layers.1.down.scale"] = new.pop("layers.1.down.weight")
    new["norm"] = values["norm"].astype(np.float16)
    return new


def two_versions(repo):
    values = tensors()
    repo.write(save(values), MODEL)
    repo.commit("one")
    repo.write(save(trained(values)), MODEL)
    repo.commit("two")


@pytest.fixture
def versions(with_history, monkeypatch) -> Repo:
    repo = with_history(two_versions)
    monkeypatch.chdir(repo.path)
    return repo


@pytest.fixture
def diff(versions, capsys):
    """Return what git theta diff prints between both versions, and its exit code."""

    def run(*words):
        code = main(["diff", "HEAD~", "HEAD", *words])
        captured = capsys.readouterr()
        return captured.out, captured.err, code

    return run


def test_the_views_show_structure_and_what_moved_most(diff, versions):
    text, _, code = diff()
    lines = text.splitlines()
    assert code == 0
    assert [line[0] for line in lines[2:]] == [">", "~", "~", "~"]
    assert "renamed from layers.1.down.weight" in lines[2]
    assert lines[3].startswith("~ norm ")
    assert "F32 -> F16 [16]" in lines[3]
    assert lines[4].startswith("~ layers.{1-2}.up.weight")
    assert lines[4].endswith("rank 2")
    assert lines[5].startswith("~ layers.0.down.weight")
    assert "cosine" in diff("--full")[0]
    assert diff("--stat")[0].splitlines()[-1].startswith(" 4 modified, 1 renamed, 2 unchanged")
    assert diff("--markdown")[0].startswith("### `model.safetensors`")
    env = dict(os.environ)  # without the width of a terminal, which readline adds for other processes
    git = versions.git("show", "--ext-diff", "--format=", "HEAD", env=env)
    assert git == text.strip()
    assert text.strip() in versions.git("log", "-p", "-1", "--ext-diff", env=env)


def test_a_part_and_large_changes_only(diff):
    part = diff("--param", "layers.*.up.*")[0].splitlines()
    assert part[1].startswith("2 modified, 1 unchanged")
    assert len(part) == 3
    text, warned, code = diff("--param", "norm", "--param", "layer.*", "--fail-if", "modified")
    assert (text.count("\n"), warned.splitlines()[0], code) == (
        3, "warning: no parameter of the models that differ matches 'layer.*'", 17
    )  # fmt: skip
    assert diff("--param", "layer.*", "--quiet")[0] == ""
    large = diff("--atol", "0.001")[0]
    assert "layers.0.down" not in large
    assert "1 parameter changed by at most 0.001" in large
    assert diff("--param", "layers.0.up.*", "--exit-code") == ("", "", 0)
    assert diff("--param", "layers.0.down.*", "--atol", "0.001", "--exit-code") == ("", "", 0)
    assert diff("--atol", "-1")[2] == 2


def test_limits_decide_about_the_exit_code(diff, versions):
    assert diff("--fail-if", "rank > 2 and rel_change > 0.01")[2] == 0
    _, errors, code = diff("--fail-if", "rel_change > 0.01", "--quiet")
    assert code == 17
    assert "2 changes with rel_change > 0.01: layers.1.up.weight, layers.2.up.weight" in errors
    _, errors, _ = diff("--fail-if", "modified", "--param", "layers.1.*", "--", MODEL)
    assert errors.splitlines()[-2:] == [
        f"hint: git theta diff '--param=layers.1.*' 'HEAD~' HEAD --full -- {MODEL}",
        "more: git theta help ci",
    ]
    assert diff("--fail-if", "renamed", "--param", "*.up.*")[2] == 0
    assert diff("--fail-if", "size > 3")[2] == 2
    text, _, code = diff("--fail-if", "recast", "--json")
    assert code == 17
    assert json.loads(text)["limits"] == [{"limit": "recast", "exceeded": [{"path": MODEL, "name": "norm"}]}]


def test_the_structure_alone_reads_no_values(diff, versions):
    for pack in (versions.path / ".git/theta/packs").rglob("*"):
        if pack.is_file():
            pack.unlink()
    lines = diff("--structure")[0].splitlines()
    assert lines[4] == "~ layers.0.down.weight    F32 [16,24]      modified"
    assert len(lines) == 6
    assert diff("--quiet") == ("", "", 1)
    assert diff("--structure", "--fail-if", "added", "--quiet")[2] == 1
    assert diff("--structure", "--atol", "1")[2] == 2


def test_limits_that_cannot_be_checked_are_an_error(diff, versions):
    for pack in (versions.path / ".git/theta/packs").rglob("*"):
        if pack.is_file():
            pack.unlink()
    assert diff("--fail-if", "rel_change > 1")[2] == 7
    assert diff("--fail-if", "added")[2] == 0


def test_a_terminal_gets_a_pager_and_colours(versions):
    reading, terminal = pty.openpty()
    versions.git("config", "pager.diff", "true")
    environment = {**os.environ, "GIT_PAGER": "sed 's/^/paged: /'", "TERM": "xterm"}
    words = ["git", "theta", "diff", "HEAD~", "HEAD"]
    subprocess.run(words, stdout=terminal, cwd=versions.path, env=environment, check=True)
    os.close(terminal)
    shown = b""
    while piece := _read(reading):
        shown += piece
    os.close(reading)
    lines = shown.decode().splitlines()
    assert lines[0] == "paged: \x1b[1mdiff --theta model.safetensors\x1b[m"
    assert all(line.startswith("paged: ") for line in lines)


def _read(terminal):
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # Linux: all writers have closed it
        return b""


def test_a_structure_starts_without_what_other_diffs_need(versions):
    code = (
        "import sys; from git_theta_ext.cli.main import main; main(['diff', '--structure', 'HEAD~', 'HEAD'])\n"
        "modules = ('numpy', 'git_theta_ext.checkpoint.external_data', 'git_theta_ext.operations.diff.loras', "
        "'git_theta_ext.operations.history.status', 'git_theta_ext.comparison.limits')\n"
        "print([name for name in modules if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
