"""The GitHub action, the GitLab template and the hook of pre-commit: their shell runs here, before a stand-in."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import yaml
from helpers import WITHOUT_FILTER, Repo

from git_theta_ext.cli.ci.__main__ import main
from git_theta_ext.cli.ci.comments import MARKER, Discussion, shortened
from git_theta_ext.cli.ci.job import job_of
from git_theta_ext.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROJECT = Path(__file__).parents[2]
ACTION = yaml.safe_load((PROJECT / "action.yml").read_text())
TEMPLATE = (PROJECT / "templates" / "git-theta.yml").read_text()
HOOK = yaml.safe_load((PROJECT / ".pre-commit-hooks.yaml").read_text())[0]
TOKEN = "secret-token"
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")


@dataclass
class Site:
    """Comments, as the API of GitHub or of GitLab keeps them, at /comments or /notes of number 7."""

    comments: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    allowed: bool = True
    url: str = ""

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: dict[str, str]) -> tuple[int, object]:
        self.requests.append((method, path))
        if TOKEN not in {headers.get("PRIVATE-TOKEN"), (headers.get("Authorization") or "").removeprefix("Bearer ")}:
            return 401, {}
        if method == "GET":
            page = int(re.search(r"[?&]page=(\d+)", path)[1])
            return 200, self.comments[100 * (page - 1) : 100 * page]
        if not self.allowed:
            return 403, {"message": "Resource not accessible by integration"}
        if method == "POST":
            self.comments.append({"id": 1000 + len(self.comments), **body})
            return 201, self.comments[-1]
        comment = next(comment for comment in self.comments if comment["id"] == int(path.rpartition("/")[2]))
        comment.update(body)
        return 200, comment


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
            code, content = site.answer(self.command, self.path, self.headers, body)
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815 - as http.server calls them

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}"
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture
def change(two: Repo, shared: Repo) -> Repo:
    """Return a repository whose branch ``change`` has another version than ``main`` on its remote."""
    two.git("branch", "change")
    two.git("reset", "--quiet", "--hard", "one")
    two.git("commit", "--quiet", "--allow-empty", "-m", "Go on")
    two.git("push", "--quiet", "origin", "main", "change")
    return two


@dataclass
class Machine:
    """A machine that runs jobs and knows nothing of git theta but what a job installs."""

    folder: Path
    site: Site
    shared: Repo
    environment: dict[str, str]

    def clone(self, *args: str) -> Repo:
        clone = Repo(self.folder / f"job-{len(list(self.folder.glob('job-*')))}")
        Repo(self.folder).git("clone", "--quiet", "--no-checkout", *args, self.shared.path.as_uri(), clone.path.name)
        clone.git("checkout", "--quiet", "--detach", "origin/change")
        return clone

    def bash(self, step: str, clone: Repo, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*BASH, step], cwd=clone.path, env=self.environment | variables, capture_output=True, text=True, check=False
        )


@pytest.fixture
def machine(tmp_path: Path, site: Site, shared: Repo) -> Machine:
    bin_ = tmp_path / "programs"
    bin_.mkdir()
    install = f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/installed"\n'
    (bin_ / "pip").write_text(install)
    # The environment that `python -m venv` makes has this Python and, once it is "installed", this git theta.
    (bin_ / "python3").write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] || exit 9\nmkdir -p "$3/bin"\ncp "{bin_}/pip" "$3/bin/pip"\n'
        f'printf \'#!/bin/sh\\nexec "{sys.executable}" "$@"\\n\' > "$3/bin/python"\nchmod +x "$3/bin/python"\n'
    )
    for program in bin_.iterdir():
        program.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "GITLAB_", "CI_"))}
    environment |= {name: str(tmp_path / "nobody") for name in ("HOME", "XDG_CONFIG_HOME")}
    environment |= {"GIT_CONFIG_GLOBAL": "/dev/null", "PATH": f"{bin_}:{environment['PATH']}"}
    return Machine(tmp_path, site, shared, environment)


class Run(Protocol):
    """Runs the steps of a site's job."""

    def __call__(self, machine: Machine, clone: Repo, given: Mapping[str, str]) -> tuple[int, str, str]: ...


