"""What an installation contains."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from _build import build

import git_theta_ext
from git_theta_ext.cli.discovery import command_names
from git_theta_ext.store.locks import file_lock

PROJECT = Path(git_theta_ext.__file__).parents[1]


EPOCH = 1_700_000_000
NEEDS_GCC = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the source distribution, once for all processes that run tests."""
    together = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # it has a directory in that of the whole run
        together = together.parent
    place = together / "distributions"
    with file_lock(together / "distributions.lock"):
        if not place.exists():
            build_without_git(tmp_path_factory.mktemp("built")).rename(place)
    return place


def build_without_git(place: Path) -> Path:
    """Build both from what git would archive, as a release does, in an environment in which git fails."""
    source = copied(place / "source")
    git = place / "programs" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\nexit 1\n")
    git.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(git.parent), prepend=os.pathsep)
        build(source, place, EPOCH)
    return place


def copied(source: Path) -> Path:
    """Copy the sources to a directory, and return it."""
    pytest.importorskip("setuptools")
    for name in sources():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((PROJECT / name).read_bytes())
    return source


def sources() -> list[str]:
    """Return the files that git tracks or would track; in an unpacked source distribution, all files."""
    if not (PROJECT / ".git").exists():
        paths = (path for path in PROJECT.rglob("*") if path.is_file() and path.suffix != ".so")  # built since
        return [path.relative_to(PROJECT).as_posix() for path in paths]
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=PROJECT, capture_output=True, check=True).stdout.split(b"\0")
    return [os.fsdecode(name) for name in names if name and (PROJECT / os.fsdecode(name)).is_file()]


@pytest.fixture
def wheel(built: Path) -> Path:
    """Return the wheel."""
    return next(built.glob("*.whl"))


def test_a_source_distribution_can_be_checked_and_tested(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    lacking = {name for name in sources() if not name.startswith(".git/")} - names
    assert not lacking


def test_wheel_holds_code_plugins_hooks_and_type_marker(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "git_theta_ext/cli/main.py",
        "git_theta_ext/docs/merging.md",
        "git_theta_ext/py.typed",
        "git_theta_ext/hooks/pre-push",
        "git_theta_plugins/formats/safetensors.py",
        "git_theta_plugins/remotes/directory.py",
    } <= names


@NEEDS_GCC
def test_wheel_brings_the_compiled_kernels(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    assert sorted(name.partition(".")[0] for name in names) == [
        "git_theta_ext/coding/_blake3",
        "git_theta_ext/coding/_factors",
        "git_theta_ext/coding/_huffman",
        "git_theta_ext/coding/_kernels",
        "git_theta_ext/coding/_literals",
        "git_theta_ext/coding/_merges",
        "git_theta_ext/coding/_residuals",
        "git_theta_ext/coding/_sha256",
    ]


def test_another_directory_umask_and_time_zone_build_the_same_bytes(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    before = os.umask(0o077)
    try:
        build(copied(tmp_path / "elsewhere" / "source"), tmp_path, EPOCH)
    finally:
        os.umask(before)
    names = [path.name for path in built.iterdir() if path.is_file()]
    assert len(names) == 2
    assert [name for name in names if (built / name).read_bytes() != (tmp_path / name).read_bytes()] == []


@NEEDS_GCC
def test_kernels_name_no_directory_of_the_machine_that_built_them(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    kernels = [archive.read(name) for name in archive.namelist() if name.endswith(".so")]
    places = [f"{place}/".encode() for place in (tempfile.gettempdir(), sys.base_prefix, "/usr/include")]
    assert not any(place in kernel for kernel in kernels for place in places)


def test_wheel_holds_every_page_and_completion_that_commands_show(wheel: Path) -> None:
    shown = [path for path in (PROJECT / "docs").rglob("*") if path.suffix == ".md" or "completion" in path.parts]
    needed = {f"git_theta_ext/docs/{path.relative_to(PROJECT / 'docs').as_posix()}" for path in shown if path.is_file()}
    assert needed
    assert needed <= set(zipfile.ZipFile(wheel).namelist())


def test_wheel_brings_the_man_pages_and_the_completions(wheel: Path) -> None:
    names = [name.partition(".data/data/")[2] for name in zipfile.ZipFile(wheel).namelist() if ".data/data/" in name]
    assert set(names) == {
        "share/bash-completion/completions/git-theta",
        "share/fish/vendor_completions.d/git-theta.fish",
        "share/fish/vendor_conf.d/git-theta.fish",
        "share/man/man1/git-theta.1",
        *(f"share/man/man1/git-theta-{name}.1" for name in command_names()),
        "share/zsh/site-functions/_git-theta",
    }


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"git_theta_ext", "git_theta_plugins"}


@pytest.mark.parametrize(
    "name", ["demo", "test", "check", "bench", "docs", "docs-site", "pictures", "smoke", "release", "matrix"]
)
def test_script_is_executable_and_parses(name: str) -> None:
    script = PROJECT / "scripts" / name
    assert script.stat().st_mode & stat.S_IXUSR
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_ci_runs_checks_and_tests() -> None:
    text = (PROJECT / ".ci" / "run").read_text()
    assert "scripts/check" in text
    assert "scripts/test" in text
