"""A git of our own for every test: no configuration, identity or repository of the machine shows through."""

from __future__ import annotations

import os
import shutil
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import Repo, at_home, bundle_from, copy_repository, fork
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helpers import WithHistory

    Histories = dict[Callable[[Repo], object], Path]

# A machine that is busy with something else is no fault of a test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


HOMES = count()
GIT_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Author",
    "GIT_AUTHOR_EMAIL": "author@example.com",
    "GIT_COMMITTER_NAME": "Committer",
    "GIT_COMMITTER_EMAIL": "committer@example.com",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_PAGER": "cat",
    "GIT_MERGE_AUTOEDIT": "no",
    "LC_ALL": "C",
    "NO_COLOR": "1",
}
GLOBAL_CONFIGURATION = """\
[init]
    defaultBranch = main
[advice]
    detachedHead = false
[protocol "file"]
    allow = always
[maintenance]
    auto = false
[gc]
    auto = 0
"""


def _isolate(patch: pytest.MonkeyPatch, home: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "AWS_"))]:
        patch.delenv(name)
    # Without bytecode the many processes that git starts would each compile the package again, as no user's do.
    patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    patch.delenv("OMP_NUM_THREADS", raising=False)  # scripts/test sets it for the workers
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text(GLOBAL_CONFIGURATION)
    at_home(home, patch)
    variables = dict(GIT_ENVIRONMENT)
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, value in variables.items():
        patch.setenv(name, value)


@pytest.fixture(autouse=True)
def git_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the test a home folder and a global git configuration of its own; returns the home."""
    # To find a free number pytest reads the whole folder, in which thousands of tests have one.
    home = tmp_path_factory.mktemp(f"home-{next(HOMES)}", numbered=False)
    _isolate(monkeypatch, home)
    return home


@pytest.fixture
def unbundled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each small tensor an entry of its own, however many are stored together."""
    bundle_from(monkeypatch, sys.maxsize)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository once that tracks checkpoints and has one commit."""
    with pytest.MonkeyPatch.context() as patch:
        _isolate(patch, tmp_path_factory.mktemp("template-home"))
        made = Repo(tmp_path_factory.mktemp("template") / "repo")
        made.path.mkdir()
        made.git("init", "--quiet")
        made.git("theta", "install", "--local")
        made.git("theta", "track", "*.safetensors", "*.pt", "*.npz", "*.opaque")
        made.commit("track checkpoints")
    return made.path


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> Repo:
    """Return a fresh repository, installed locally, that tracks checkpoints and has one commit."""
    return copy_repository(template, tmp_path / "repo")


@pytest.fixture(scope="module")
def module_repo(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repo]:
    """Return a repository like ``repo`` for all tests of a module: what they look at takes long to make."""
    with pytest.MonkeyPatch.context() as patch:
        _isolate(patch, tmp_path_factory.mktemp("module-home"))
        yield copy_repository(template, tmp_path_factory.mktemp("module") / "repo")


@pytest.fixture(scope="session")
def histories() -> Histories:
    """Know the repositories that ``with_history`` copies from."""
    return {}


@pytest.fixture
def with_history(
    repo: Repo,
    template: Path,
    histories: dict[Callable[[Repo], object], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> WithHistory:
    """Return what gives ``repo`` the history that a function makes, which is called once and copied from then on.

    The repository's own configuration stays, such as its remotes.
    """

    def with_history(make: Callable[[Repo], object]) -> Repo:
        if make not in histories:
            made = copy_repository(template, tmp_path_factory.mktemp("history") / "repo")
            make(made)
            histories[make] = made.path
        configuration = (repo.path / ".git/config").read_bytes()
        for path in repo.path.iterdir():  # the folder itself stays: it may be the current one of a process
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        copy_repository(histories[make], repo.path)
        (repo.path / ".git/config").write_bytes(configuration)
        return repo

    return with_history


def _two(repo: Repo) -> None:
    repo.write_model(seed=1)
    repo.commit("one")
    repo.git("tag", "one")
    repo.write_model(seed=2)
    repo.commit("two")
    repo.git("tag", "two")


@pytest.fixture
def two(with_history: WithHistory) -> Repo:
    """Return a repository with two versions of the model, tagged ``one`` and ``two``; HEAD is at the second."""
    return with_history(_two)


@pytest.fixture
def forked(with_history: WithHistory) -> Repo:
    """Return a repository whose branches ``main`` (checked out) and ``side`` changed different tensors.

    The tag ``base`` is where they part: all tensors of seed 1. ``main`` has attention 0 of seed 2, ``side`` attention 1
    of seed 3.
    """
    return with_history(fork)


@pytest.fixture
def shared(repo: Repo, tmp_path: Path) -> Repo:
    """Return a bare repository that is the remote ``origin`` of ``repo``; the global configuration knows theta."""
    bare = tmp_path / "shared.git"
    repo.git("theta", "install", "--global")
    repo.git("init", "--quiet", "--bare", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    return Repo(bare)
