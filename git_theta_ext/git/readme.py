"""The section of a README for people who clone a repository without git theta."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.util.files import replace_content, reporting_os_errors, reporting_read_errors

if TYPE_CHECKING:
    from pathlib import Path

_DEFAULT = "README.md"
_MARK = "<!-- git theta: how to get the models -->"
_SECTION = f"""{_MARK}
## Get the models

The models in this repository are versioned with git theta. In a clone without it, they are small text files that
begin with `git-theta manifest`. To get the models, install git theta, from a package index or a directory that has
its wheel, and let it write them:

```sh
pip install git-theta-ext
git theta install
git theta checkout
```
"""


def readme_of(folder: Path) -> Path:
    """Return the README in Markdown of a folder, existing or not."""
    names = sorted(path for path in folder.iterdir() if path.name.lower() == _DEFAULT.lower())
    return names[0] if names else folder / _DEFAULT


def has_section(readme: Path) -> bool:
    """Return whether a README has the section."""
    try:
        return _MARK.encode() in readme.read_bytes()
    except FileNotFoundError:
        return False


def add_section(readme: Path) -> None:
    """Append the section to a README, which is created if there is none.

    Raises:
        StoreError: The file cannot be written; it is unchanged.
    """
    with reporting_read_errors(readme):
        before = readme.read_bytes() if readme.exists() else b""
    with reporting_os_errors(readme):
        gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
        replace_content(readme, before + gap + _SECTION.encode())
