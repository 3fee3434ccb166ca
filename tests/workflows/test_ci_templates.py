"""The steps of docs/ci.md: a clone without git theta gets its models, and checks the change of a pull request."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from helpers import Repo, at_home, model

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "ci.md"
GITHUB, GITLAB, GITHUB_CHECK, GITLAB_CHECK = (
    yaml.safe_load(block)
    for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    if "pip install git-theta-ext" in block
)


def test_pages_that_install_the_package_say_where_its_wheel_comes_from() -> None:
    pages = [page for page in PAGE.parent.rglob("*.md") if "pip install git-theta-ext\n" in page.read_text()]
    assert {"ci.md", "guard.md", "getting-started.md"} <= {page.name for page in pages}
    linked = [page.name for page in pages if "getting-started.md#the-package)" in page.read_text()]
    assert linked == [page.name for page in pages if page.name != "getting-started.md"]


def of_github() -> tuple[list[str], str]:
    steps: list[dict[str, Any]] = GITHUB["jobs"]["test"]["steps"]
    return [step["run"] for step in steps if "run" in step], steps[1]["with"]["path"]


def of_gitlab() -> tuple[list[str], str]:
    return GITLAB["test"]["script"], GITLAB["test"]["cache"]["paths"][0]


@pytest.mark.parametrize("read", [of_github, of_gitlab])
def test_steps_write_the_models_and_later_jobs_need_the_cache_only(
    two: Repo,
    shared: Repo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[], tuple[list[str], str]],
) -> None:
    two.git("push", "--quiet", "origin", "main")
    at_home(tmp_path, monkeypatch)  # the machine of a job knows nothing of git theta
    steps, cache = read()
    assert (steps[0], steps[-1]) == ("pip install git-theta-ext", "python -m pytest")
    for job in ("first", "second"):
        clone = Repo(tmp_path / job)
        Repo(tmp_path).git("clone", "--quiet", str(shared.path), job)
        assert clone.read().startswith(b"git-theta manifest")
        if job == "second":
            shutil.copytree(tmp_path / "first" / cache, clone.path / cache)
            shutil.rmtree(shared.path / "theta")
        for step in steps[1:-1]:
            subprocess.run(step, shell=True, cwd=clone.path, check=True)
        assert clone.read() == model(2)


def check_of_github() -> tuple[list[str], dict[str, str]]:
    steps: list[dict[str, Any]] = GITHUB_CHECK["jobs"]["models"]["steps"]
    return [step["run"] for step in steps if "run" in step], {"GITHUB_BASE_REF": "main", "NUMBER": "7"}


def check_of_gitlab() -> tuple[list[str], dict[str, str]]:
    variables = {"CI_API_V4_URL": "https://gitlab.example/api/v4", "CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "7"}
    return GITLAB_CHECK["models"]["script"], variables


@pytest.mark.parametrize("read", [check_of_github, check_of_gitlab])
def test_a_pull_request_gets_a_comment_and_fails_if_it_exceeds_a_limit(
    two: Repo,
    shared: Repo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[], tuple[list[str], dict[str, str]]],
) -> None:
    two.git("branch", "change")
    two.git("reset", "--quiet", "--hard", "one")
    two.git("commit", "--quiet", "--allow-empty", "-m", "Go on")
    two.git("push", "--quiet", "origin", "main", "change")
    at_home(tmp_path, monkeypatch)
    clone = Repo(tmp_path / "job")
    Repo(tmp_path).git("clone", "--quiet", "--no-checkout", str(shared.path), "job")
    clone.git("checkout", "--quiet", "--detach", "origin/change")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("gh", "curl"):  # these write down their arguments
        (programs / name).write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@" > "{tmp_path}/posted"\n')
        (programs / name).chmod(0o755)
    steps, variables = read()
    assert steps[0] == "pip install git-theta-ext"
    variables |= {"PATH": f"{programs}:{os.environ['PATH']}", "COMMENT_TOKEN": "secret"}
    variables["CI_MERGE_REQUEST_DIFF_BASE_SHA"] = two.git("rev-parse", "one").strip()
    codes = [
        subprocess.run(["bash", "-e", "-c", step], cwd=clone.path, check=False, env=os.environ | variables).returncode
        for step in (*steps[1:], steps[-1].replace("0.05", "1e9"))
    ]
    assert codes == [*[0] * (len(steps) - 2), 17, 0]
    comment = (clone.path / "comment.md").read_text()
    assert comment.startswith("### `model.safetensors`\n")
    assert "modified" in comment
    posted = (tmp_path / "posted").read_text().splitlines()
    assert (
        ("comment.md" in posted, posted[2]) == (True, "comment") if posted[0] == "gh" else "body@comment.md" in posted
    )
    assert any("7" in word for word in posted)
