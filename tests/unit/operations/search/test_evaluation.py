"""The command that evaluates a candidate: where it comes from, how it is run, and what its score is."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import ConfigError, UsageError
from git_theta_ext.git.repository import Repository
from git_theta_ext.operations.search.command import evaluation_command
from git_theta_ext.operations.search.evaluation import Evaluation, read_score

if TYPE_CHECKING:
    from helpers import Repo

PYTHON = (sys.executable, "-I", "-S", "-c")


@pytest.fixture
def at(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Repo:
    monkeypatch.chdir(repo.path)
    return repo


def command(given: str | None = None) -> tuple[str, ...]:
    return evaluation_command(Repository.discover(), given)


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        ("0.5", "score", 0.5),
        ("-3", "score", -3.0),
        ('{"score": 2, "loss": 3}', "score", 2.0),
        ('{"score": 2, "loss": 3}', "loss", 3.0),
        ('{"loss": 3}', "score", "has no key 'score'"),
        ("accuracy: 0.5", "score", "is not a score"),
        ("", "score", "nothing was printed"),
        ("nan", "score", "the score is nan"),
        ("1e999", "score", "the score is inf"),
        ("true", "score", "is not a score"),
        ('{"score": "0.5"}', "score", "is not a score"),
        ("9" * 400, "score", "the score is inf"),
        ('{"score": ' + "9" * 400 + "}", "score", "the score is inf"),
    ],
)
def test_the_last_line_is_the_score(line: str, key: str, expected: float | str) -> None:
    score, wrong = read_score(line, key)
    if isinstance(expected, str):
        assert score is None
        assert expected in wrong
    else:
        assert (score, wrong) == (expected, "")


def test_the_path_is_one_argument_whatever_is_in_it(at: Repo, tmp_path: Path) -> None:
    place = tmp_path / "a b; touch stolen $(touch stolen) 'x' *"
    place.touch()
    code = "import os, sys; print(len(sys.argv)); print(int(os.path.exists(sys.argv[1][5:])))"
    for quote, argument in (("'", "path={checkpoint}"), ('"', '"path={checkpoint}"')):
        text = f"{sys.executable} -c {quote}{code}{quote} {argument}"
        assert Evaluation(command(text)).run(place).score == 1
    assert not (at.path / "stolen").exists()


def test_other_output_does_not_matter(tmp_path: Path) -> None:
    code = "import sys; sys.stderr.write('warning'); print('x' * 300000); print('loss 3'); print(0.25); print()"
    assert Evaluation((*PYTHON, code, "{checkpoint}")).run(tmp_path).score == 0.25


def test_failures_say_what_happened(tmp_path: Path) -> None:
    def error(code: str) -> str:
        return Evaluation((*PYTHON, code, "{checkpoint}")).run(tmp_path).error

    assert error("import sys; sys.exit('no such layer')") == "exit code 1: no such layer"
    assert error("import os; os.kill(os.getpid(), 9)") == "ended by signal 9"
    assert Evaluation((str(tmp_path), "{checkpoint}")).run(tmp_path).error.startswith("cannot start")


def test_what_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys, time;"
        " child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(600)']);"
        " open(os.path.join(sys.argv[1], 'pid.tmp'), 'w').write(str(child.pid));"
        " os.rename(os.path.join(sys.argv[1], 'pid.tmp'), os.path.join(sys.argv[1], 'pid'));"
        " time.sleep(600)"
    )
    evaluation = Evaluation((*PYTHON, code, "{checkpoint}"), timeout=0.5)
    while not (tmp_path / "pid").exists():  # a slow machine may take longer to start two processes
        found = evaluation.run(tmp_path)
        evaluation = Evaluation(evaluation.words, timeout=2 * (evaluation.timeout or 0))
    assert found.score is None
    assert found.error.startswith("timed out after")
    child = int((tmp_path / "pid").read_text())
    for _ in range(1000):  # the kernel ends it soon
        if not _is_running(child):
            return
        time.sleep(0.01)
    pytest.fail("the child is still running")


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_changed_script_is_another_evaluation(tmp_path: Path) -> None:
    script = tmp_path / "eval.py"
    script.write_text("print(1)")
    evaluation = Evaluation(("python", str(script), "{checkpoint}"))
    before = evaluation.identity()
    script.write_text("print(2)")
    assert evaluation.identity() != before


def test_the_command_line_comes_before_the_settings(at: Repo) -> None:
    at.git("config", "theta.merge.evaluate", "echo {checkpoint} one")
    assert command() == ("echo", "{checkpoint}", "one")
    assert command("echo {checkpoint}") == ("echo", "{checkpoint}")


def test_tracked_files_cannot_set_the_command(at: Repo) -> None:
    at.write(b'[theta "merge"]\n\tevaluate = touch stolen {checkpoint}\n', ".thetaconfig")
    at.write(b'[theta "merge"]\n\tevaluate = touch stolen {checkpoint}\n', "shared.gitconfig")
    with pytest.raises(UsageError, match="needs the command"):
        command()
    at.git("config", "include.path", "../shared.gitconfig")
    with pytest.raises(ConfigError, match="a file of the work tree"):
        command()
    (at.path / "link").symlink_to("shared.gitconfig")
    at.git("config", "include.path", "../link")
    with pytest.raises(ConfigError, match="a file of the work tree"):
        command()


def test_a_linked_work_tree_does_not_take_the_command_from_the_main_one(
    at: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.write(b'[theta "merge"]\n\tevaluate = touch stolen {checkpoint}\n', "shared.gitconfig")
    at.git("add", "shared.gitconfig")
    at.git("commit", "--quiet", "--message", "settings")
    at.git("config", "include.path", "../shared.gitconfig")
    at.git("worktree", "add", "--quiet", str(tmp_path / "linked"))
    monkeypatch.chdir(tmp_path / "linked")
    with pytest.raises(ConfigError, match="a file of the work tree"):
        command()


def test_settings_outside_the_work_tree_set_the_command(at: Repo, tmp_path: Path) -> None:
    (tmp_path / "own.gitconfig").write_text('[theta "merge"]\n\tevaluate = echo {checkpoint}\n')
    at.git("config", "include.path", str(tmp_path / "own.gitconfig"))
    assert command() == ("echo", "{checkpoint}")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("python eval.py", "does not contain {checkpoint}"),
        ("'python {checkpoint}", "is not valid"),
        ("no-such-program {checkpoint}", "'no-such-program', which is not a program"),
    ],
)
def test_commands_that_cannot_work_are_errors(at: Repo, text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        evaluation_command(Repository.discover(at.path), text)
