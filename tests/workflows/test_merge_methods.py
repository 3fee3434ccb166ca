"""Merges by rules and by methods, through git."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import ATTENTION, MODEL, Repo, WithHistory, safetensors, tensors, values

from git_theta_ext.comparison.words import human_bytes

META = {"format": "pt", "note": "kept to the byte"}
NAME = ATTENTION[2]
SIDES = ("main", "side", "third")


def of(seed: int) -> np.ndarray:
    return np.frombuffer(values(NAME, seed), "<f4")


def statistics(seed: int) -> tuple[bytes, np.ndarray]:
    content = tensors(1)
    found = np.random.default_rng(seed).random(of(1).size, np.float32) + np.float32(0.5)
    return safetensors({f"fisher/{NAME}": ("F32", content[NAME][1], found.tobytes())}), found


def _branches(repo: Repo) -> None:
    repo.write_model(seed=1)
    repo.commit("base")
    for number, name in enumerate(SIDES[:2], 2):
        if name != "main":
            repo.switch("-b", name, "HEAD~1")
        repo.write_model(seed=1, changed={NAME: number})
        repo.commit(name)
    repo.switch("main")


@pytest.fixture
def branches(with_history: WithHistory) -> Repo:
    """Return a repository in which ``main`` and ``side`` changed one tensor to seeds 2 and 3."""
    return with_history(_branches)


def merged(repo: Repo) -> np.ndarray:
    from safetensors.torch import load

    found: np.ndarray = load(repo.read(MODEL))[NAME].numpy()
    return found.reshape(-1)


def test_rules_choose_methods_by_parameter(branches: Repo) -> None:
    rules = f'version: 1\nrules:\n  - {{match: "{NAME}", method: task_arithmetic, with: {{lambda: 0.25}}}}\n'
    branches.write(rules.encode(), ".thetamerge")
    branches.commit("rules")
    branches.git("merge", "--quiet", "side")
    expected = ((of(2) - of(1)) + (of(3) - of(1))) * np.float32(0.25) + of(1)
    assert np.array_equal(merged(branches), expected)


def test_the_command_line_beats_the_file(branches: Repo) -> None:
    branches.write(b"version: 1\ndefaults: {method: theirs}\n", ".thetamerge")
    branches.commit("rules")
    branches.git("merge", "--quiet", "-s", "theta", "-X", "method=average", "-X", "weights=3,1", "side")
    expected = ((of(2).astype(np.float64) * 3 + of(3)) / 4).astype(np.float32)
    assert np.array_equal(merged(branches), expected)


@pytest.mark.parametrize("words", [["side"], ["-s", "theta", "side", "third"]], ids=["two sides", "three sides"])
def test_rules_that_a_merged_branch_brings_count_from_the_next_merge_on(branches: Repo, words: list[str]) -> None:
    branches.switch("-b", "third", "main~1")
    branches.write_model(seed=1, changed={NAME: 4})
    branches.commit("third")
    branches.switch("side")
    branches.write(b"version: 1\ndefaults: {method: theirs}\n", ".thetamerge")
    branches.commit("rules")
    branches.switch("main")
    branches.git("merge", "--quiet", *words)
    sides = np.sort([of(seed).astype(np.float64) for seed in ((2, 3) if words == ["side"] else (2, 3, 4))], axis=0)
    assert np.array_equal(merged(branches), (sum(sides) / len(sides)).astype(np.float32))
    assert branches.read(".thetamerge").startswith(b"version: 1")


def test_rules_with_line_ends_of_windows_count_and_those_of_folders_do_not(branches: Repo) -> None:
    branches.write(b"version: 1\r\nrules:\r\n  - {match: '**', method: theirs}\r\n", ".thetamerge")
    branches.write(b"version: 1\ndefaults: {method: ours}\n", "folder/.thetamerge")
    branches.commit("rules")
    Repo(branches.path / "folder").git("merge", "--quiet", "side")
    assert np.array_equal(merged(branches), of(3))


@pytest.mark.parametrize("target", ["rules", "/dev/zero", "/etc/passwd", "."])
@pytest.mark.parametrize("where", ["work tree", "commit"])
def test_rules_are_not_looked_for_behind_a_link(branches: Repo, target: str, where: str) -> None:
    branches.write(b"version: 1\ndefaults: {method: theirs}\n", "rules")
    (branches.path / ".thetamerge").symlink_to(target)
    branches.commit("rules")
    if where == "commit":
        (branches.path / ".thetamerge").unlink()
    done = branches.run("merge", "side", check=False, timeout=60)
    assert done.returncode == 1
    assert ".thetamerge is not a regular file" in done.stderr


def test_environment_beats_settings_and_the_command_line_both(branches: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    branches.git("config", "theta.merge.options", "lambda=0.5")
    monkeypatch.setenv("GIT_THETA_MERGE", "task_arithmetic lambda=0.25")
    branches.git("merge", "--quiet", "side")
    expected = ((of(2) - of(1)) + (of(3) - of(1))) * np.float32(0.25) + of(1)
    assert np.array_equal(merged(branches), expected)
    branches.git("reset", "--quiet", "--hard", "HEAD~1")
    branches.git("merge", "--quiet", "-s", "theta", "-X", "lambda=0", "side")
    assert np.array_equal(merged(branches), of(1))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (b"version: 1\nrules: [{match: 'no.such.*', method: ties}]\n", "no parameter of any checkpoint matches"),
        (b"version: 1\nrules: [{match: '**', method: tise}]\n", "did you mean 'ties'"),
        (b"version: 1\nrule: []\n", "line 2: unknown key 'rule'"),
        (b"version: 1\ndefaults: {method: ties, with: {density: 2}}\n", "'density' of 'ties' is 2"),
    ],
)
def test_rules_that_make_no_sense_stop_the_merge_with_words(branches: Repo, rules: bytes, words: str) -> None:
    branches.write(rules, ".thetamerge")
    branches.commit("rules")
    done = branches.run("merge", "side", check=False)
    assert done.returncode == 1
    assert words in done.stderr
    branches.git("merge", "--abort")


def test_what_is_computed_and_the_memory_it_needs_is_reported_before(branches: Repo) -> None:
    done = branches.run("-c", "theta.merge.device=cpu", "-c", "theta.merge.method=ties", "merge", "--quiet", "side")
    path = "git-theta: model.safetensors: "
    work, costs, done_by = (line.removeprefix(path) for line in done.stderr.splitlines() if line.startswith(path))
    assert work == "merging 1 parameter by ties on cpu"
    assert re.fullmatch(r".* kB to read, at most .* MB of memory", costs)
    assert len(path + costs) <= 80
    assert "1 merged by ties" in done_by
    branches.git("reset", "--quiet", "--hard", "HEAD~1")
    words = ("-X", "method=ties", "side")
    plan = branches.git("-c", "theta.merge.device=cpu", "theta", "merge", "--plan", *words)
    assert f"  {work}\n  {costs}\n" in plan
    found = json.loads(branches.git("-c", "theta.merge.device=cpu", "theta", "merge", "--json", "--plan", *words))
    ((name, memory),) = (device.values() for device in found["plans"][0]["devices"])
    assert name == "cpu"
    assert f"at most {human_bytes(memory)} of memory" in costs


def test_nothing_is_reported_of_memory_where_nothing_is_computed(branches: Repo) -> None:
    words = ("-X", "method=theirs", "side")
    assert "of memory" not in branches.git("theta", "merge", "--plan", *words)
    (plan,) = json.loads(branches.git("theta", "merge", "--json", "--plan", *words))["plans"]
    assert plan["devices"] == []
    assert "of memory" not in branches.run("merge", "-s", "theta", *words).stderr


def test_a_plan_is_made_without_torch(branches: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(branches.path)
    branches.git("config", "theta.merge.device", "cpu")
    code = "import sys; from git_theta_ext.cli.main import main; main(['merge', '--plan', 'side'])"
    code += "; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "merging 1 parameter" in done.stdout
    assert done.stdout.endswith("set()\n")


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_here_leaves_everything_as_it_was(branches: Repo, device: str) -> None:
    before = branches.read()
    done = branches.run("-c", f"theta.merge.device={device}", "merge", "side", check=False)
    assert done.returncode == 1
    assert f"theta.merge.device is '{device}'" in done.stderr
    assert "hint: git config theta.merge.device" in done.stderr
    assert branches.read() == before
    assert (
        "theta.merge.device is"
        in branches.run("-c", f"theta.merge.device={device}", "theta", "merge", "--plan", "side", check=False).stderr
    )


def test_statistics_beside_the_checkpoint_weigh_its_parameters(branches: Repo) -> None:
    found = []
    for number, name in enumerate(SIDES[:2]):
        branches.switch(name)
        data, numbers = statistics(number)
        found.append(numbers.astype(np.float64))
        branches.write(data, "model.stats.safetensors")
        branches.commit("statistics")
    branches.switch("main")
    done = branches.run("-c", "theta.merge.method=fisher", "merge", "--quiet", "side")
    assert "model.safetensors: 1 merged by fisher" in done.stderr.replace("0 taken, ", "")
    assert "model.stats.safetensors: 0 taken, 1 merged by average" in done.stderr
    expected = (found[0] * of(2) + found[1] * of(3)) / (found[0] + found[1])
    assert np.array_equal(merged(branches), expected.astype(np.float32))


def test_without_statistics_a_method_that_needs_them_ends_as_a_conflict_that_says_so(branches: Repo) -> None:
    assert branches.run("-c", "theta.merge.method=fisher", "merge", "side", check=False).returncode == 1
    listed = branches.run("theta", "resolve", MODEL, check=False).stdout
    assert "not every side has fisher statistics" in listed
    branches.git("theta", "resolve", "--method", "task_arithmetic", "--option", "lambda=0.5", MODEL)
    expected = ((of(2) - of(1)) + (of(3) - of(1))) * np.float32(0.5) + of(1)
    assert np.array_equal(merged(branches), expected)
