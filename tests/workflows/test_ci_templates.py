"""The steps of docs/ci.md: a clone without git theta gets its models, and later ones from the cached store."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from helpers import Repo, model

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "ci.md"
GITHUB, GITLAB = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL))


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
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")  # the machine of a job knows nothing of git theta
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
