"""Install the example plug-ins once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package of the example plug-ins with pip, and return the directory that it is in."""
    pytest.importorskip("pip")
    pytest.importorskip("setuptools")
    place = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(Path(__file__).parent, tmp_path_factory.mktemp("source") / "source")  # pip builds in it
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(place), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place
