"""What an installation contains."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import git_theta_ext

PROJECT = Path(git_theta_ext.__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the source distribution from what git would archive, as a release does."""
    pytest.importorskip("setuptools")
    place = tmp_path_factory.mktemp("built")
    source = place / "source"
    for name in sources():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((PROJECT / name).read_bytes())
    build = "import sys, setuptools.build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"
    done = subprocess.run(
        [sys.executable, "-c", build, str(place)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return place


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


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_wheel_brings_the_compiled_kernels(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    assert sorted(name.partition(".")[0] for name in names) == [
        "git_theta_ext/coding/_factors",
        "git_theta_ext/coding/_kernels",
        "git_theta_ext/coding/_merges",
        "git_theta_ext/coding/_residuals",
    ]


def test_wheel_brings_the_man_page_and_the_completions(wheel: Path) -> None:
    names = [name.partition(".data/data/")[2] for name in zipfile.ZipFile(wheel).namelist() if ".data/data/" in name]
    assert sorted(names) == [
        "share/bash-completion/completions/git-theta",
        "share/fish/vendor_completions.d/git-theta.fish",
        "share/fish/vendor_conf.d/git-theta.fish",
        "share/man/man1/git-theta.1",
        "share/zsh/site-functions/_git-theta",
    ]


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"git_theta_ext", "git_theta_plugins"}


@pytest.mark.parametrize(
    "name", ["demo", "test", "check", "bench", "docs", "docs-site", "pictures", "smoke", "release"]
)
def test_script_is_executable_and_parses(name: str) -> None:
    script = PROJECT / "scripts" / name
    assert script.stat().st_mode & stat.S_IXUSR
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_ci_runs_checks_and_tests() -> None:
    text = (PROJECT / ".ci" / "run").read_text()
    assert "scripts/check" in text
    assert "scripts/test" in text
