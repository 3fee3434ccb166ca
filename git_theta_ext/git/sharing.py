"""Permissions of the files that we write into a repository: ``core.sharedRepository`` (git-config(1))."""

from __future__ import annotations

import os

from git_theta_ext.errors import ConfigError

_NAMES = {"umask": 0, "false": 0, "no": 0, "off": 0, "group": 1, "true": 1, "yes": 1, "on": 1, "": 0}
_NAMES |= {"all": 2, "world": 2, "everybody": 2}
_ADDED = (0, 0o070, 0o075)
_OWNER = 0o600


def share(value: str | None) -> None:
    """Give the files and directories that this process creates from now on the permissions that git gives its own.

    Directories inherit their group from the parent directory, if ``git init --shared`` has set that bit. The umask
    applies to all files, including those of SQLite and of the git commands that we run.

    Args:
        value: Value of ``core.sharedRepository``; None is a key without a value, which is true.

    Raises:
        ConfigError: Git does not accept the value.
    """
    word = "true" if value is None else value.strip().lower()
    try:
        number = _NAMES[word] if word in _NAMES else int(word, 8)
    except ValueError:
        number = -1
    if number < 0 or (number >= len(_ADDED) and number & _OWNER != _OWNER):
        raise ConfigError(
            f"core.sharedRepository has the value {value!r}, which git does not accept",
            hint="git config core.sharedRepository group",
        )
    if number >= len(_ADDED):  # an octal mode; those who can read a directory can also enter it
        os.umask(0o777 & ~(number | (number & 0o444) >> 2))
    elif number:
        mask = os.umask(0)
        os.umask(mask & ~_ADDED[number])
