"""Merges that are chosen by evaluation: ``git theta merge --search``.

The models have one number, which the command of the tests prints: so scores can be checked by hand.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL
from safetensors.numpy import save

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from helpers import Repo, WithHistory

EVALUATE = """
import json, os, struct, sys
place, log, target = sys.argv[1:4]
with open(log, "a") as file:
    file.write(place + "\\n")
if os.path.isdir(place):
    names = sorted(os.listdir(place))
    print(*names)
    place = os.path.join(place, [name for name in names if name.endswith(".safetensors")][0])
with open(place, "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    file.seek(header["w"]["data_offsets"][0] - 16 + os.path.getsize(place) - max(
        entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__") + 16)
    value = struct.unpack("<f", file.read(4))[0]
if value == 100:
    sys.exit("this model does not load")
if value == 200 and os.path.exists(log + ".kill"):
    os.remove(log + ".kill")
    os.kill(os.getppid(), 9)
    sys.exit("killed")
print(json.dumps({"score": -abs(value - float(target)), "loss": abs(value - float(target))}))
"""

TWO = """version: 1
candidates:
  - method: average
  - {method: task_arithmetic, with: {lambda: [0.25, 1]}}
"""
GREEDY = """version: 1
branches: greedy
candidates:
  - method: average
"""


def tensors(value: float) -> bytes:
    return save({"w": np.full(4, value, np.float32)})


def make(repo: Repo, branches: Mapping[str, float]) -> None:
    repo.write(tensors(0.0))
    repo.commit("base")
    for name, value in branches.items():
        repo.switch("-b", name, "main")
        repo.write(tensors(value))
        repo.commit(name)
    repo.switch("main")


class Searches:
    """Runs searches in a repository.

    Args:
        repo: The repository.
        folder: A directory for the script, the file of the search, and what the script logs.
        target: The number that a model should have.
    """

    def __init__(self, repo: Repo, folder: Path, target: float) -> None:
        self.repo = repo
        self.folder = folder
        self.log = folder / "log"
        (folder / "eval.py").write_text(EVALUATE)
        words = [sys.executable, "-I", "-S", str(folder / "eval.py"), "{checkpoint}", str(self.log), str(target)]
        self.command = shlex.join(words).replace("'{checkpoint}'", "{checkpoint}")

    def words(self, text: str, *words: str) -> list[str]:
        (self.folder / "search.yml").write_text(text)
        return ["theta", "merge", "--json", "--search", str(self.folder / "search.yml"), "--eval", self.command, *words]

    def run(self, text: str, *words: str, code: int = 0) -> dict[str, object]:
        done = self.repo.run(*self.words(text, *words), check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout if code < 2 else done.stderr)

    def evaluated(self) -> int:
        """Return how many evaluations were started."""
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def pair(with_history: WithHistory, tmp_path: Path) -> Searches:
    """Return a repository whose branches ``one`` and ``three`` have these numbers; the best is 2, the mean."""
    return Searches(with_history(lambda repo: make(repo, {"one": 1, "three": 3})), tmp_path, 2)


def scores(found: dict[str, object]) -> dict[str, float | None]:
    return {" ".join(row["words"]): row["score"] for row in found["candidates"]}


def test_the_best_candidate_becomes_the_merge_commit(pair: Searches) -> None:
    found = pair.run(TWO, "one", "three")
    assert scores(found) == {
        "": -2.0,
        "method=average": 0.0,
        "method=task_arithmetic lambda=0.25": -1.0,
        "method=task_arithmetic lambda=1": -2.0,
    }
    repo = pair.repo
    assert found["commit"] == repo.git("rev-parse", "HEAD")
    assert repo.git("rev-parse", "HEAD^2", "HEAD^3").split() == repo.git("rev-parse", "one", "three").split()
    assert repo.read() == tensors(2)
    assert repo.git("status", "--porcelain") == ""
    assert repo.git("theta", "merge", "--replay")
    trailer = repo.git("show", "--no-patch", "--format=%(trailers:key=Theta-Merge,valueonly)")
    assert "by average; chosen search=grid candidates=3 branches=2 highest=0 before=-2 (" in trailer


def test_a_dry_run_lists_the_commands_and_changes_nothing(pair: Searches) -> None:
    found = pair.run(TWO, "--dry-run", "one", "three")
    assert [row["command"] for row in found["candidates"]] == [
        "git merge --no-ff -s theta -X method=average one three",
        "git merge --no-ff -s theta -X method=task_arithmetic -X lambda=0.25 one three",
        "git merge --no-ff -s theta -X method=task_arithmetic -X lambda=1 one three",
    ]
    assert found["complete"]
    assert pair.evaluated() == 0
    assert pair.repo.git("log", "-1", "--format=%s") == "base"


def test_scores_are_known_from_an_earlier_search(pair: Searches) -> None:
    pair.run(TWO, "one", "three")
    pair.repo.git("reset", "--quiet", "--hard", "HEAD^")
    found = pair.run(f"{TWO}  - {{method: ties, with: {{density: 1}}}}\n", "one", "three")
    assert pair.evaluated() == 5
    assert [row["known"] for row in found["candidates"]] == [True, True, True, True, False]
    pair.repo.git("reset", "--quiet", "--hard", "HEAD^")
    pair.run(TWO, "--fresh", "one", "three")
    assert pair.evaluated() == 9


def test_a_killed_search_goes_on(with_history: WithHistory, tmp_path: Path) -> None:
    searches = Searches(with_history(lambda repo: make(repo, {"one": 100, "three": 300})), tmp_path, 50)
    (tmp_path / "log.kill").touch()
    words = searches.words(f"{TWO}  - {{method: ties, with: {{lambda: 0.25, density: 1}}}}\n", "one", "three")
    killed = searches.repo.run(*words, check=False, timeout=300)
    assert killed.returncode != 0
    assert searches.evaluated() == 2, "the branch itself, and the average, which is 200"
    found = json.loads(searches.repo.git(*words))
    assert [row["known"] for row in found["candidates"]] == [True, False, False, False, False]
    assert searches.repo.read() == tensors(50), "ties with lambda 0.25 of 200"
    assert not list((searches.repo.path / ".git/theta/tmp").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_search_that_is_ended_ends_its_evaluations(pair: Searches, tmp_path: Path, number: int) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    code = "import os, time; open(os.environ['STARTED'], 'w').write(str(os.getpid())); time.sleep(300)"
    pair.command = shlex.join([sys.executable, "-I", "-S", "-c", code]) + " {checkpoint}"
    words = ["git-theta", *pair.words(TWO, "one", "three")[1:]]
    before = signal.signal(number, signal.SIG_DFL)  # a shell lets commands in the background ignore interrupts
    try:
        search = subprocess.Popen(
            words,
            cwd=pair.repo.path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "STARTED": str(started)},
        )
    finally:
        signal.signal(number, before)
    evaluation = int(started.read_text())
    search.send_signal(number)
    assert search.wait(60) == 128 + number
    with pytest.raises(ProcessLookupError):  # the search has waited for it
        os.kill(evaluation, 0)
    assert not list((pair.repo.path / ".git/theta/tmp").iterdir())


NVIDIA_SMI = """#!/bin/sh
case "$*" in
*loop*) echo "0, 600"; echo "1, 1000"; touch "$MEASURED"; exec sleep 300 ;;
*) echo "0, 1000"; echo "1, 1000" ;;
esac
"""


def test_no_more_evaluations_run_than_fit_in_the_memory_of_a_gpu(pair: Searches, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "MEASURED": str(tmp_path / "measured"),
    }
    wait = 'while [ ! -e "$MEASURED" ]; do sleep 0.01; done; exec "$@"'
    pair.command = f"sh -c {shlex.quote(wait)} sh {pair.command}"
    words = [word for word in pair.words(TWO, "--jobs", "4", "one", "three") if word != "--json"]
    done = pair.repo.run(*words, env=env)
    said = "an evaluation takes 419 MB of memory of a GPU, and 1.05 GB are available: at most 2 run at the same time"
    assert said in done.stderr


def test_failures_are_recorded_and_the_search_goes_on(with_history: WithHistory, tmp_path: Path) -> None:
    searches = Searches(with_history(lambda repo: make(repo, {"one": 50, "three": 150})), tmp_path, 40)
    text = f"{TWO}  - {{method: conflict}}\n  - {{method: fisher}}\n"
    found = searches.run(text, "one", "three")
    errors = {" ".join(row["words"]): row["error"] for row in found["candidates"] if row["score"] is None}
    assert errors["method=average"] == "exit code 1: this model does not load"
    assert errors["method=conflict"] == "1 conflict"
    assert errors["method=fisher"] == "1 conflict", "there are no statistics"
    assert found["best"]["words"] == ["method=task_arithmetic", "lambda=0.25"]


def test_nothing_is_merged_if_nothing_is_better(pair: Searches) -> None:
    pair.command = pair.command.rpartition(" ")[0] + " 0"
    before = pair.repo.git("rev-parse", "HEAD")
    found = pair.run(TWO, "one", "three", code=1)
    assert (found["commit"], found["best"]["branches"]) == (None, [])
    assert pair.repo.git("rev-parse", "HEAD") == before


def test_a_lower_score_is_better_with_minimize(pair: Searches) -> None:
    found = pair.run(TWO, "--minimize", "--score", "loss", "one", "three")
    assert found["best"]["score"] == 0.0
    assert pair.repo.read() == tensors(2)


def test_greedy_merges_only_the_branches_that_help(with_history: WithHistory, tmp_path: Path) -> None:
    branches = {"far": 9, "one": 1, "three": 3, "wrong": -8}
    searches = Searches(with_history(lambda repo: make(repo, branches)), tmp_path, 2)
    found = searches.run(GREEDY, "--jobs", "3", *branches)
    assert found["best"]["branches"] == ["one", "three"]
    assert searches.repo.git("log", "-1", "--format=%p").count(" ") == 2
    assert searches.repo.read() == tensors(2)
    assert len(found["candidates"]) == 1 + 4 + 1 + 3


def test_changes_that_are_not_committed_are_an_error_before_anything_is_evaluated(pair: Searches) -> None:
    pair.repo.write(tensors(7))
    error = pair.run(TWO, "one", "three", code=10)
    assert "model.safetensors has changes that are not committed" in error["error"]
    assert pair.evaluated() == 0


def test_the_tables_have_every_candidate(pair: Searches) -> None:
    table, page = pair.folder / "table.csv", pair.folder / "page.html"
    pair.run(TWO, "--csv", str(table), "--html", str(page), "one", "three")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["score"], row["method"], row["lambda"]) for row in rows] == [
        ("-2.0", "", ""), ("0.0", "average", ""), ("-1.0", "task_arithmetic", "0.25"),
        ("-2.0", "task_arithmetic", "1"),
    ]  # fmt: skip
    text = page.read_text()
    assert "Score by lambda of task_arithmetic" in text
    assert text.count("<circle") == 4 + 2
    assert text.count('class="best"') == 1


def _adapters(repo: Repo) -> None:
    config = b'{"peft_type": "LORA", "r": 1}'
    for name, value in {"main": 0, "one": 1, "three": 3}.items():
        if name != "main":
            repo.switch("-b", name, "main")
        repo.write(tensors(value), "adapter/adapter_model.safetensors")
        repo.write(config, "adapter/adapter_config.json")
        repo.write(b"notes\n", "adapter/README.md")
        repo.commit(name)
    repo.switch("main")


def test_an_adapter_is_given_as_a_directory_with_its_configuration(with_history: WithHistory, tmp_path: Path) -> None:
    searches = Searches(with_history(_adapters), tmp_path, 2)
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    (tmp_path / "eval.py").write_text(EVALUATE.replace("print(*names)", f"assert names == {names}"))
    found = searches.run(TWO, "one", "three")
    assert found["model"] == "adapter/adapter_model.safetensors"
    assert found["best"]["score"] == 0.0, found


def _shards(repo: Repo) -> None:
    shards = [f"run/model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    names = {name: shard.removeprefix("run/") for name, shard in zip(("w", "v"), shards, strict=True)}
    index = {"metadata": {"total_size": 32}, "weight_map": names}
    for name, value in {"main": 0, "one": 1, "three": 3}.items():
        if name != "main":
            repo.switch("-b", name, "main")
        repo.write(tensors(value), shards[0])
        repo.write(save({"v": np.full(4, value, np.float32)}), shards[1])
        repo.write(json.dumps(index).encode(), "run/model.safetensors.index.json")
        repo.commit(name)
    repo.switch("main")


def test_a_model_of_several_files_is_given_as_a_directory(with_history: WithHistory, tmp_path: Path) -> None:
    searches = Searches(with_history(_shards), tmp_path, 2)
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    names = [*shards, "model.safetensors.index.json"]
    (tmp_path / "eval.py").write_text(EVALUATE.replace("print(*names)", f"assert names == {names}"))
    found = searches.run(GREEDY, "one", "three")
    assert found["model"] == "run/model.safetensors"
    assert found["best"]["score"] == 0.0, found
    assert searches.repo.read(f"run/{shards[0]}") == tensors(2)


def test_the_model_to_evaluate_has_to_be_clear(with_history: WithHistory, tmp_path: Path) -> None:
    def two(repo: Repo) -> None:
        make(repo, {"one": 1, "three": 3})
        for name in ("one", "three"):
            repo.switch(name)
            repo.write(tensors(5 if name == "one" else 7), "other.safetensors")
            repo.commit("other")
        repo.switch("main")

    searches = Searches(with_history(two), tmp_path, 2)
    error = searches.run(TWO, "one", "three", code=2)
    assert "several models: model.safetensors, other.safetensors" in error["error"]
    found = searches.run(TWO, "one", "three", "--", MODEL, code=1)
    errors = {row["error"] for row in found["candidates"]}
    assert errors == {None, "conflicts in other.safetensors"}, "both branches added it, so no method can merge it"


def test_options_of_a_search_need_one(pair: Searches) -> None:
    done = pair.repo.run("theta", "merge", "--plan", "--eval", "x {checkpoint}", "one", check=False)
    assert done.returncode == 2
    assert "--eval needs --search" in done.stderr
