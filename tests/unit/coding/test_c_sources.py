"""The C sources compile without warnings, also for processors without the instructions that some functions have."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import git_theta_ext.coding

SOURCES = sorted(Path(git_theta_ext.coding.__file__).parent.glob("_*.c"))
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
