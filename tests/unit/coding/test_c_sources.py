"""The C sources compile without warnings, also for processors without the instructions that some functions have."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest

import git_theta_ext.coding

DIRECTORY = Path(git_theta_ext.coding.__file__).parent
SOURCES = sorted(DIRECTORY.glob("_*.c"))
WARNINGS = ("-Wall", "-Wextra", "-Werror")
MEANT = ("-Wno-unused-parameter", "-Wno-type-limits")
"""Functions that stand in for those with vectors do nothing, and some comparisons are for wider elements only."""


@pytest.mark.parametrize("compiler", ["gcc", "aarch64-linux-gnu-gcc"])
@pytest.mark.parametrize("options", [(), ("-U__linux__", "-U__gnu_linux__")], ids=["", "without vectors"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_source_compiles_without_warnings(source: Path, compiler: str, options: tuple[str, ...]) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    include = f"-I{sysconfig.get_path('include')}"
    words = [compiler, "-fsyntax-only", "-O1", *WARNINGS, *MEANT, *options, include, str(source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def included(source: Path) -> set[str]:
    """Return the names of the headers in the directory of a source that it includes, or that these include."""
    names = set(re.findall(r'^#include "(.*)"$', source.read_text(encoding="utf-8"), re.MULTILINE))
    return names.union(*(included(source.with_name(name)) for name in names))


def test_a_changed_header_builds_the_modules_again_that_include_it(monkeypatch: pytest.MonkeyPatch) -> None:
    depends: dict[str, set[str]] = {}

    def extension(_name: str, sources: list[str], *, depends: list[str], **_: object) -> tuple[str, set[str]]:
        return Path(sources[0]).name, {Path(header).name for header in depends}

    def setup(*, ext_modules: list[tuple[str, set[str]]], **_: object) -> None:
        depends.update(ext_modules)

    # The real one cannot be imported after some test has imported the distutils of the standard library.
    monkeypatch.setitem(sys.modules, "setuptools", SimpleNamespace(Extension=extension, setup=setup))
    monkeypatch.chdir(Path(__file__).parents[3])  # also if the package is elsewhere, as for sanitizers
    runpy.run_path("setup.py")
    assert depends == {source.name: included(source) for source in SOURCES}
