"""Print the recipe with which conda-forge builds a released source distribution: ``_conda_recipe.py SDIST``."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[1] / "recipe" / "recipe.yaml"
_URL = "https://pypi.org/packages/source/g/git-theta-ext/git_theta_ext-${{ version }}.tar.gz"
_SOURCE = re.compile(r"^source:\n(?:  .*\n)+", re.MULTILINE)


def released(sdist: Path) -> str:
    """Return the recipe of the repository with the source distribution as the source."""
    source = f"source:\n  url: {_URL}\n  sha256: {hashlib.sha256(sdist.read_bytes()).hexdigest()}\n"
    text, count = _SOURCE.subn(source, RECIPE.read_text(encoding="utf-8"))
    assert count == 1
    return text


if __name__ == "__main__":
    print(released(Path(sys.argv[1])), end="")
