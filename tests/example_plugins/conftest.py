"""Install the example plug-ins once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from git_theta_ext import registry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package of the example plug-ins with pip, and return the directory that it is in."""
    # Not imported: pip imports distutils, which setuptools then refuses to replace.
    if missing := [name for name in ("pip", "setuptools") if find_spec(name) is None]:
        pytest.skip(f"no {' and no '.join(missing)} in this environment")
    place = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(Path(__file__).parent, tmp_path_factory.mktemp("source") / "source")  # pip builds in it
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(place), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module", autouse=True)
def entry_points(installed: Path) -> Iterator[None]:
    """Let this process find what is installed."""
    caches = (registry._find, registry._entry_points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(installed)
        for function in caches:
            function.cache_clear()
        yield
        for function in caches:
            function.cache_clear()
    for name in [name for name in sys.modules if name.startswith("example_plugins")]:
        del sys.modules[name]
