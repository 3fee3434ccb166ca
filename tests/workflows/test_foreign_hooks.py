"""Pushes where git would not call our hook: a folder of a hook manager, somebody else's hook, a bare mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model

from git_theta_ext.git.hooks import CONFIG_HOOKS_SINCE, git_version

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    git_version() >= CONFIG_HOOKS_SINCE, reason="this git runs configured hooks whatever files there are"
)


def write_hook(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def clone(shared: Repo, tmp_path: Path) -> Repo:
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "copy")
    return Repo(tmp_path / "copy")


@pytest.fixture
def made(tmp_path: Path, git_environment: Path) -> Repo:
    """Return a repository that only the global configuration makes use the filter."""
    assert git_environment
    Repo(tmp_path).git("init", "--quiet", "made")
    Repo(tmp_path).git("theta", "install", "--global")
    repo = Repo(tmp_path / "made")
    repo.git("theta", "track", "*.safetensors")
    return repo


def test_a_hook_manager_in_the_repository_gets_the_hook_and_the_push_uploads(
    made: Repo, shared: Repo, tmp_path: Path
) -> None:
    write_hook(made.path / ".husky/pre-commit", "#!/bin/sh\n")
    made.git("config", "core.hooksPath", ".husky")
    made.write_model(seed=1)
    assert ".husky/pre-push is new: it uploads parameters" in made.run("add", "--all").stderr
    made.commit("one")
    made.git("push", "--quiet", str(shared.path), "main")
    assert clone(shared, tmp_path).problems(MODEL, model(1)) == []


def test_adding_warns_where_somebody_elses_hook_keeps_pushes_from_uploading(made: Repo) -> None:
    write_hook(made.path / ".git/hooks/pre-push", "#!/bin/sh\nexit 0\n")
    for command in (("add", "--all"), ("theta", "add", MODEL), ("commit", "--all", "--message", "two")):
        made.write_model(seed=len(command))
        stderr = made.run(*command).stderr
        assert stderr.count("warning: pushes do not upload parameters") == 1, command
        assert "git theta hook pre-push" in stderr
    made.write_model(seed=9)
    assert "warning" not in made.run("status").stderr


def test_a_bare_mirror_never_pushes_commits_without_their_parameters(made: Repo, shared: Repo, tmp_path: Path) -> None:
    made.write_model(seed=1)
    made.commit("one")
    Repo(tmp_path).git("clone", "--quiet", "--bare", "made", "mirror.git")
    done = Repo(tmp_path / "mirror.git").run("push", "--quiet", "--mirror", str(shared.path), check=False)
    if done.returncode == 0:
        assert clone(shared, tmp_path).problems(MODEL, model(1)) == []
    else:
        assert "tensors" in done.stderr
        assert shared.git("for-each-ref") == ""
