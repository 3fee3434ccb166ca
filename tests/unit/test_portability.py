"""Every module can be imported on systems that lack what only POSIX has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SYSTEMS = Path(__file__).parents[1] / "systems"
IMPORT_ALL = """
import importlib, pkgutil, sys
import git_theta_ext, git_theta_plugins

assert sys.modules["fcntl"] is None, "it was not taken away"
names = [
    module.name
    for package in (git_theta_ext, git_theta_plugins)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_is_imported_without_what_windows_lacks() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SYSTEMS), "GIT_THETA_TEST_WITHOUT": "posix"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 400