def github(machine: Machine, clone: Repo, given: Mapping[str, str]) -> tuple[int, str, str]:
    """Run the action on a pull request; return the exit code, the summary, and what was printed."""
    folder = machine.folder
    event = {"pull_request": {"number": 7, "base": {"ref": "main", "sha": "unused"}}}
    (folder / "event.json").write_text(json.dumps(event))
    files = {name: folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")}
    for path in files.values():
        path.write_text("")
    variables = {
        **{name: str(path) for name, path in files.items()},
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTION_PATH": str(PROJECT),
        "GITHUB_API_URL": machine.site.url,
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_REPOSITORY": "owner/models",
        "RUNNER_TEMP": str(folder / "runner"),
    }
    inputs = {name: entry.get("default", "") for name, entry in ACTION["inputs"].items()} | given
    printed = ""
    for step in ACTION["runs"]["steps"]:
        if "run" not in step:
            continue
        env = {k: re.sub(r"\$\{\{ inputs\.([\w-]+) }}", lambda m: inputs[m[1]], v) for k, v in step["env"].items()}
        added = ":".join([*files["GITHUB_PATH"].read_text().split(), machine.environment["PATH"]])
        done = machine.bash(step["run"], clone, variables | env | {"PATH": added})
        printed += done.stdout + done.stderr
        if done.returncode:
            break
    return done.returncode, files["GITHUB_STEP_SUMMARY"].read_text(), printed


def gitlab(machine: Machine, clone: Repo, given: Mapping[str, str]) -> tuple[int, str, str]:
    """Run the job of the template on a merge request; return as ``github`` does."""
    head, body = TEMPLATE.split("\n---\n")
    inputs = {name: entry["default"] for name, entry in yaml.safe_load(head)["spec"]["inputs"].items()}
    inputs |= {name: value for name, value in given.items() if name != "token"}
    (job,) = yaml.safe_load(re.sub(r"\$\[\[ inputs\.([\w-]+) ]]", lambda m: inputs[m[1]], body)).values()
    variables = job["variables"] | {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": f"{machine.site.url}/api/v4",
        "CI_PROJECT_ID": "3",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": clone.git("merge-base", "origin/main", "HEAD"),
        "GIT_THETA_TOKEN": given.get("token", ""),
    }
    path = clone.path / job["artifacts"]["paths"][0]
    path.unlink(missing_ok=True)  # as a runner removes what an earlier job left
    done = machine.bash("\n".join(job["script"]), clone, variables)
    return done.returncode, path.read_text() if path.exists() else "", done.stdout + done.stderr


@pytest.mark.parametrize("run", [github, gitlab])
def test_a_change_is_shown_in_one_comment_and_in_the_summary(change: Repo, machine: Machine, run: Run) -> None:
    machine.site.comments = [{"id": n, "body": "Looks good"} for n in range(100)]
    clone = machine.clone()
    code, summary, printed = run(machine, clone, {"token": TOKEN})
    assert code == 0, printed
    assert summary.startswith("### `model.safetensors`\n")
    assert machine.site.comments[100]["body"] == f"{MARKER}\n{summary}"
    code, summary, _ = run(machine, clone, {"token": TOKEN, "fail-if": "nan > 0; rel_change > 0.05"})
    assert code == 17
    assert "error: 13 changes with rel_change > 0.05" in summary
    assert summary.endswith("|\n")
    assert [comment["body"] for comment in machine.site.comments[100:]] == [f"{MARKER}\n{summary}"]
    assert not any(TOKEN in text for text in (printed, summary))


def test_a_raw_checkpoint_fails_the_job(change: Repo, machine: Machine) -> None:
    clone = machine.clone()
    clone.write_model(seed=9)
    clone.git(*WITHOUT_FILTER, "add", "model.safetensors")
    clone.git("commit", "--quiet", "-m", "Without git theta")
    code, summary, printed = gitlab(machine, clone, {"token": TOKEN})
    assert code == 6, printed
    commit = clone.git("rev-parse", "--short=12", "HEAD")
    assert f"raw: {commit}:model.safetensors: git stores the file itself" in summary
    assert machine.site.comments[0]["body"] == f"{MARKER}\n{summary}"


@pytest.mark.parametrize("run", [github, gitlab])
def test_a_raw_checkpoint_that_a_later_commit_replaces_fails_the_job(change: Repo, machine: Machine, run: Run) -> None:
    clone = machine.clone()
    clone.write_model(seed=9)
    clone.git(*WITHOUT_FILTER, "add", "model.safetensors")
    clone.git("commit", "--quiet", "-m", "Without git theta")
    commit = clone.git("rev-parse", "--short=12", "HEAD")
    clone.git("rm", "--quiet", "--cached", "model.safetensors")
    clone.git("commit", "--quiet", "-m", "Delete it")
    code, summary, printed = run(machine, clone, {})
    assert code == 6, printed
    assert f"raw: {commit}:model.safetensors: git stores the file itself" in summary


def test_without_a_token_that_may_write_the_summary_remains(change: Repo, machine: Machine) -> None:
    clone = machine.clone()
    code, summary, printed = github(machine, clone, {})
    assert (code, machine.site.requests) == (0, []), printed
    machine.site.allowed = False
    code, again, printed = github(machine, clone, {"token": TOKEN})
    assert code == 0
    assert "warning: no comment: POST" in printed
    assert "403" in printed
    assert again.endswith(summary)


def test_a_shallow_clone_is_refused_with_what_to_change(change: Repo, machine: Machine) -> None:
    code, summary, printed = github(machine, machine.clone("--depth=1", "--no-single-branch"), {})
    assert (code, summary) == (3, "")
    assert "fetch-depth: 0" in printed


def test_a_change_without_models_replaces_a_comment_and_writes_none(change: Repo, machine: Machine) -> None:
    clone = machine.clone()
    clone.git("checkout", "--quiet", "--detach", "origin/main")
    machine.site.comments = [{"id": 5, "body": f"{MARKER}\nearlier"}]
    assert github(machine, clone, {"token": TOKEN})[:2] == (0, "No parameters changed.\n")
    assert machine.site.comments == [{"id": 5, "body": f"{MARKER}\nNo parameters changed.\n"}]
    machine.site.comments.clear()
    url = f"{machine.site.url}/comments"
    assert not Discussion(url, url, "PATCH", {"PRIVATE-TOKEN": TOKEN}, 100).post("text", only_edit=True)
    assert machine.site.comments == []


def test_the_action_installs_itself_and_its_cache_has_a_key_of_the_models(
    change: Repo, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = machine.clone()
    assert github(machine, clone, {"extras": "cloud"})[0] == 0
    key = (machine.folder / "github_output").read_text()
    assert re.fullmatch("key=[0-9a-f]{16}\n", key)
    assert (clone.path / ".git/theta/packs").is_dir()
    assert (machine.folder / "installed").read_text().splitlines()[-1] == f"{PROJECT}[cloud]"
    (cache,) = (step for step in ACTION["runs"]["steps"] if "uses" in step)
    assert cache["with"]["path"] == ".git/theta"
    assert cache["with"]["key"].startswith(cache["with"]["restore-keys"])
    monkeypatch.chdir(clone.path)
    (clone.path / "train.py").write_text("")
    clone.git("add", "train.py")
    clone.git("commit", "--quiet", "-m", "Change code")
    assert main(["key", "--base", "origin/main"]) == 0
    assert main(["key", "--base", "HEAD"]) == 0
    same, other = capsys.readouterr().out.split()
    assert f"key={same}\n" == key
    assert other != same


def test_no_input_is_pasted_into_a_script() -> None:
    assert not [step for step in ACTION["runs"]["steps"] if "${{" in step.get("run", "")]
    assert "$[[" not in TEMPLATE.partition("  script:\n")[2]


def test_pre_commit_refuses_a_raw_checkpoint(change: Repo) -> None:
    def hook(**variables: str) -> int:
        command = shlex.split(HOOK["entry"])
        return subprocess.run(command, cwd=change.path, env=os.environ | variables, check=False).returncode

    assert hook() == 0
    change.write_model(seed=9)
    change.git(*WITHOUT_FILTER, "add", "model.safetensors")
    assert hook() == 6
    change.git("commit", "--quiet", "-m", "Without git theta")
    change.git("rm", "--quiet", "--cached", "model.safetensors")
    change.git("commit", "--quiet", "-m", "Delete it")
    assert hook() == 0
    assert hook(PRE_COMMIT_FROM_REF="HEAD~2", PRE_COMMIT_TO_REF="HEAD") == 6
    assert hook(PRE_COMMIT_FROM_REF="HEAD^", PRE_COMMIT_TO_REF="HEAD") == 0
    assert (HOOK["pass_filenames"], HOOK["always_run"]) == (False, True)


def test_a_push_is_compared_with_what_it_replaced_and_a_new_branch_with_nothing(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    for before, base in (("1" * 40, "1" * 40), ("0" * 40, None)):
        event.write_text(json.dumps({"before": before}))
        assert job_of({"GITHUB_ACTIONS": "true", "GITHUB_EVENT_PATH": str(event)}).base == base
        assert job_of({"GITLAB_CI": "true", "CI_COMMIT_BEFORE_SHA": before}).base == base
    assert job_of({}).base is None


def test_a_long_comment_ends_with_a_whole_line_and_a_note() -> None:
    text = "".join(f"| row {n} |\n" for n in range(1000))
    short = shortened(text, 500)
    assert len(short) <= 500
    assert text.startswith(short.partition("\n\nThe rest")[0] + "\n")
    assert shortened(text, len(text)) == text


def test_an_answer_that_is_no_list_of_comments_is_an_error(site: Site) -> None:
    site.comments = {"message": "moved"}  # type: ignore[assignment]
    site.answer = lambda *_: (200, {"message": "moved"})  # type: ignore[method-assign]
    with pytest.raises(RemoteError, match="not a list"):
        Discussion(f"{site.url}/c", f"{site.url}/c", "PUT", {}, 100).post("text")
